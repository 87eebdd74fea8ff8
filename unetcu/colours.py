"""Colours of labels and of errors: those of Okabe and Ito, which people with any colour vision can
tell apart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Picture = NDArray[np.uint8]

ORANGE, SKY, GREEN, YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
BLUE, VERMILION, PURPLE = (0, 114, 178), (213, 94, 0), (204, 121, 167)
PALETTE = np.array([ORANGE, SKY, GREEN, YELLOW, PURPLE, VERMILION, BLUE], np.uint8)

_NEAR = (1, 2, 3, 5)  # objects this close in a row or column are neighbours


def drawn(
    labels: Array, apart: bool = True
) -> tuple[Picture, NDArray[np.bool_], NDArray[np.bool_]]:
    """Colours (H, W, 3) of labels as `overlay` has them, where they fill and where they outline.

    apart: neighbours differ in colour; else a label has the colour of its number everywhere.
    """
    inside = labels > 0
    palette = PALETTE[_distinct(labels)] if apart else PALETTE[_own(labels)]
    colours = palette[np.where(inside, labels, 0)]
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differ = np.not_equal(*_shifted(labels, 1, axis))
        one, other = _shifted(edge, 1, axis)
        one |= differ
        other |= differ
    edge &= inside
    return colours, inside & ~edge, edge


def _shifted(array: Array, steps: int, axis: int) -> tuple[Array, Array]:
    """Two views whose elements at one index lie `steps` apart in the array."""
    turned = np.moveaxis(array, axis, 0)
    return turned[:-steps], turned[steps:]


def _own(labels: Array) -> NDArray[np.intp]:
    """Index into PALETTE of every number up to the largest label."""
    return (np.arange(int(labels.max(initial=0)) + 1) - 1) % len(PALETTE)


def _distinct(labels: Array) -> NDArray[np.intp]:
    """Index into PALETTE of every label: its own number's, or the first that no neighbour has."""
    colours = _own(labels)
    count = len(colours)
    pairs: set[tuple[int, int]] = set()
    for axis in (0, 1):
        for steps in _NEAR:
            one, other = _shifted(labels, steps, axis)
            meet = (one != other) & (one > 0) & (other > 0)
            two = np.sort([one[meet], other[meet]], axis=0).astype(np.int64)
            pairs.update(divmod(int(key), count) for key in np.unique(two[0] * count + two[1]))
    smaller: dict[int, set[int]] = {}
    for low, high in pairs:
        smaller.setdefault(high, set()).add(low)
    for label in sorted(smaller):
        taken = {int(colours[k]) for k in smaller[label]}
        free = [c for c in range(len(PALETTE)) if c not in taken]
        if colours[label] in taken and free:
            colours[label] = free[0]
    return colours


def hatched(picture: Picture, where: NDArray[np.bool_]) -> Picture:
    """The picture, changed in place: diagonal stripes in two grays where pixels are ignored."""
    rows, columns = np.nonzero(where)
    picture[rows, columns] = np.where((rows + columns) // 4 % 2, 150, 90)[:, None]
    return picture


def mistakes(
    truth: Array, prediction: Array
) -> list[tuple[str, tuple[int, int, int], NDArray[np.bool_]]]:
    """(name, colour, where) of each kind of error in class ids; none where truth is -1."""
    return [
        ("false positive", VERMILION, (truth == 0) & (prediction > 0)),
        ("false negative", SKY, (truth > 0) & (prediction == 0)),
        ("wrong class", YELLOW, (truth > 0) & (prediction > 0) & (truth != prediction)),
    ]
