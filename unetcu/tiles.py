"""Overlap-tile geometry: which sizes the network accepts, and how tiles cover an image.

The convolutions of the U-Net are valid, so a tile of the output needs an input that is larger by
`border(depth)` pixels on each side (92 at depth 4); what lies outside the image is filled by
mirroring (paper, section 2 and figure 2). Integer arithmetic only, no pixels, except in `cut`.

Two choices make a tiled prediction equal the prediction of the whole image, bit for bit where every
sum is added in one order:
tiles start at multiples of 2**depth, so that the 2×2 windows of every pooling fall on the same
pixels as they do for the whole image; and the image's continuation by mirroring is a function of
the pixel's position alone, so that every tile sees the same pixels outside the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError, UsageError

Array = NDArray[Any]


def border(depth: int) -> int:
    """Pixels lost on each side by a U-Net with `depth` poolings: 8, 20, 44, 92 for 1, 2, 3, 4.

    Two convolutions lose 2 pixels a side; a level adds two before its pooling and two after its
    up-convolution, and doubles what is lost below it: b(0) = 2, b(d) = 2 b(d - 1) + 4.
    """
    if depth < 1:
        raise UsageError(f"depth {depth} is not a U-Net: give the number of poolings, at least 1")
    return 6 * 2**depth - 4


def _smallest(depth: int) -> int:
    """The smallest legal input size: the first of the progression with an output left."""
    step, lost = 2**depth, 2 * border(depth)
    return lost + 1 + (-5 - lost) % step


def valid_sizes(depth: int, lo: int, hi: int) -> range:
    """The legal input sizes in [lo, hi]: every pooling sees an even size, an output is left.

    With m pixels entering the lowest level the input has 2**depth (m + 4) - 4, so the legal sizes
    are an arithmetic progression of step 2**depth (572 = 16 (32 + 4) - 4 in the paper's figure 1).
    """
    first = max(_smallest(depth), lo + (-4 - lo) % 2**depth)
    return range(first, hi + 1, 2**depth)


def nearest_valid(size: int, depth: int) -> tuple[int, int]:
    """The nearest legal input sizes (not above, not below) `size`; both are `size` if it is legal.

    Below the smallest legal size: the two smallest.
    """
    first, step = _smallest(depth), 2**depth
    if size < first:
        return first, first + step
    below = size - (size - first) % step
    return below, below if below == size else below + step


def output_size(size: int, depth: int) -> int:
    """Output height or width for an input of `size` pixels (572 → 388 at depth 4).

    Raises ShapeError, naming the two nearest legal sizes, if `size` is not legal.
    """
    below, above = nearest_valid(size, depth)
    if below != size:
        raise ShapeError(
            f"an input of {size} pixels does not fit a U-Net of depth {depth}: "
            f"the nearest legal sizes are {below} and {above}"
        )
    return size - 2 * border(depth)


@dataclass(frozen=True)
class Tile:
    """Rows [y0, y1) and columns [x0, x1) of the image are taken from this tile.

    The tile's output starts at (y0, x0), both multiples of 2**depth, so its share of the image is
    output[: y1 - y0, : x1 - x0]; its input starts at (y0 - border, x0 - border).
    """

    y0: int
    y1: int
    x0: int
    x1: int


@dataclass(frozen=True)
class Layout(Sequence[Tile]):
    """The tiles of one image, row by row; together they give every pixel exactly once."""

    height: int
    width: int
    tile_in: int
    tile_out: int
    stride: int

    def _along(self, size: int) -> int:
        """Tiles along one axis: all but the last give `stride` pixels, the last up to tile_out."""
        return 1 + max(0, -(-(size - self.tile_out) // self.stride))

    def __len__(self) -> int:
        return self._along(self.height) * self._along(self.width)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tile]: ...
    def __getitem__(self, index: int | slice) -> Tile | list[Tile]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        rows, columns = self._along(self.height), self._along(self.width)
        row, column = divmod(index % len(self), columns)
        y0, x0 = row * self.stride, column * self.stride
        y1 = self.height if row == rows - 1 else y0 + self.stride
        x1 = self.width if column == columns - 1 else x0 + self.stride
        return Tile(y0, y1, x0, x1)


def layout(height: int, width: int, tile_out: int, depth: int) -> Layout:
    """Cover an image of height × width pixels with tiles of tile_out × tile_out output pixels.

    A function of these four numbers alone, never of memory or threads. An image that is smaller
    than the tile gets one tile of the smallest legal size that covers it. The stride is the
    largest multiple of 2**depth not above tile_out (384 for the paper's 388).

    Raises ShapeError if tile_out is no output size of the network, UsageError if the image needs
    several tiles and tile_out is below 2**depth, the smallest stride.
    """
    if height < 1 or width < 1:
        raise ShapeError(f"an image of {height} × {width} pixels has nothing to predict")
    tile_in = tile_out + 2 * border(depth)
    if nearest_valid(tile_in, depth)[0] != tile_in:
        below, above = (size - 2 * border(depth) for size in nearest_valid(tile_in, depth))
        raise ShapeError(
            f"no tile of a U-Net of depth {depth} has {tile_out} output pixels: "
            f"the nearest output sizes are {below} and {above}"
        )
    covering = valid_sizes(depth, max(height, width) + 2 * border(depth), tile_in)
    if covering:
        tile_in = covering[0]
        tile_out = output_size(tile_in, depth)
    elif tile_out < 2**depth:
        raise UsageError(
            f"tiles of {tile_out} output pixels cannot start at multiples of {2**depth}: "
            f"give an input tile of at least {nearest_valid(tile_in, depth)[0] + 2**depth} pixels"
        )
    stride = max(1, tile_out >> depth) << depth
    return Layout(height, width, tile_in, tile_out, stride)


def mirror(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices of the pixels that stand at positions [start, stop) of a line of `size` pixels.

    Outside [0, size) the line is continued by reflection that does not repeat the edge pixel
    (…, 2, 1, 0, 1, 2, …), again and again, so any overhang is fine; a line of one pixel repeats it.
    """
    period = max(1, 2 * (size - 1))
    index = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(index, period - index) if size > 1 else index


def cut(
    read_window: Callable[[int, int, int, int], Array],
    height: int,
    width: int,
    y0: int,
    x0: int,
    tile_in: int | tuple[int, int],
    border: int,
) -> Array:
    """The input of the tile whose output starts at (y0, x0): (tile_in, tile_in, C), contiguous.

    tile_in: pixels, or (rows, columns) where they differ.
    read_window(y0, y1, x0, x1) returns those rows and columns of the height × width image, (y1-y0,
    x1-x0, C) of any dtype; it is called once, for the smallest window that holds the needed pixels.
    """
    high, wide = (tile_in, tile_in) if isinstance(tile_in, int) else tile_in
    rows = mirror(y0 - border, y0 - border + high, height)
    columns = mirror(x0 - border, x0 - border + wide, width)
    top, left = int(rows.min()), int(columns.min())
    window = read_window(top, int(rows.max()) + 1, left, int(columns.max()) + 1)
    if window.shape[:2] == (high, wide) and rows[0] == top and columns[0] == left:
        return np.ascontiguousarray(window)
    return np.take(np.take(window, rows - top, axis=0), columns - left, axis=1)
