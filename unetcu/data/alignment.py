"""Do the labels lie on what they label? Mistakes that no file format shows.

The outlines of good labels run along edges of the image. For each pixel of an outline take the
rank of the image's gradient there, from -1/2 (flattest pixel of the image) to 1/2 (steepest): the
mean is the *agreement*, about 0 where outlines have nothing to do with the image. If it is clearly
higher with the labels moved, mirrored, or laid on a neighbouring image, they are suspected.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ..data.dataset import Dataset

PAGES = 8  # spread over the set, that are looked at
SIDE = 1024  # of them, the middle
REACH = 16  # pixels, the largest shift looked for
ENOUGH = 1000  # pixels of outline, below which agreement may be chance

Map = NDArray[np.float32]

TURNS: dict[str, Callable[[Map], Map]] = {
    "flipped upside down": lambda m: m[::-1],
    "mirrored left to right": lambda m: m[:, ::-1],
    "turned by 180 degrees": lambda m: m[::-1, ::-1],
    "turned left by 90 degrees": lambda m: np.rot90(m),
    "turned right by 90 degrees": lambda m: np.rot90(m, 3),
    "transposed, rows and columns exchanged": lambda m: m.T,
    "transposed and turned by 180 degrees": lambda m: m[::-1, ::-1].T,
}


def misalignments(dataset: Dataset) -> list[str]:
    """The likeliest way in which the labels do not lie on the images, in one line; mostly none."""
    looked_at = np.unique(np.linspace(0, len(dataset) - 1, PAGES).round().astype(int)).tolist()
    pages = [(i, _outline(dataset.labels[i])) for i in looked_at]
    pages = [(i, outline) for i, outline in pages if outline.any()]
    if sum(outline.sum() for _, outline in pages) < ENOUGH:
        return []
    edges = {i: _edges(dataset.images[i]) for i, _ in pages}
    reach = min(REACH, *(side // 8 for _, outline in pages for side in outline.shape))
    here = _mean([_agreement(edges[i], outline) for i, outline in pages])
    better = []  # (agreement, line)
    if reach >= 2:
        shifts = _mean([_shifted(edges[i], outline, reach) for i, outline in pages])
        down, right = (int(v) - reach for v in np.unravel_index(shifts.argmax(), shifts.shape))
        best = float(shifts.max())
        if max(abs(down), abs(right)) >= 2 and _clearly(best, float(shifts[reach, reach]), 1.1):
            way = " and ".join(
                f"{abs(by)} pixels {forward if by > 0 else back}"
                for by, forward, back in ((down, "down", "up"), (right, "right", "left"))
                if by
            )
            better.append((best, f"look shifted: they fit the images better when moved {way}"))
    for name, turn in TURNS.items():
        turned = [(i, turn(o)) for i, o in pages if turn(o).shape == o.shape]
        if turned:
            best = _mean([_agreement(edges[i], outline) for i, outline in turned])
            if _clearly(best, here, 2):
                better.append((best, f"fit the images better when {name}"))
    for step, which in ((1, "next"), (-1, "previous")):
        others = [(i, i + step, outline) for i, outline in pages if 0 <= i + step < len(dataset)]
        moved = [
            _agreement(_edges(dataset.images[k]), outline)
            for i, k, outline in others
            if dataset.labels[i].shape == dataset.labels[k].shape
        ]
        if moved and _clearly(best := _mean(moved), here, 2):
            better.append((best, f"fit the {which} image better than their own: look at the order"))
    if better:
        return [f"labels {max(better)[1]}"]
    if here < 0.05:
        return ["outlines of the labels do not follow edges in the images: look at whether each "
                "label is that of its image"]  # fmt: skip
    return []


def _clearly(other: float, here: float, factor: float) -> bool:
    """Is another position so much better that it is no matter of chance?"""
    return other > 0.1 and other > factor * here


def _middle(array: NDArray[Any]) -> NDArray[Any]:
    y, x = (max(0, (side - SIDE) // 2) for side in array.shape[:2])
    return array[y : y + SIDE, x : x + SIDE]


def _edges(image: NDArray[Any]) -> Map:
    """Ranks of the gradient, in [-1/2, 1/2)."""
    gray = _middle(image).astype(np.float32).mean(axis=2)
    gradient = ndimage.gaussian_gradient_magnitude(gray, 1.5)
    ranks = np.empty(gradient.size, np.float32)
    ranks[np.argsort(gradient, axis=None)] = np.arange(gradient.size) / gradient.size - 0.5
    return ranks.reshape(gradient.shape)


def _outline(labels: NDArray[np.int32]) -> Map:
    """1 on both sides of each border between two labels, 0 elsewhere; ignored pixels have none."""
    labels = _middle(labels)
    outline = np.zeros(labels.shape, np.float32)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (labels[a] != labels[b]) & (labels[a] >= 0) & (labels[b] >= 0)
        outline[a][differ] = outline[b][differ] = 1
    return outline


def _agreement(edges: Map, outline: Map) -> float:
    return float((edges * outline).sum() / outline.sum())


def _shifted(edges: Map, outline: Map, reach: int) -> Map:
    """The agreement for every shift of the labels by up to `reach` pixels down and right."""
    inner = np.zeros_like(outline)
    frame = np.s_[reach:-reach, reach:-reach]
    inner[frame] = outline[frame]
    if not inner.any():
        return np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    size = [fft.next_fast_len(side, real=True) for side in edges.shape]
    product = fft.rfft2(edges, size) * np.conj(fft.rfft2(inner, size))
    around = np.roll(fft.irfft2(product, size), (reach, reach), (0, 1))
    found: Map = around[: 2 * reach + 1, : 2 * reach + 1] / inner.sum()
    return found


def _mean(values: list[Any]) -> Any:
    return sum(values) / len(values)
