"""What a launch is given, checked against the signature in the .cu file."""

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from ..errors import KernelError
from ..kernel import FORMATS, Param, entries, formats
from .boxes import Boxes, of_boxes

GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
ALIGNMENT = 16  # bytes: kernels may load four floats at once


def signature(unit: str, entry: str) -> tuple[Param, ...]:
    """The parameters of an entry point; KernelError if there is none of that name."""
    known = entries(unit)
    if entry not in known:
        raise KernelError(f"{unit} has no kernel {entry}; it has {', '.join(known) or 'none'}")
    return known[entry]


def unit_for(stem: str, entry: str, args: tuple) -> str:
    """The unit whose `real` is the type of the arrays given for it."""
    given = zip(signature(stem, entry), args, strict=False)  # their number is checked later
    kind = next((str(a.dtype) for p, a in given if p.real and hasattr(a, "dtype")), "float32")
    form = next((f for f, dtype in FORMATS.items() if dtype == kind), "fp32")
    return formats(stem).get(form, stem)


def dimensions(
    entry: str, what: str, given: int | Sequence[int], limits: tuple[int, ...], most: float = inf
) -> tuple[int, int, int]:
    """`given` as three sizes; KernelError if one is outside 1 to its limit, or if their product is
    larger than `most`."""
    sizes = (given,) if isinstance(given, int) else tuple(given)
    full = (*sizes, 1, 1, 1)[:3]
    if len(sizes) > 3 or any(not 1 <= n <= most for n, most in zip(full, limits, strict=True)):
        raise KernelError(f"{entry}: {what} {sizes} is outside 1 to {limits}")
    if prod(full) > most:
        raise KernelError(f"{entry}: a {what} has at most {most} threads, not {full}")
    return full[0], full[1], full[2]


def number(entry: str, p: Param, value: Any) -> np.generic:
    """A Python number as the C type; KernelError if it does not fit."""
    kind = np.dtype(p.dtype)
    if not isinstance(value, int | float | np.integer | np.floating):
        raise KernelError(f"{entry}: {p.name} must be a number, got {type(value).__name__}")
    if kind.kind != "f":
        limits = np.iinfo(p.dtype)
        if not (limits.min <= value <= limits.max and value == int(value)):  # NaN is no number
            raise KernelError(f"{entry}: {p.name} = {value} is no {p.dtype}")
        value = int(value)
    return kind.type(value)


def check_array(where: Any, unit: str, name: str, p: Param, given: Any) -> None:
    """KernelError unless an array of the device, or the view of one, may be given for `p`."""
    if isinstance(given, Boxes) == p.pointer:
        raise KernelError(f"{name} must be {'an array' if p.pointer else 'a view (boxes)'}")
    a = of_boxes(given)
    if not where.owns(a):
        raise KernelError(f"{name} must be an array on {where.name}, got {type(a).__name__}")
    kind = p.dtype if p.pointer else FORMATS.get(unit.partition(":")[2], a.dtype)
    if a.dtype != kind or not a.flags.c_contiguous:
        raise KernelError(
            f"{name} must be a contiguous {kind} array, "
            f"got {a.dtype} of shape {a.shape} with strides {a.strides}"
        )
    if where.address(a) % ALIGNMENT:
        raise KernelError(f"{name} does not start at a multiple of 16 bytes")
