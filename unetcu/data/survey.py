"""What is in a data set: brightness, classes, objects, and what looks like a mistake."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.alignment import misalignments
from ..data.dataset import Dataset
from ..progress import progress
from ..weightmap import instances_of

SPECK = 10  # pixels; smaller pieces are hardly objects
BRIGHT = 1.0  # standard deviations of the background, by which nuclei are brighter


def brightness(dataset: Dataset) -> dict[str, Any]:
    """min and max of all, the lowest and highest median of an image, names of constant images."""
    rows = []
    for image in progress(dataset.images, "looking at images"):
        rows.append((image.min(), image.max(), np.median(image)))
    low, high, median = np.array(rows, np.float64).T
    constant = [dataset.names[i] for i in np.flatnonzero(low == high)]
    return {
        "min": float(low.min()),
        "max": float(high.max()),
        "medians": [float(median.min()), float(median.max())],
        "constant": constant,
    }


def balance(dataset: Dataset) -> dict[str, Any]:
    """Pixels of each class and of none, and the names of images without any foreground."""
    counts = np.zeros(dataset.classes, np.int64)
    ignored = 0
    empty = []
    for name, labels in zip(dataset.names, dataset.labels, strict=True):
        used = labels[labels >= 0]
        if dataset.instances:
            used = np.minimum(used, 1)
        ignored += labels.size - used.size
        here = np.bincount(used, minlength=dataset.classes)
        counts += here
        if not here[1:].any():
            empty.append(name)
    values = dataset.values or tuple(range(dataset.classes))
    share = counts / max(1, counts.sum())
    return {
        "classes": [
            {"value": value, "class": i, "pixels": int(counts[i]), "share": float(share[i])}
            for i, value in enumerate(values)
        ],
        "ignored": ignored,
        "background_only": empty,
    }


def objects(dataset: Dataset) -> dict[str, Any]:
    """How many objects, how large, and how many pairs of them touch.

    Objects are instances, or else the connected pieces of foreground; those smaller than SPECK
    pixels are counted apart. diameter: of a disc of the same area, in pixels, [median, 90 %].
    """
    per_image, areas, specks, touching = [], [], 0, 0
    for labels in progress(dataset.labels, "counting objects"):
        ids = labels if dataset.instances else instances_of(labels)
        _, area = np.unique(ids[ids > 0], return_counts=True)
        specks += int((area < SPECK).sum())
        per_image.append(int((area >= SPECK).sum()))
        areas.append(area[area >= SPECK])
        touching += _touching(ids)
    sizes = 2 * np.sqrt(np.concatenate(areas) / np.pi)
    return {
        "count": sum(per_image),
        "per_image": [min(per_image), max(per_image)],
        "diameter": np.percentile(sizes, (50, 90)).tolist() if sizes.size else [0.0, 0.0],
        "touching_pairs": touching,
        "specks": specks,
    }


def _touching(ids: NDArray[np.int32]) -> int:
    """Pairs of objects with at least one pixel of each side by side."""
    pairs = []
    for a, b in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.sort(np.stack([a[meet], b[meet]], axis=1), axis=1))
    return len(np.unique(np.concatenate(pairs), axis=0))


def alike(dataset: Dataset) -> str | None:
    """The recipe whose kind of data this looks like, or None.

    membranes: two classes, the foreground in many pieces that thin lines of background keep apart.
    nuclei, phase: gray images with instances, of which some touch, much brighter than their
    background, or not.
    """
    if dataset.instances:
        if len(dataset.range.low) > 1 or not any(
            _touching(dataset.labels[i]) for i in _some(dataset)
        ):
            return None
        contrast = []
        for i in _some(dataset):
            grey, ids = dataset.images[i].mean(axis=2), dataset.labels[i]
            inside, outside = grey[ids > 0], grey[ids == 0]
            if inside.size and outside.size and outside.std() > 0:
                contrast.append((inside.mean() - outside.mean()) / outside.std())
        return ("nuclei" if np.median(contrast) > BRIGHT else "phase") if contrast else None
    if dataset.classes != 2:
        return None
    pieces, share = [], []
    for i in _some(dataset):
        labels = dataset.labels[i]
        pieces.append([_pieces(labels == 0), _pieces(labels == 1)])
        share.append(np.mean(labels == 1))
    background, foreground = np.median(pieces, axis=0)
    lines = np.median(share) > 0.6 and foreground > 3 * background
    return "membranes" if lines and foreground >= 10 else None


def _some(dataset: Dataset) -> list[int]:
    """Up to 8 images spread over the set."""
    return np.unique(np.linspace(0, len(dataset) - 1, 8).round().astype(int)).tolist()


def doubts(dataset: Dataset) -> list[str]:
    """What looks like a mistake in the data, one line each: nothing here is certain."""
    found = []
    first: dict[str, int] = {}
    twins = []
    for i, digest in enumerate(dataset.digests()):
        if digest in first:
            twins.append((first[digest], i))
        first.setdefault(digest, i)
    if twins:
        names = " and ".join(dataset.names[i] for i in twins[0])
        differ = [a for a, b in twins if not np.array_equal(dataset.labels[a], dataset.labels[b])]
        found.append(f"{_count(len(twins), 'image')} a copy of another one ({names})"
                     + (", and their labels differ" if differ else ""))  # fmt: skip
    return found + _inverted(dataset) + misalignments(dataset)


def _inverted(dataset: Dataset) -> list[str]:
    """Objects are many pieces in one background; where it is the other way round, ask."""
    if dataset.instances or dataset.classes != 2:
        return []
    pieces = []
    for i in _some(dataset):
        labels = dataset.labels[i]
        pieces.append([_pieces(labels == 0), _pieces(labels == 1)])
    background, foreground = np.median(pieces, axis=0)
    if background < 3 * foreground + 5:
        return []
    value = dataset.values[1] if dataset.values else 1
    return [f"labels may be inverted: background lies in about {background:.0f} pieces an image, "
            f"foreground (value {value}) in {foreground:.0f}; right for a network of lines, but "
            "objects should be the foreground"]  # fmt: skip


def _pieces(mask: NDArray[Any]) -> int:
    """Connected pieces of at least SPECK pixels."""
    return int((np.bincount(instances_of(mask.astype(np.int32)).ravel())[1:] >= SPECK).sum())


def _count(number: int, what: str) -> str:
    return f"1 {what} is" if number == 1 else f"{number} {what}s are each"
