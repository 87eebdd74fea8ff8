"""Made-up phase-contrast pages: adherent cells that touch, as a low-power objective shows them.

A page is made the way the microscope makes it. Cells are drawn as a map of optical thickness:
a thin skirt that ends steeply, a body, a nucleus, granules. Zernike's phase contrast shows not the
thickness but, to first order, its difference from its own blur: borders are dark, with a bright
halo outside that fades here and there, and a wide flat cell is hardly darker than the empty dish.
The light is uneven by more than that. So grey value alone does not say what is cell; outlines do.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..synth.shapes import (
    Plane,
    depth_inside,
    distance_to_contact,
    field,
    grain,
    stamp,
    whole,
    without_slits,
)

MARGIN = 48  # pixels drawn around a page and cut off: no cell knows where the page ends
SMALLEST = 150  # pixels of the smallest cell drawn


def page(r: np.random.Generator, size: int) -> tuple[Plane, NDArray[np.int32]]:
    """One page: grey float32, 128 the empty dish, and instance ids, both (size, size)."""
    n = size + 2 * MARGIN
    labels, reach, cells = _outlines(r, n)
    inside = depth_inside(labels)
    contact = distance_to_contact(labels)
    thickness = _thickness(r, labels, reach, inside, contact, cells)
    paler = r.normal(-0.055, 0.035, len(cells) + 1).astype(np.float32)[labels] * (labels > 0)
    grey = _microscope(r, thickness, paler, contact)
    cut = slice(MARGIN, MARGIN + size)
    return grey[cut, cut], labels[cut, cut]


def _outlines(r: np.random.Generator, n: int) -> tuple[NDArray[np.int32], Plane, NDArray]:
    """Instance ids, each pixel's place in its cell (0 centre, 1 border), and the cells."""
    cells = _places(r, n)
    yy, xx = np.mgrid[:n, :n].astype(np.float32)
    yy += 3.5 * field(r, n, 22) + 0.5 * field(r, n, 5)
    xx += 3.5 * field(r, n, 22) + 0.5 * field(r, n, 5)
    reach = np.ones((n, n), np.float32)
    labels = np.zeros((n, n), np.int32)
    angles = np.linspace(-np.pi, np.pi, 361)
    for i, (y, x, radius, round_) in enumerate(cells, start=1):
        outline = radius * (np.ones(361) if round_ else _outline(r, angles))
        box = stamp(reach, y, x, outline.max() + 12)
        if box is None:
            continue
        dy, dx = yy[box] - y, xx[box] - x
        turn = np.arctan2(dy, dx) * np.float32(180 / np.pi) + 180
        far = np.hypot(dy, dx) / outline.astype(np.float32)[np.rint(turn).astype(np.int32)]
        nearer = far < reach[box]
        reach[box][nearer] = far[nearer]
        labels[box][nearer] = i
    return without_slits(whole(labels, SMALLEST)), reach, cells


