"""Made-up electron micrographs: neurites of every size packed side by side, between membranes.

All of the page is tissue, so the dark membranes are the background and the neurites the
instances. A membrane's thickness varies along its way, down to a faint line with no background
pixel in the labels, where two neurites touch. Vesicles, mitochondria, microtubules and smears are
as dark as membranes: what makes a membrane is that it goes round a neurite.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..synth.shapes import Plane, depth_inside, field, grain, stamp, whole

MARGIN = 40  # pixels drawn around a page and cut off
SMALLEST = 60  # pixels of the smallest neurite drawn


def page(r: np.random.Generator, size: int) -> tuple[Plane, NDArray[np.int32]]:
    """One page: grey (size, size) float32 around 150, and (size, size) instance ids."""
    n = size + 2 * MARGIN
    cells = _packed(r, n)
    labels = _regions(r, n, cells)
    inside = depth_inside(labels)
    half = 1.2 + 1.0 * field(r, n, 28)  # of the membrane's thickness in the labels, 0 or less: none
    neurites = whole(np.where(inside >= half, labels, 0), SMALLEST)
    grey = _tissue(r, labels, inside, cells)
    grey -= _membranes(r, inside, half)
    grey = _micrograph(r, grey)
    cut = slice(MARGIN, MARGIN + size)
    return grey[cut, cut], neurites[cut, cut]


def _packed(r: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Neurites (y, x, radius), large ones first, hardly overlapping, small ones in the gaps."""
    radii = np.clip(13 * np.exp(0.65 * r.standard_normal(n * n // 350)), 6, 60)
    radii = np.sort(radii[np.cumsum(np.pi * radii**2) < 0.95 * n * n])[::-1]
    cells = np.empty((0, 3))
    for radius in radii:
        for y, x in r.uniform(-10, n + 10, (12, 2)):
            room = np.hypot(cells[:, 0] - y, cells[:, 1] - x) > 0.95 * (cells[:, 2] + radius)
            if room.all():
                cells = np.vstack([cells, (y, x, radius)])
                break
    return cells


def _regions(r: np.random.Generator, n: int, cells: NDArray) -> NDArray[np.int32]:
    """Every pixel goes to the neurite whose (squashed, bent) circle is nearest."""
    yy, xx = np.mgrid[:n, :n].astype(np.float32)
    yy += 6 * field(r, n, 40) + 2.5 * field(r, n, 14)
    xx += 6 * field(r, n, 40) + 2.5 * field(r, n, 14)
    nearest = np.full((n, n), np.inf, np.float32)
    labels = np.zeros((n, n), np.int32)
    for i, (y, x, radius) in enumerate(cells, start=1):
        box = stamp(nearest, y, x, 1.5 * radius + 40)
        if box is None:
            continue
        turn, long = r.uniform(0, np.pi), r.uniform(1, 1.35)
        dy, dx = yy[box] - y, xx[box] - x
        u = (dx * np.cos(turn) + dy * np.sin(turn)) / long
        v = (dy * np.cos(turn) - dx * np.sin(turn)) * long
        away = np.hypot(u, v) - radius
        nearer = away < nearest[box]
        nearest[box][nearer] = away[nearer]
        labels[box][nearer] = i
    return whole(labels, SMALLEST)


def _membranes(r: np.random.Generator, inside: Plane, half: Plane) -> Plane:
    """How much darker membranes make each pixel: sharp if cut across, smeared if cut along."""
    n = len(inside)
    width = np.clip(half, 0.7, 3) + 0.6
    dark = r.uniform(65, 90) * (1 + 0.2 * field(r, n, 12)) * np.exp(-((inside / width) ** 2))
    smeared = np.clip(field(r, n, 26) - 1.0, 0, 1)
    return dark + 65 * smeared * np.exp(-((inside / 9) ** 2))


def _tissue(
    r: np.random.Generator, labels: NDArray[np.int32], inside: Plane, cells: NDArray
) -> Plane:
    """Cytoplasm, a little different in each neurite, and what swims in it."""
    n, count = len(labels), len(cells) + 1
    coarse = r.uniform(7, 18, count).astype(np.float32)[labels]
    stain = r.normal(0, 9, count) - 28 * (r.random(count) < 0.12)  # some cytoplasm is dark
    grey = 165 + stain.astype(np.float32)[labels]
    grey += coarse * (0.8 * grain(r, n, 1.0) + grain(r, n, 2.0))
    yy, xx = np.mgrid[:n, :n].astype(np.float32)
    for i, (y, x, radius) in enumerate(cells, start=1):
        box = stamp(labels, y, x, 1.3 * radius)
        if box is None:
            continue
        room = (labels[box] == i) & (inside[box] > 3)
        dy, dx = yy[box] - y, xx[box] - x
        dots = [(0.9, r.uniform(20, 45))] * int(r.poisson(radius / 4))  # microtubules
        if r.random() < 0.45:  # a terminal full of vesicles
            dots += [(r.uniform(1.8, 3.2), -r.uniform(20, 45))] * int(r.poisson(radius**2 / 25))
        for width, dark in dots:
            spot = np.hypot(*(d - radius * r.uniform(-1, 1) for d in (dy, dx)))
            ring = np.exp(-((spot / width) ** 2)) if dark > 0 else np.exp(-((spot - width) ** 2))
            grey[box] -= abs(dark) * ring * room
        if radius > 15 and r.random() < 0.6:
            grey[box] -= _mitochondrion(r, dy, dx, radius) * (inside[box] > 2) * (labels[box] == i)
    return grey


def _mitochondrion(r: np.random.Generator, dy: Plane, dx: Plane, radius: float) -> Plane:
    """Darkness of a mottled oval with a darker rim and folds, off the neurite's centre."""
    turn, size = r.uniform(0, np.pi), r.uniform(6, min(0.55 * radius, 17))
    dy, dx = dy - radius * r.normal(0, 0.3), dx - radius * r.normal(0, 0.3)
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / 1.3
    v = (dy * np.cos(turn) - dx * np.sin(turn)) * 1.2
    edge = np.hypot(u, v) - size
    body = 1 / (1 + np.exp(1.5 * edge))
    folds = np.sin(v * r.uniform(0.9, 1.4) + np.sin(u * 0.3))
    rim = 30 * np.exp(-((edge / 1.3) ** 2))
    return body * (r.uniform(30, 60) + 15 * folds) + rim


def _micrograph(r: np.random.Generator, grey: Plane) -> Plane:
    """Uneven staining, focus, and noise at two scales that differ from page to page."""
    n = len(grey)
    grey = grey * (1 + 0.06 * field(r, n, n / 2)) + 8 * field(r, n, 60)
    grey = ndimage.gaussian_filter(grey, r.uniform(0.6, 0.9), truncate=3)
    grey += r.uniform(3, 9) * grain(r, n, 1.2)
    grey += r.uniform(4, 15) * r.standard_normal((n, n), np.float32)
    return r.uniform(125, 150) + r.uniform(0.9, 1.2) * (grey - 155)
