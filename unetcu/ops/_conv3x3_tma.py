"""conv3x3 on Hopper: launches of the kernels whose images and filters are copied by TMA.

An image is seen as two, of its rows of even and of odd number, because a copy takes every second
row (kernels/bands.cuh); the filters as (K, C, 9), the fastest index first.
"""

from collections.abc import Iterable
from typing import Any

from ..device import Gpu
from ..device.boxes import ROW, Boxes, boxes
from ..ops._conv3x3_variants import MULTIPROCESSORS, Tile
from ..ops._fused import apart

BANDS = 8
HALO = 2


def rows(image: Any, width: int, H: int, W: int) -> tuple[Boxes, Boxes]:
    """The even and the odd rows of the centre, H x W, of an image (N,Hs,Ws,C), in boxes of `width`
    columns; even twice, if there is but one."""
    N, Hs, Ws, C = image.shape
    strides, box = (1, 2 * Ws * C, C, Hs * Ws * C), (ROW, BANDS, width, 1)
    start = ((Hs - H) // 2 * Ws + (Ws - W) // 2) * C
    even = boxes(image, (C, (H + 1) // 2, W, N), strides, box, start)
    odd = boxes(image, (C, H // 2, W, N), strides, box, start + Ws * C) if H > 1 else even
    return even, odd


def filters(w: Any, box: int, first: int, last: int) -> Boxes:
    """The filters of channels `first` to `last`, in boxes of `box` channels of 64 filters."""
    _, _, C, K = w.shape
    return boxes(w, (K, last - first, 9), (1, K, C * K), (ROW, box, 1), first * K)


def forward(where: Gpu, tile: Tile, x: Any, w: Any, given: tuple, flags: tuple) -> None:
    """Launch it; given: b and what is written; flags: relu, pool."""
    (image, skip), (S, _, _) = apart(x)
    (N, H, W, C), K = x.shape, w.shape[3]
    width = tile.w + HALO
    here = *rows(image, width, H, W), filters(w, ROW, S, C)
    there = (*rows(skip, width, H, W), filters(w, ROW, 0, S)) if S else here
    grid = min(tile.count((N, H - 2, W - 2, K)), MULTIPROCESSORS)
    sizes = N, H, W, C, K, S, *flags
    where.launch(
        tile.unit, tile.entry, grid, tile.threads, *there, *here, *given, *sizes, shared=tile.shared
    )


def backward_x(where: Gpu, tile: Tile, dy: Any, w: Any, given: tuple, sizes: tuple) -> None:
    """Launch it; given: the gate and what is written; sizes: N, H, W, C, K and the last ones."""
    N, H, W, C = sizes[:4]
    here = *rows(dy, tile.w + HALO, H - 2, W - 2), filters(w, tile.k, 0, C)
    grid = min(tile.count((N, H, W, C)), MULTIPROCESSORS)
    where.launch(
        tile.unit, tile.entry, grid, tile.threads, *here, *given, *sizes, shared=tile.shared
    )


def backward_w(where: Gpu, tile: Tile, slabs: int, dy: Any, x: Any, parts: Iterable[Any]) -> None:
    """Launch it; it writes sums of `slabs` slabs, or the gradients themselves, to parts."""
    (image, skip), (S, _, _) = apart(x)
    (N, H, W, C), K = x.shape, dy.shape[3]
    width = tile.w + HALO
    here = rows(image, width, H, W)
    there = rows(skip, width, H, W) if S else here
    slopes = rows(dy, tile.w, H - 2, W - 2)
    grid = slabs, -(-S // tile.c) + -(-(C - S) // tile.c), -(-K // tile.k)
    sizes = N, H, W, C, K, S
    where.launch(
        tile.unit, tile.entry, grid, tile.threads, *there, *here, *slopes, *parts, *sizes,
        shared=tile.shared,
    )  # fmt: skip
