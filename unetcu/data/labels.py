"""What stored label values mean: classes, one foreground value, or instance ids.

All label maps of a data set are read together and given one meaning, by rules that do not guess:

- with instances: 0 is background, every other value is one object of that page; two classes;
- two values 0 and v (0 and 255, say): background and class 1; so are 0 and 1, and bool;
- with `classes` given: the values are class numbers, all below it;
- else they are class numbers if they are exactly 0, 1, ..., n - 1 and do not look like instances.

Everything else is refused in one line that says what to do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError

MOST_CLASSES = 32  # without --classes; with it 256, as many as a uint8 mask holds

Raw = NDArray[Any]
LabelMap = NDArray[np.int32]


class LabelError(DataError):
    """Labels that an option would make readable: `options` holds it, e.g. {"instances": True}."""

    def __init__(self, message: str, **options: Any) -> None:
        super().__init__(message)
        self.options = options


@dataclass
class Labels:
    """The labels of a data set.

    maps: (H, W) int32 each: class ids, or instance ids, -1 where the pixel is ignored.
    classes: number of classes. values: the stored value of each class, so (0, 255) for such a
    mask; empty for instances. notes: one-line remarks for the user.
    """

    maps: list[LabelMap]
    classes: int
    values: tuple[int, ...]
    notes: list[str] = field(default_factory=list)


def interpret(
    pages: Iterable[tuple[str, Raw]],
    *,
    classes: int | None = None,
    instances: bool = False,
    ignore: int | None = None,
) -> Labels:
    """Give stored label maps their meaning.

    pages: name and (H, W, C) array of each, of any real type. classes, instances, ignore: what
    the user said, None or False for nothing.
    Raises UsageError for options that make no sense, LabelError where another option would help,
    DataError for labels that cannot be used.
    """
    check_options(classes, instances)
    names: list[str] = []
    maps: list[LabelMap] = []
    found: dict[int, str] = {}  # every value, with the first page that holds it
    notes: list[str] = []
    ignored = False
    for name, raw in pages:
        labels = _plain(name, raw, ignore)
        names.append(name)
        maps.append(labels)
        values = _values(labels)
        ignored |= -1 in values
        for value in values:
            found.setdefault(value, name)
    found.pop(-1, None)
    values = sorted(found)
    if not values:
        raise DataError(f"every pixel of {names[0]} and all other labels is {ignore}, the value "
                        "to ignore: nothing is left to learn from")  # fmt: skip
    if ignore is not None and not ignored:
        notes.append(f"no label has the value {ignore} that is to be ignored")
    whole, size = _pieces(maps) if len(values) > 2 or instances else (1.0, 0.0)
    if whole < 0.5:
        _refuse_lossy(names, maps, values)
    if len(values) > MOST_CLASSES:
        _refuse_picture(maps, values, size, scattered=instances and whole < 0.1)
    if instances:
        if len(values) <= 2 and values[-1] > 0 and whole < 0.5:
            notes.append(f"one id ({values[-1]}) for many separate objects, as in classes: "
                         "without --instances each connected piece is one object")  # fmt: skip
        return Labels(maps, 2, (), notes)
    if classes is None:
        classes = _count(values, found, whole)
    if values[-1] < classes:
        return Labels(maps, classes, tuple(range(classes)), notes)
    if classes == 2 and values in ([0, values[-1]], [values[-1]]):
        for labels in maps:
            labels[labels > 0] = 1
        return Labels(maps, 2, (0, values[-1]), notes)
    raise DataError(f"{found[values[-1]]} holds the label {values[-1]}: with --classes {classes} "
                    f"labels are 0 to {classes - 1}")  # fmt: skip


def check_options(classes: int | None, instances: bool) -> None:
    """Raise UsageError for a number of classes that cannot be."""
    if classes is not None and not 2 <= classes <= 256:
        raise UsageError(f"--classes {classes}: give 2 to 256, background included")
    if instances and classes not in (None, 2):
        raise UsageError(f"--instances means two classes, background and object: leave out "
                         f"--classes {classes}")  # fmt: skip


def _plain(name: str, raw: Raw, ignore: int | None) -> LabelMap:
    """One page as (H, W) int32 with -1 for ignored; refuses what is no whole number."""
    if raw.dtype.kind == "b":
        raw = raw.astype(np.uint8)
    flat = raw[:, :, 0]
    if raw.shape[2] > 1 and not (raw == raw[:, :, :1]).all():
        raise DataError(f"{name} is coloured ({_colours(raw)}): save one channel that holds class "
                        "numbers 0, 1, 2, ... (or instance ids)")  # fmt: skip
    if flat.dtype.kind == "f":
        fractional = flat != np.floor(flat)
        if fractional.any():
            raise DataError(f"{name} holds {flat[fractional][0]:.6g}: labels are whole "
                            "numbers; give IMAGES first and LABELS second")  # fmt: skip
    used = np.ones(flat.shape, bool) if ignore is None else flat != ignore
    flat = np.where(used, flat, 0)
    least, most = int(flat.min()), int(flat.max())
    if least < 0:
        raise LabelError(f"{name} holds the label {least}, and no class is negative: give --ignore "
                         f"{least} if it marks pixels to leave out", ignore=least)  # fmt: skip
    if most > np.iinfo(np.int32).max:
        raise DataError(f"{name} holds the label {most}: renumber the labels 0, 1, 2, ...")
    labels = flat.astype(np.int32)
    labels[~used] = -1
    return labels


def _values(labels: LabelMap) -> list[int]:
    """The distinct values, in order."""
    if labels.max() < 2**16:
        return (np.flatnonzero(np.bincount(labels.ravel() + 1)) - 1).tolist()
    return np.unique(labels).tolist()


def _colours(raw: Raw) -> str:
    """The commonest colours, as '#ff0000 → 1' where they are 8-bit: the mapping to make."""
    colours, counts = np.unique(raw.reshape(-1, raw.shape[2]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:4]
    hexed = raw.dtype == np.uint8
    shown = [
        f"#{bytes(colours[i].tolist()).hex()}" if hexed else str(tuple(colours[i].tolist()))
        for i in order
    ]
    rest = f", {len(colours) - 4} more" if len(colours) > 4 else ""
    return ", ".join(f"{colour} → {i}" for i, colour in enumerate(shown)) + rest


def _refuse_lossy(names: list[str], maps: list[LabelMap], values: list[int]) -> None:
    """Masks of 0 and 255 that went through JPEG or smooth resizing hold values near both."""
    if len(values) < 12 or values[-1] > 255:
        return
    near = [v for v in values if 0 < v < 32], [v for v in values if 224 <= v < 255]
    if not all(near):
        return
    counts = np.sum([np.bincount(m[m >= 0], minlength=256) for m in maps], axis=0)
    dark, bright, all_but_0 = counts[1:32].sum(), counts[224:].sum(), counts[1:].sum()
    if bright > 0.2 * all_but_0 and dark + bright > 0.5 * all_but_0:
        held = [len(_values(labels)) for labels in maps]
        worst = int(np.argmax(held))
        raise DataError(f"{names[worst]} holds {held[worst]} values, most of them near 0 or 255: "
                        "the mask was saved as JPEG or resized smoothly; export it again as TIFF "
                        "or PNG, or make it two values by a threshold")  # fmt: skip


def _count(values: list[int], found: dict[int, str], whole: float) -> int:
    """The number of classes where the user gave none."""
    if len(values) == 1 or (len(values) == 2 and values[0] == 0):
        return 2
    if whole >= 0.8 and (values[0] == 0 or len(values) > 8):
        raise LabelError(
            f"{found[values[-1]]} holds {values[-1]}: the labels look like instance ids (each "
            f"value is one piece); pass --instances, or --classes N if they are classes",
            instances=True,
        )
    if len(values) > MOST_CLASSES:
        raise DataError(f"the labels hold {len(values)} values, in several pieces each: give "
                        "--classes N if they are classes, --instances if they are objects, or "
                        "IMAGES first and LABELS second")  # fmt: skip
    if values == list(range(len(values))):
        return len(values)
    shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    if values[:-1] == list(range(len(values) - 1)) and values[-1] >= MOST_CLASSES:
        last = values[-1]
        raise LabelError(f"{found[last]} holds the label {last} beside 0 to {values[-2]}: give "
                         f"--ignore {last} if it marks pixels to leave out",
                         ignore=last)  # fmt: skip
    if values[-1] >= MOST_CLASSES:
        raise DataError(f"the labels are {shown}, not 0, 1, 2, ...: renumber them")
    raise LabelError(f"the labels are {shown}, not 0, 1, 2, ...: renumber them, or give --classes "
                     f"{values[-1] + 1}", classes=values[-1] + 1)  # fmt: skip


def _refuse_picture(maps: list[LabelMap], values: list[int], size: float, scattered: bool) -> None:
    """Images given as labels: many values, and hardly two neighbours with the same one."""
    covered = np.mean([(labels != 0).mean() for labels in maps])
    if scattered or (size < 4 and covered > 0.5):
        raise DataError(f"the labels hold {len(values)} values in scattered specks, like a "
                        "picture: give IMAGES first and LABELS second")  # fmt: skip


def _pieces(maps: list[LabelMap]) -> tuple[float, float]:
    """Of the objects, one value on one page each, the share that is one connected piece; and the
    median of their mean sizes of a piece, in pixels.

    A piece that holds 90 % of the object counts as all of it: hand-drawn masks have specks. Up to
    4 pages spread over the set and 32 objects of each are looked at, in 1024 x 1024 pixels.
    """
    from scipy import ndimage

    whole: list[bool] = []
    sizes: list[float] = []
    for i in np.unique(np.linspace(0, len(maps) - 1, 4).round().astype(int)):
        height, width = maps[i].shape
        y, x = max(0, height // 2 - 512), max(0, width // 2 - 512)
        part = np.maximum(maps[i][y : y + 1024, x : x + 1024], 0)
        values, compact = np.unique(part, return_inverse=True)
        compact = compact.reshape(part.shape) + (values[0] > 0)
        boxes = ndimage.find_objects(compact)
        for j in np.unique(np.linspace(0, len(boxes) - 1, 32).round().astype(int))[: len(boxes)]:
            inside = compact[boxes[j]] == j + 1
            part_of, found = ndimage.label(inside, np.ones((3, 3)))
            size = np.bincount(part_of[inside])
            whole.append(size.max() >= 0.9 * size.sum())
            sizes.append(size.sum() / found)
    return (float(np.mean(whole)), float(np.median(sizes))) if sizes else (0.0, 0.0)
