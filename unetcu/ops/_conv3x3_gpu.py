"""conv3x3 on a GPU: which kernel, and how it is launched.

All forms of a kernel give right results for every shape they admit; which one is taken depends on
the shape and the format alone, and so do the order of additions and the bits.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from ..device import Gpu
from ..kernel import FORMATS, constants

SLOTS = 132  # multiprocessors of an H200: as many blocks should there be, or more


class Variant(NamedTuple):
    """One form of a kernel. The first in the table that fits is taken."""

    what: str  # forward, backward_x or backward_w
    stem: str
    suffix: str  # of the entry point
    prefix: str  # of its tile sizes among the file's constants
    fits: Callable[[str, int, int, int], bool]  # of the format, C, K, and how many tiles of this


def _aligned(form: str, C: int, K: int) -> bool:
    """Whether tensor cores can do it: they load 16 bytes at a time."""
    piece = {"fp32": 0, "tf32": 4, "tf32x3": 4}.get(form, 8)
    return piece > 0 and C % piece == 0 and K % piece == 0


MMA, MMA_W, FFMA = "conv3x3_mma", "conv3x3_mma_w", "conv3x3"
VARIANTS = (
    Variant("forward", MMA, "_narrow", "NARROW", lambda f, C, K, n: _aligned(f, C, K) and K <= 64),
    Variant("forward", MMA, "", "WIDE", lambda f, C, K, n: _aligned(f, C, K) and n >= SLOTS),
    Variant("forward", MMA, "_low", "LOW", lambda f, C, K, n: _aligned(f, C, K)),
    Variant("backward_x", MMA, "_narrow", "NARROW", lambda f, C, K, n: _aligned(f, C, K) and C <= 64),
    Variant("backward_x", MMA, "", "WIDE", lambda f, C, K, n: _aligned(f, C, K) and n >= SLOTS),
    Variant("backward_x", MMA, "_low", "LOW", lambda f, C, K, n: _aligned(f, C, K)),
    Variant("backward_w", MMA_W, "", "W", lambda f, C, K, n: _aligned(f, C, K)),
    Variant("forward", FFMA, "_narrow", "NARROW", lambda f, C, K, n: K <= 32),
    Variant("forward", FFMA, "", "WIDE", lambda f, C, K, n: True),
    Variant("backward_x", FFMA, "_narrow", "NARROW", lambda f, C, K, n: C <= 32),
    Variant("backward_x", FFMA, "", "WIDE", lambda f, C, K, n: True),
    Variant("backward_w", FFMA, "_few", "W_FEW", lambda f, C, K, n: C <= 4 and K > 16),
    Variant("backward_w", FFMA, "_narrow", "W_NARROW", lambda f, C, K, n: C <= 16 or K <= 32),
    Variant("backward_w", FFMA, "", "W_WIDE", lambda f, C, K, n: True),
)
