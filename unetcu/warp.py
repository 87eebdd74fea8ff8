"""Training tiles cut out of images that lie on a GPU: the launches of kernels/warp.cu.

All images are there from the start, one behind the other, with their labels and weights. What a
batch needs beside them are the few numbers that were drawn for each tile: they are copied into one
small array, always the same, and the kernels fill arrays that are always the same, too, so that
the launches can be captured in a graph and replayed for the next tiles.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from .device import Gpu
from .kernel import constants


class Picture(NamedTuple):
    """One image to cut from: planes (C, H, W) float32, see `Warp`; labels (H, W) int32, weights
    (H, W) float32."""

    planes: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def needed(pixels: int, channels: int) -> int:
    """Bytes that images with so many pixels in all take on the GPU, with labels and weights."""
    return 4 * pixels * (channels + 2)


class Warp:
    """Cuts `count` tiles at a time, of `tile` pixels, with labels and weights of the central `out`.

    shapes: (H, W) of each picture; pictures: they themselves, asked for one by one and copied.
    exact: every tile is a crop, and the planes of the pictures are their gray values; otherwise
    they are coefficients of cubic splines (resample.coefficients). spline: (tile, 3) float64, the
    weights of the nodes along a line of the tile (resample.spline).

    x (count, tile, tile, C) float32, t (count, out, out) int32 and w (count, out, out) float32 are
    arrays of the device; each `cut` fills them anew.
    """

    def __init__(
        self,
        where: Gpu,
        shapes: Sequence[tuple[int, ...]],
        pictures: Iterable[Picture],
        channels: int,
        spline: np.ndarray,
        count: int,
        out: int,
        exact: bool,
    ) -> None:
        self.where, self.exact = where, exact
        self.tile, self.out, self.channels = len(spline), out, channels
        self._spline = where.put(np.asarray(spline, np.float64))
        self._upload(shapes, pictures)
        size = constants("warp")
        self._block = size["BLOCK"]
        self._numbers = where.empty((count, size["NUMBERS"] + 4 * channels), np.float64)
        parts = min(self._block, -(-(self.tile**2) // self._block))
        self._grid = parts, channels, count
        self._ranges = where.empty((count, channels, parts, 2))
        self._moments = where.empty((count, channels, parts, 2), np.float64)
        self.x = where.empty((count, self.tile, self.tile, channels))
        self.t = where.empty((count, out, out), np.int32)
        self.w = where.empty((count, out, out))

    def _upload(self, shapes: Sequence[tuple[int, ...]], pictures: Iterable[Picture]) -> None:
        """Put all pictures behind each other into arrays of the device."""
        areas = [height * width for height, width in shapes]
        starts = [0, *accumulate(areas)]
        places = [(start, *shape) for start, shape in zip(starts[:-1], shapes, strict=True)]
        where, pixels, c = self.where, starts[-1], self.channels
        self._places = where.put(np.array(places, np.int64))
        self._planes = where.empty((pixels * c,))
        self._labels = where.empty((pixels,), np.int32)
        self._weights = where.empty((pixels,))
        for start, area, p in zip(starts[:-1], areas, pictures, strict=True):
            here = slice(start, start + area)
            where.copy(p.planes.ravel(), self._planes[start * c : (start + area) * c])
            where.copy(p.labels.ravel(), self._labels[here])
            where.copy(p.weights.ravel(), self._weights[here])

    def cut(self, numbers: np.ndarray) -> None:
        """Fill x, t and w with the tiles of these numbers: (count, ...), a `numbers` each."""
        self.where.copy(numbers, self._numbers)
        self.launch()

    def launch(self) -> None:
        """The kernels alone: with the numbers that were copied last."""
        grid, block, where = self._grid, self._block, self.where
        pictures = self._planes, self._labels, self._weights, self._places, self._spline
        sizes = self.tile, self.out, int(self.exact)
        made = self.x, self.t, self.w, self._ranges
        where.launch("warp", "warp_cut", grid, block, *pictures, self._numbers, *made, *sizes)
        rest = self.x, self._moments, self.tile
        where.launch("warp", "warp_gamma", grid, block, self._numbers, self._ranges, *rest)
        rest = self._moments, self.x, self.tile
        where.launch("warp", "warp_gray", grid, block, self._numbers, self._ranges, *rest)


def numbers(picture: int, nodes: Any, gray: Any, key: Any) -> np.ndarray:
    """The numbers of one tile as warp.cu reads them, float64: nodes (2, 3, 3), gray (C, 4), the key
    of the noise (two uint64), and the number of its picture."""
    pieces = np.asarray(key, "<u8").view("<u4")
    return np.concatenate([np.ravel(nodes), [picture], pieces, np.ravel(gray)]).astype(np.float64)
