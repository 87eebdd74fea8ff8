"""The warp of a tile: from its 3×3 nodes to positions in the image, and what the image is there.

Labels are those of the nearest pixel, gray values those of the cubic spline through the image;
both are continued by mirror images. kernels/warp.cu does the same on a GPU.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tiles import mirror

Array = NDArray[Any]

# The prefilter of a cubic spline forgets a pixel by 0.268 per step: 12 steps leave 1e-7.
_REACH = 12


@lru_cache(maxsize=8)
def spline(pixels: int) -> NDArray[np.float64]:
    """Weights (pixels, 3) of three evenly spaced nodes, the outer two on the first and last pixel.

    The natural cubic spline through values v at -1, 0, 1: linear interpolation plus
    (a³ - a) / 4 · (v₋₁ - 2 v₀ + v₁) with a = 1 - |p|, so that the curvature is 0 at both ends.
    """
    p = np.linspace(-1, 1, pixels) if pixels > 1 else np.zeros(1)
    a = 1 - np.abs(p)
    linear = np.stack([np.maximum(-p, 0), a, np.maximum(p, 0)], axis=1)
    weights: NDArray[np.float64] = linear + np.outer((a**3 - a) / 4, [1, -2, 1])
    weights.setflags(write=False)
    return weights


def positions(nodes: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Source rows and columns of every pixel of the tile, (2, pixels, pixels).

    einsum, not @: the products are tiny, and BLAS may round differently with more threads.
    """
    weights = spline(pixels)
    rows = np.einsum("ia,kab->kbi", weights, nodes)
    found: NDArray[np.float64] = np.einsum("kbi,bj->kij", rows, np.ascontiguousarray(weights.T))
    return found


def nearest(source: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Row and column index of the pixel nearest to each source position."""
    index = np.rint(source).astype(np.intp)
    lows = index.min(axis=(1, 2))
    highs = index.max(axis=(1, 2)) + 1
    return tuple(
        mirror(int(low), int(high), size)[along - low]
        for along, low, high, size in zip(index, lows, highs, shape, strict=True)
    )


def interpolate(image: Array, source: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cubic spline interpolation at the source positions, (C, n, n); reads a window only.

    Mirroring the coefficients of a spline mirrors the spline, so only pixels of the image are
    filtered, then laid out with their mirror images around them.
    """
    from scipy.ndimage import map_coordinates

    low = np.floor(source.min(axis=(1, 2))).astype(int) - _REACH
    high = np.ceil(source.max(axis=(1, 2))).astype(int) + _REACH + 1
    rows = mirror(low[0], high[0], image.shape[0])
    columns = mirror(low[1], high[1], image.shape[1])
    top, left = rows.min(), columns.min()
    window = image[top : rows.max() + 1, left : columns.max() + 1]
    source = source - low[:, None, None]
    planes = np.empty((image.shape[2], *source.shape[1:]), np.float32)
    for channel, plane in enumerate(planes):
        filtered = coefficients(window[..., channel])
        laid_out = filtered[rows - top][:, columns - left]
        map_coordinates(laid_out, source, output=plane, order=3, mode="mirror", prefilter=False)
    return planes


def coefficients(plane: Array) -> NDArray[np.float32]:
    """Of the cubic spline through the pixels of a plane (H, W): what is weighed in between."""
    from scipy.ndimage import spline_filter

    filtered: NDArray[np.float32] = spline_filter(plane, 3, output=np.float32, mode="mirror")
    return filtered