def _places(r: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Cells (y, x, radius, rounded), in clusters: most grow beside another one."""
    cover, covered = r.uniform(0.4, 0.7) * n * n, 0.0
    cells = np.empty((0, 4))
    while covered < cover:
        rounded = r.random() < 0.025
        radius = np.clip(25 * np.exp(0.27 * r.standard_normal()), 13, 35)
        radius = r.uniform(11, 14) if rounded else radius
        if len(cells) and r.random() < 0.85:
            y, x, other, _ = cells[r.integers(len(cells))]
            apart, turn = (other + radius) * r.uniform(0.8, 1.15), r.uniform(0, 2 * np.pi)
            y, x = y + apart * np.sin(turn), x + apart * np.cos(turn)
        else:
            y, x = r.uniform(0, n, 2)
        covered += 0.1 * radius**2  # a page that is full lets nothing more in: stop trying
        room = np.hypot(cells[:, 0] - y, cells[:, 1] - x) > 0.78 * (cells[:, 2] + radius)
        if 0 <= y < n and 0 <= x < n and room.all():
            cells = np.vstack([cells, (y, x, radius, rounded)])
            covered += 3 * radius**2
    return cells


def _outline(r: np.random.Generator, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from centre to border at each angle, for a cell as large as a disc of radius 1."""
    kind = r.random()
    if kind < 0.4:  # spindle: two processes, opposite
        at = r.uniform(0, 2 * np.pi) + np.array([0, np.pi + r.normal(0, 0.3)])
        grow, narrow = r.uniform(0.8, 3.0, 2), r.uniform(1.6, 3.5, 2)
    elif kind < 0.8:  # star: three to five processes
        count = int(r.integers(3, 6))
        turn = 2 * np.pi / count * (np.arange(count) + r.normal(0, 0.15, count))
        at = r.uniform(0, 2 * np.pi) + turn
        grow, narrow = r.uniform(0.2, 2.0, count), r.uniform(2, 5, count)
    else:  # spread: a lobed disc
        at, grow = r.uniform(0, 2 * np.pi, 5), r.uniform(0.0, 0.4, 5)
        narrow = r.uniform(1, 4, 5)
    off = np.abs((angles - at[:, None] + np.pi) % (2 * np.pi) - np.pi)
    tip = np.sqrt(off**2 + 0.015) - 0.12  # pointed, the sides drawn in as by tension
    outline = 0.7 + (grow[:, None] * np.exp(-narrow[:, None] * tip)).sum(0)
    return np.minimum(outline / np.sqrt((outline**2).mean()), 2.6)


def _thickness(
    r: np.random.Generator,
    labels: NDArray[np.int32],
    reach: Plane,
    inside: Plane,
    contact: Plane,
    cells: NDArray,
) -> Plane:
    """Optical thickness of all that lies in the dish; a cell's skirt is about 0.5."""
    n, count = len(labels), len(cells) + 1
    cell = labels > 0

    def each(low: float, high: float) -> Plane:
        """One value per cell, at each of its pixels."""
        return r.uniform(low, high, count).astype(np.float32)[labels]

    skirt, body, steep = each(0.35, 0.75), each(0.0, 0.5), each(0.5, 1.1)
    sharp = np.clip(1 + 0.3 * field(r, n, 9), 0.3, 1.3)  # here and there a border hardly shows
    thickness = skirt * (1 - np.exp(-(inside + 0.8) * sharp / steep))
    thickness += body * np.clip(1 - reach, 0, 1) ** 1.3
    ruffled = np.clip(field(r, n, 7) - 0.2, 0, 2) * np.exp(-((inside - 2) ** 2) / 6)
    thickness += each(0.0, 0.5) * ruffled
    thickness += each(0.02, 0.06) * grain(r, n, 1.1) + each(0.03, 0.08) * grain(r, n, 2.4)
    seam = np.exp(-((contact / 0.95) ** 2))
    thickness *= 1 - np.clip(0.95 + 0.3 * field(r, n, 7), 0.6, 1) * seam
    thickness *= cell
    _insides(r, thickness, labels, cells)
    _debris(r, thickness)
    return thickness + 0.012 * grain(r, n, 1.2)


def _insides(
    r: np.random.Generator, thickness: Plane, labels: NDArray[np.int32], cells: NDArray
) -> None:
    """Nucleus with nucleoli, and granules around it, added to every cell."""
    yy, xx = np.mgrid[: len(labels), : len(labels)].astype(np.float32)
    for i, (y, x, radius, round_) in enumerate(cells, start=1):
        box = stamp(labels, y, x, radius)
        if box is None:
            continue
        mine, spots = labels[box] == i, []
        turn, long = r.uniform(0, np.pi), r.uniform(1, 1.5)
        dy, dx = yy[box] - y, xx[box] - x
        u = (dx * np.cos(turn) + dy * np.sin(turn)) / long
        v = (dy * np.cos(turn) - dx * np.sin(turn)) * long
        size = radius * r.uniform(0.36, 0.48)
        edge = (np.hypot(u, v) - size) / 1.2
        add = r.uniform(0.05, 0.2) * np.exp(-(edge**2))
        add -= r.uniform(0, 0.12) / (1 + np.exp(2 * edge))
        for _ in range(int(r.integers(1, 4))):  # nucleoli
            spots.append((*r.normal(0, 0.4 * size, 2), r.uniform(1.0, 1.9), r.uniform(0.3, 0.8)))
        for _ in range(int(r.poisson(r.uniform(0.1, 1.2) * radius))):  # granules, some bright
            out, where = radius * r.uniform(0.3, 0.95), r.uniform(0, 2 * np.pi)
            high = r.uniform(0.2, 0.6) if r.random() < 0.88 else -r.uniform(0.3, 0.9)
            spots.append((out * np.sin(where), out * np.cos(where), r.uniform(0.7, 1.2), high))
        if round_:  # to divide, or dying: a thick ball is brighter than any halo
            edge = np.hypot(dy, dx) - 0.72 * radius
            add = 1.2 * add - r.uniform(1.2, 2.2) * np.exp(-((edge / 2.2) ** 2))
            add += r.uniform(-1.2, 0.2) / (1 + np.exp(edge + 2))
        for sy, sx, width, high in spots:
            add += high * np.exp(-((dy - sy) ** 2 + (dx - sx) ** 2) / (2 * width**2))
        thickness[box] += add * mine


def _debris(r: np.random.Generator, thickness: Plane) -> None:
    """Specks, dead bits and faint trails that are not cells."""
    n = len(thickness)
    yy, xx = np.mgrid[:n, :n].astype(np.float32)
    for _ in range(int(r.poisson(n * n / 16000))):
        y, x = r.uniform(0, n, 2)
        width, high = r.uniform(0.8, 2.6), r.uniform(0.3, 1.6) * (1 if r.random() < 0.8 else -1)
        box = stamp(thickness, y, x, 4 * width)
        if box is not None:
            away = (yy[box] - y) ** 2 + (xx[box] - x) ** 2
            thickness[box] += high * np.exp(-away / (2 * width**2))
    trails = np.exp(-((field(r, n, 30) / 0.06) ** 2)) * (field(r, n, 45) > 1.0)
    thickness += 0.15 * trails.astype(np.float32) * (1 + grain(r, n, 1.5))


def _microscope(r: np.random.Generator, thickness: Plane, paler: Plane, contact: Plane) -> Plane:
    """Phase contrast: thick is dark, against a blur of itself; then light, blur and camera."""
    n = len(thickness)
    halo = 0.65 * ndimage.gaussian_filter(thickness, r.uniform(2.2, 3.2), truncate=3)
    halo += 0.35 * ndimage.gaussian_filter(thickness, r.uniform(5, 8), truncate=3)
    contrast = ndimage.gaussian_filter(halo - thickness, r.uniform(0.4, 0.65), truncate=3)
    bright = field(r, n, 13) * (1 - np.exp(-((contact / 4) ** 2)))  # a halo may be faint, no seam
    contrast *= np.where(
        contrast > 0, np.clip(1.5 + 1.1 * bright, 0.2, 3), np.clip(1.1 - 0.3 * bright, 0.6, 2)
    )
    contrast += ndimage.gaussian_filter(paler, 0.8, truncate=3)
    light = 128 * (1 + 0.15 * field(r, n, n / 2) + 0.05 * field(r, n, 80))
    lines = r.normal(0, 0.6, (n, 1)).astype(np.float32)
    grey = light + r.uniform(110, 150) * contrast + lines
    return grey + r.uniform(1, 2.5) * r.standard_normal((n, n), np.float32)
