"""Launches of kernels/ladder: 3x3 convolution from one thread an output upwards, one idea a rung.

Every rung has the same signature and gives the same results; see kernels/ladder/README.md.
"""

from typing import Any

from ..autograd import Tensor
from ..device import Gpu
from ..kernel import constants, stems
from ..ops.conv3x3 import Conv3x3, conv3x3


def rungs() -> list[str]:
    """The rungs from the lowest: "conv3x3_1_naive", "conv3x3_2_tiled", ..."""
    return [s.removeprefix("ladder/") for s in stems() if s.startswith("ladder/")]


def convolve(where: Gpu, rung: str, x: Any, w: Any, b: Any, relu: bool = False) -> Any:
    """y = act(b + x * w), a new float32 array, computed by a rung's kernel or the op "conv3x3".

    x (N,H,W,C), w (3,3,C,K), b (K): float32 arrays on the same device; y is (N,H-2,W-2,K).
    Raises ShapeError where they do not fit together.
    """
    if rung == "conv3x3":  # the product's own, above the last rung
        return conv3x3(*(Tensor.wrap(a, where) for a in (x, w, b)), relu=relu).data
    y = where.empty(Conv3x3.shape(x.shape, w.shape, b.shape))
    grid, threads = launch_of(rung, y.shape)
    sizes = *x.shape, w.shape[3], int(relu)
    shared = constants(f"ladder/{rung}").get("SHARED", 0)
    where.launch(f"ladder/{rung}", rung, grid, threads, x, w, b, y, *sizes, shared=shared)
    return y


def launch_of(rung: str, y: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """(grid, threads a block) that cover an output of shape y (N,P,Q,K)."""
    size = constants(f"ladder/{rung}")
    N, P, Q, K = y
    if "TILE_K" not in size:  # a thread an element
        return (-(-N * P * Q * K // size["THREADS"]),), size["THREADS"]
    tiles = -(-P // size["TILE_H"]) * -(-Q // size["TILE_W"])
    return (tiles, -(-K // size["TILE_K"]), N), size["THREADS"]
