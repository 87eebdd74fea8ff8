"""Overlap-tile inference (section 2, figure 2): images of any size, tile by tile, without seams.

Every tile's input is its output plus the border that valid convolutions cost; outside the image
lies its mirror image. Tiles start at multiples of 2^depth, so that each sees what the whole image
would show it. In the exact form (device/cpu.py) every sum is added in one order, and the stitched
result equals, bit for bit, the prediction of the whole image in one piece. In the fast form, the
default, the last digits of a pixel depend on where it lies in its tile.
"""

import functools
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .autograd import Tensor, no_grad
from .device import Cpu, cpu, device
from .errors import UsageError
from .tiles import Tile, border, cut, layout, mirror, valid_sizes
from .unet import UNet

Array = NDArray[np.float32]
ReadWindow = Callable[[int, int, int, int], Array]

VIEWS = ("none", "mirror", "rot7")
ROTATIONS = [2 * math.pi * k / 7 for k in range(1, 7)]  # and the image as it is
SAMPLE = 100  # output pixels, high and wide, on which the two forms are compared


def probabilities(
    net: UNet,
    read_window: ReadWindow,
    height: int,
    width: int,
    tile_out: int,
    tta: str = "none",
    progress: Callable[[int], object] = int,
    exact: bool = False,
) -> Iterator[tuple[int, Array]]:
    """Yield (y0, p): bands of rows from the top down, p (rows, width, classes) float32.

    read_window(y0, y1, x0, x1) -> (y1-y0, x1-x0, C) float32, what the network sees of the image.
    tile_out: output pixels of a tile; fixes the layout and, in the exact form, nothing else. tta:
    mean over views of each tile: "none"; "mirror", the 8 flips and quarter turns; "rot7", 7
    rotations by multiples of 360/7 degrees (section 4 averages 7 rotated versions). One band is in
    memory at a time. progress(1) is called after each tile. exact: the bits of the whole image in
    one piece, whatever tile_out is (not of "rot7").
    """
    if tta not in VIEWS:
        raise UsageError(f"--tta {tta} is not known: give one of {', '.join(VIEWS)}")
    tiles = layout(height, width, tile_out, net.depth)
    band: Array | None = None
    for tile in tiles:
        if band is None:
            band = np.empty((tile.y1 - tile.y0, width, net.classes), np.float32)
        x = _input(net.depth, read_window, height, width, tile)
        if tta == "rot7":
            p = _rotated_mean(net, x, read_window, height, width, tile, exact)
        else:
            p = (_mirrored_mean if tta == "mirror" else softmax)(net, x, exact)
        band[:, tile.x0 : tile.x1] = p[: tile.y1 - tile.y0, : tile.x1 - tile.x0]
        progress(1)
        if tile.x1 == width:
            yield tile.y0, band
            band = None


def largest_input(depth: int, tile_out: int, tta: str = "none") -> int:
    """The height and width of the largest network input that a tile of the layout needs."""
    lost, step = border(depth), 2**depth
    if tta != "rot7":
        return tile_out + 2 * lost
    longest = max(abs(math.cos(angle)) + abs(math.sin(angle)) for angle in ROTATIONS)
    need = math.ceil((tile_out - 1) * longest) + step + 2 + 2 * lost
    return valid_sizes(depth, need, need + step)[0]


def whole(net: UNet, image: Array, tile_out: int, tta: str = "none", exact: bool = False) -> Array:
    """(H, W, C) float32 -> (H, W, classes): `probabilities` of an image that fits in memory."""
    height, width = image.shape[:2]

    def read(y0: int, y1: int, x0: int, x1: int) -> Array:
        return image[y0:y1, x0:x1]

    bands = probabilities(net, read, height, width, tile_out, tta, exact=exact)
    return np.concatenate([band for _, band in bands])


