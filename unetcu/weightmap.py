"""The weight of each pixel in the loss (section 3, equation 2).

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

w_c balances the classes. The second term makes the thin background between two touching
cells count up to w0 more than other background, so that the network learns to keep it open:
d1 and d2 are the distances from x to the nearest and to the second nearest instance.
Where instances touch there is no background for the term to act on; `separate` makes some.

    gapped = separate(instances)
    classes_map = (gapped > 0).astype(np.int32)
    balance = class_weights([classes_map], classes=2)
    w = weight_map(classes_map, gapped, balance)
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .errors import DataError, UsageError

# Beyond d1 + d2 = sigma sqrt(2 ln 1e4) the border term is under 1e-4 w0: taken as 0.
NEGLIGIBLE = 1e-4

LabelMap = NDArray[np.integer]


def separate(instances: LabelMap, gap: int = 1) -> LabelMap:
    """Put background between instances that touch (the morphological gap of section 3).

    instances: (H, W) integer ids, 0 = background; negative = ignored, left as it is.
    Every pixel whose (2 gap + 1)-square holds a pixel of another instance becomes 0, so two
    instances that touched are 2 gap pixels apart. An instance that would vanish keeps its
    pixels farthest from the others, all of them if it is one pixel thin. A new array of the same
    dtype; an instance cut in two by the gap keeps its one id.
    """
    if gap < 0:
        raise UsageError(f"gap is {gap}: give the pixels to clear on each side, 0 or more")
    ids = _compact(instances)
    kept = _cleared(ids, gap)
    for narrower in range(gap - 1, -1, -1):
        lost = np.setdiff1d(ids, kept)
        if not lost.size:
            break
        back = np.isin(ids, lost)
        kept[back] = _cleared(ids, narrower)[back]
    return np.where((instances > 0) & (kept == 0), 0, instances).astype(instances.dtype)


def _cleared(ids: NDArray[np.int32], gap: int) -> NDArray[np.int32]:
    """`separate` for compact ids, with nothing held back for instances that vanish."""
    high = ndimage.maximum_filter(ids, 2 * gap + 1)
    above_all = np.where(ids == 0, ids.max(initial=0) + 1, ids)
    low = ndimage.minimum_filter(above_all, 2 * gap + 1)
    return np.where(low == high, ids, 0)


def _compact(instances: LabelMap) -> NDArray[np.int32]:
    """The same instances with ids 1..n; 0 where there is none."""
    ids, index = np.unique(np.maximum(instances, 0), return_inverse=True)
    first = 1 if ids.size and ids[0] > 0 else 0  # no background at all: 0 is still background
    return (index.reshape(instances.shape) + first).astype(np.int32)


def instances_of(classes_map: LabelMap) -> NDArray[np.int32]:
    """Instance ids for data that has only classes: the 4-connected parts of the foreground.

    classes_map: (H, W) class ids; 0 is background and negative is ignored, all others are
    foreground, whatever the class (a nucleus inside its cell is no neighbour of the cell).
    Returns (H, W) int32, 0 = background.
    """
    found: NDArray[np.int32] = ndimage.label(classes_map > 0)[0].astype(np.int32)
    return found


def class_weights(
    label_maps: Iterable[LabelMap], classes: int, strength: float = 1.0
) -> NDArray[np.float32]:
    """w_c of equation 2: every class weighs the same in all, the mean over pixels is 1.

    label_maps: integer arrays of class ids in [0, classes), negative = ignored. strength: between
    1 and 0, where every pixel weighs the same, a class of share f weighs f^-strength a pixel.
    Returns (classes,) float32; a class with no pixel gets 1.
    Raises DataError for a class id out of range, or when every pixel is ignored.
    """
    counts = np.zeros(classes, np.int64)
    for labels in label_maps:
        labelled = labels[labels >= 0]
        if labelled.size and labelled.max() >= classes:
            raise DataError(f"a label is {labelled.max()}: with {classes} classes give at most "
                            f"{classes - 1}")  # fmt: skip
        counts += np.bincount(labelled.ravel(), minlength=classes)
    if not counts.any():
        raise DataError("no pixel is labelled: every one is marked as ignored")
    present = counts > 0
    weights = np.ones(classes)
    weights[present] = counts.sum() / (present.sum() * counts[present])
    if strength != 1:
        weights[present] **= strength
        weights[present] *= counts.sum() / (counts @ weights)
    return weights.astype(np.float32)


def weight_map(
    classes_map: LabelMap,
    instances: LabelMap,
    class_weights: NDArray[np.floating],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> NDArray[np.float32]:
    """Equation 2 for one image: (H, W) float32.

    classes_map: (H, W) class ids, 0 = background, negative = ignored: those weigh 0.
    instances: (H, W) ids, 0 or less = none; after `separate` where instances may touch.
    class_weights: (classes,) w_c. sigma: pixels. Distances are Euclidean, from pixel centre to
    the nearest pixel centre of the instance. The border term acts on background only, needs two
    instances, and is exact up to d1 + d2 = 4.29 sigma, where it has fallen to 1e-4 w0; beyond it
    is 0. That bound keeps memory at a few (H, W) arrays and the work near each instance.
    """
    if classes_map.shape != instances.shape:
        raise DataError(f"classes are {classes_map.shape} pixels and instances "
                        f"{instances.shape}: give two maps of one image")  # fmt: skip
    if not (sigma > 0 and w0 >= 0 and np.isfinite(sigma) and np.isfinite(w0)):
        raise UsageError(f"w0 is {w0:g} and sigma {sigma:g}: w0 must be 0 or more, sigma above 0")
    if classes_map.size and classes_map.max() >= len(class_weights):
        raise DataError(f"a label is {classes_map.max()}: there are weights for "
                        f"{len(class_weights)} classes")  # fmt: skip
    weights = np.asarray(class_weights, np.float32)[np.maximum(classes_map, 0)]
    if w0 > 0:
        reach = sigma * np.sqrt(-2 * np.log(NEGLIGIBLE))
        d1, d2 = _two_nearest(instances, int(np.ceil(reach)))
        between = (classes_map == 0) & (d1 + d2 <= reach)
        apart = (d1[between] + d2[between]).astype(np.float64)
        weights[between] += (w0 * np.exp(-(apart**2) / (2 * sigma**2))).astype(np.float32)
    weights[classes_map < 0] = 0
    return weights


def _two_nearest(
    instances: LabelMap, reach: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances to the nearest and second nearest instance: exact up to `reach`, or larger."""
    compact = _compact(instances)
    d1 = np.full(instances.shape, np.inf, np.float32)
    d2 = d1.copy()
    for i, box in enumerate(ndimage.find_objects(compact), start=1):
        window = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        d = ndimage.distance_transform_edt(compact[window] != i).astype(np.float32)
        near, second = d1[window], d2[window]
        np.minimum(second, np.maximum(near, d), out=second)
        np.minimum(near, d, out=near)
    return d1, d2


