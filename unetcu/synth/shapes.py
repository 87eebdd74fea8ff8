"""What the synthetic pages are drawn with: random fields, random outlines, instance maps."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]


def field(r: np.random.Generator, n: int, scale: float) -> Plane:
    """A smooth random (n, n) field of mean 0 and variance about 1; it varies over `scale` pixels.

    A cubic B-spline through random values on a coarse grid: its cost does not grow with the scale.
    """
    knots = r.standard_normal((int(n / scale) + 5,) * 2).astype(np.float32)
    start = 1.5 + r.random(2)  # the knots must not stand at the same pixels on every page
    tall = np.zeros((n, len(knots)), np.float32)
    for index, share in _spline(start[0] + np.arange(n) / scale, len(knots)):
        tall += knots[index] * share[:, None]
    smooth = np.zeros((n, n), np.float32)
    for index, share in _spline(start[1] + np.arange(n) / scale, len(knots)):
        smooth += tall[:, index] * share
    return smooth / np.float32(151 / 315)  # the standard deviation of such a spline


def _spline(at: NDArray[np.float64], count: int) -> list[tuple[NDArray[np.intp], Plane]]:
    """The four knots around each position, and their shares in the cubic B-spline's value."""
    first = np.floor(at).astype(np.intp) - 1
    t = at - first - 1
    shares = (1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3
    last = count - 1
    return [(np.minimum(first + k, last), (s / 6).astype(np.float32)) for k, s in enumerate(shares)]


def grain(r: np.random.Generator, n: int, sigma: float) -> Plane:
    """Fine noise of mean 0 and variance about 1, blurred with a Gaussian of `sigma` pixels."""
    noise = r.standard_normal((n, n), np.float32)
    return ndimage.gaussian_filter(noise, sigma, truncate=3) * np.float32(2 * sigma * np.pi**0.5)


def stamp(plane: NDArray, y: float, x: float, reach: float) -> tuple[slice, slice] | None:
    """The window of `plane` within `reach` pixels of (y, x), or None where they do not meet."""
    top, left = max(int(y - reach), 0), max(int(x - reach), 0)
    bottom, right = min(int(y + reach) + 2, plane.shape[0]), min(int(x + reach) + 2, plane.shape[1])
    return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


def depth_inside(labels: NDArray[np.int32]) -> Plane:
    """Each pixel's distance to the border of its own instance: 0 on the border and outside."""
    same = np.ones(labels.shape, bool)
    across, down = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
    same[:, 1:] &= across
    same[:, :-1] &= across
    same[1:] &= down
    same[:-1] &= down
    return ndimage.distance_transform_edt(same & (labels > 0)).astype(np.float32)


DISC = np.hypot(*np.mgrid[-2:3, -2:3]) < 2.5


def whole(labels: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Cut what is thinner than about 4 pixels off every instance, keep its largest part.

    Instances of fewer than `smallest` pixels go; ids stay.
    """
    out = np.zeros_like(labels)
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mine = ndimage.binary_opening(np.pad(labels[box] == i, 2, "edge"), DISC)[2:-2, 2:-2]
        parts, count = ndimage.label(mine)
        areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        if areas.max(initial=0) >= smallest:
            out[box][parts == areas.argmax() + 1] = i
    return out


def numbered(labels: NDArray[np.int32], smallest: int) -> NDArray[np.uint16]:
    """Ids 1, 2, 3 ... for the 4-connected parts of the instances; smaller ones go."""
    out = np.zeros(labels.shape, np.uint16)
    last = 0
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(labels[box] == i)
        areas = np.bincount(parts.ravel(), minlength=count + 1)
        for part in range(1, count + 1):
            if areas[part] >= smallest:
                last += 1
                out[box][parts == part] = last
    return out


def without_slits(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give background narrower than about 5 pixels, and small holes, to the nearest instance."""
    far, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    open_ = ndimage.distance_transform_edt(far <= 2.5) <= 2.5
    parts, count = ndimage.label(open_)
    large = np.bincount(parts.ravel(), minlength=count + 1) >= 80
    large[0] = False
    return np.where(large[parts], 0, labels[tuple(nearest)])


def distance_to_contact(labels: NDArray[np.int32]) -> Plane:
    """Each pixel's distance to the nearest pixel that has another instance among its neighbours."""
    high = ndimage.maximum_filter(labels, 3)
    low = ndimage.minimum_filter(np.where(labels == 0, high, labels), 3)
    contact = (labels > 0) & (low != high)
    if not contact.any():
        return np.full(labels.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(~contact).astype(np.float32)