def difference(
    net: UNet, read_window: ReadWindow, height: int, width: int, tile_out: int
) -> float | None:
    """How far the fast form is from the exact one: the largest difference in probability.

    Measured on one tile of at most SAMPLE x SAMPLE output pixels, in the middle of the image,
    without views. None where there are no two forms: on a GPU, and where NumPy does the work.
    """
    if not isinstance(net.device, Cpu) or net.device.native(np.float32) is None:
        return None
    side = min(tile_out, SAMPLE)
    y0, x0 = (max(0, size - side) // 2 for size in (height, width))
    tile = Tile(y0, min(y0 + side, height), x0, min(x0 + side, width))
    x = _input(net.depth, read_window, height, width, tile)
    return float(np.abs(softmax(net, x) - softmax(net, x, exact=True)).max())


def softmax(net: UNet, x: Array, exact: bool = False) -> Array:
    """Class probabilities of one input tile: (h, w, C) -> (h - 2 border, w - 2 border, classes)."""
    with no_grad(), cpu.exact() if exact else nullcontext():
        net.parameters.round()  # a replay takes them as they are
        z = net.device.get(_forward(net)(x=x[None]))[0]
    p: Array = device("cpu").empty(z.shape)
    # Class by class: NumPy is ten times slower along an axis of two or three.
    np.subtract(z, _over_classes(np.maximum, z), out=p)
    np.exp(p, out=p)
    p /= _over_classes(np.add, p)
    return p


_captured: WeakKeyDictionary[UNet, Callable[..., Any]] = WeakKeyDictionary()


def _forward(net: UNet) -> Callable[..., Any]:
    """forward(x=...) -> logits, arrays of the device, captured for each shape of tiles; lives as
    long as the net."""
    if net not in _captured:
        ours = weakref.proxy(net)
        _captured[net] = net.device.captured(lambda x: ours(Tensor.wrap(x, ours.device)).data)
    return _captured[net]


def _over_classes(join: np.ufunc, x: Array) -> Array:
    """One number for each pixel: (h, w, C) -> (h, w, 1)."""
    return functools.reduce(join, (x[..., c : c + 1] for c in range(x.shape[2])))


def _input(depth: int, read: ReadWindow, height: int, width: int, tile: Tile) -> Array:
    """The smallest network input that gives a tile: at the right and lower edge of the image, where
    less than a whole tile is left, that is much less work."""
    lost, step = border(depth), 2**depth
    needs = tile.y1 - tile.y0 + 2 * lost, tile.x1 - tile.x0 + 2 * lost
    high, wide = (valid_sizes(depth, need, need + step)[0] for need in needs)
    return cut(read, height, width, tile.y0, tile.x0, (high, wide), lost)


def _mirrored_mean(net: UNet, x: Array, exact: bool) -> Array:
    total = np.zeros((1, 1, net.classes), np.float32)
    for turns in range(4):
        for flip in (False, True):
            view = np.rot90(x[:, ::-1] if flip else x, turns)
            back = np.rot90(softmax(net, np.ascontiguousarray(view), exact), -turns)
            total = total + (back[:, ::-1] if flip else back)
    return total / np.float32(8)


def _rotated_mean(
    net: UNet, x: Array, read: ReadWindow, height: int, width: int, tile: Tile, exact: bool
) -> Array:
    """Mean over 7 rotations of the image about its origin, for a tile and its input x.

    For each angle the image is read on a turned grid, over the part of the grid that covers the
    tile; the probabilities found there are read back at the tile's own pixels.
    """
    from scipy.ndimage import map_coordinates

    lost, step = border(net.depth), 2**net.depth
    own = np.mgrid[tile.y0 : tile.y1, tile.x0 : tile.x1]
    total = softmax(net, x, exact)[: own.shape[1], : own.shape[2]]
    for angle in ROTATIONS:
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        at = np.einsum("ij,jab->iab", turn, own)  # where the tile's pixels lie on the turned grid
        start = np.floor(at.min(axis=(1, 2)) / step).astype(int) * step
        needs = np.ceil(at.max(axis=(1, 2)) - start).astype(int) + 2 + 2 * lost
        high, wide = (valid_sizes(net.depth, int(n), int(n) + step)[0] for n in needs)
        grid = np.indices((high, wide)) + (start - lost)[:, None, None]
        x = _read_at(read, height, width, np.einsum("ji,jab->iab", turn, grid))
        p = softmax(net, x, exact)
        where = at - start[:, None, None]
        for c in range(net.classes):
            total[..., c] += map_coordinates(p[..., c], where, order=1, mode="nearest")
    return total / np.float32(7)


def _read_at(read: ReadWindow, height: int, width: int, source: NDArray[np.float64]) -> Array:
    """The image at any positions (2, h, w), by cubic splines, mirrored outside: (h, w, C)."""
    from scipy.ndimage import map_coordinates

    reach = 12  # the spline's prefilter has forgotten a pixel after 12 steps (to 1e-7)
    low = np.floor(source.min(axis=(1, 2))).astype(int) - reach
    high = np.ceil(source.max(axis=(1, 2))).astype(int) + reach + 1
    rows, columns = mirror(low[0], high[0], height), mirror(low[1], high[1], width)
    top, left = int(rows.min()), int(columns.min())
    window = read(top, int(rows.max()) + 1, left, int(columns.max()) + 1)
    window = window[rows - top][:, columns - left]
    source = source - low[:, None, None]
    planes = [
        map_coordinates(window[..., c], source, order=3, output=np.float32, mode="mirror")
        for c in range(window.shape[2])
    ]
    return np.stack(planes, axis=2)