def picture(weight: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A weight map in colours, with its scale at the right edge.

    weight: (H, W), 0 or more. Returns (max(H, 64), W + 56, 3) uint8 RGB: rows :H and columns :W
    are the map, pixel for pixel, from 0 (dark) to its largest weight (yellow), then the scale.
    """
    from matplotlib import colormaps
    from PIL import Image, ImageDraw

    height, width = weight.shape
    top = float(weight.max()) if weight.size and weight.max() > 0 else 1.0
    colours = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    rows = max(height, 64)
    canvas = np.full((rows, width + 56, 3), 255, np.uint8)
    canvas[:height, :width] = colours[np.clip(weight / top * 255, 0, 255).round().astype(np.uint8)]
    bar_top, bar_bottom = 8, rows - 8
    ramp = np.linspace(255, 0, bar_bottom - bar_top).round().astype(np.uint8)
    canvas[bar_top:bar_bottom, width + 8 : width + 20] = colours[ramp][:, None]
    drawing = ImageDraw.Draw(image := Image.fromarray(canvas))
    for part in (0.0, 0.5, 1.0):
        y = bar_bottom - 1 - part * (bar_bottom - 1 - bar_top)
        drawing.line([(width + 20, y), (width + 23, y)], fill=(0, 0, 0))
        drawing.text((width + 25, y - 6), f"{part * top:.3g}", fill=(0, 0, 0))
    return np.asarray(image)
