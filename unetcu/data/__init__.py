"""Images with their labels, read from files, as training sees them.

    dataset = load("train-volume.tif", "train-labels.tif")
    training, validation = split(dataset, "auto", seed=0)
    print(dataset.range)
    print(describe_split(dataset, training, validation))
    x = dataset.range.apply(dataset.images[training[0]])

Read are: a pair of files of one or many pages; two folders, paired by file name (pairing.py); one
folder that holds images/ and labels/ (or masks/). What label values mean: labels.py. How images
are normalised: ranges.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ..data import ranges
from ..data.dataset import Dataset
from ..data.labels import check_options, interpret
from ..data.pairing import Name, Pair, find_pairs
from ..data.splits import describe_split, split, split_warnings
from ..errors import DataError
from ..files.images import Stack, open_stack
from ..files.paths import shown
from ..progress import progress

__all__ = ["Dataset", "check_pair", "describe_split", "load", "split", "split_warnings"]

HELD = 2**30  # bytes of images kept in memory; a larger set is decoded when it is used


@dataclass
class _Pages:
    """All pages of a data set, opened but not decoded; entry i of each list is image i."""

    images: list[tuple[Stack, int]] = field(default_factory=list)
    labels: list[tuple[Stack, int]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _OnDisk(Sequence[NDArray[Any]]):
    """Pages that are decoded when they are asked for, and not kept."""

    def __init__(self, pages: list[tuple[Stack, int]]) -> None:
        self._pages = pages

    def __len__(self) -> int:
        return len(self._pages)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _OnDisk(self._pages[index])
        stack, page = self._pages[index]
        return stack[page]


def load(
    images: Name,
    labels: Name | None = None,
    *,
    classes: int | None = None,
    instances: bool = False,
    ignore: int | None = None,
    range: str = "auto",
) -> Dataset:
    """Read a data set.

    images, labels: files or folders, as the head of this module says.
    classes: number of classes, where the labels do not tell. instances: labels are ids of single
    objects. ignore: label value of pixels to leave out of the training. range: "auto" or one of
    ranges.KINDS.
    Raises DataError for data that cannot be used, UsageError for options that make no sense.
    """
    ranges.check_kind(range)
    check_options(classes, instances)
    pairs, notes = find_pairs(images, labels)
    pages = _open(pairs)
    names = [_page_name(*page) for page in pages.images]
    marked = interpret(
        ((_page_name(stack, i), stack[i]) for stack, i in progress(pages.labels, "labels")),
        classes=classes,
        instances=instances,
        ignore=ignore,
    )
    read: Sequence[NDArray[Any]] = _OnDisk(pages.images)
    size = sum(s.height * s.width * s.channels * s.dtype.itemsize for s, _ in pages.images)
    if size <= HELD:
        read = [stack[i] for stack, i in progress(pages.images, "images")]
    return Dataset(
        images=read,
        labels=marked.maps,
        names=names,
        files=pages.files,
        classes=marked.classes,
        instances=instances,
        range=ranges.fit(read, range),
        values=marked.values,
        notes=notes + pages.notes + marked.notes,
    )


def _open(pairs: Sequence[Pair]) -> _Pages:
    """Open every pair and see that its files, and all images, fit together."""
    pages = _Pages()
    remarks: dict[str, list[str]] = {}
    for number, pair in enumerate(progress(pairs, "opening files")):
        image, label = map(open_stack, pair)
        check_pair(image, label)
        _check_alike(pages.images[0][0] if pages.images else image, image)
        pages.images += [(image, i) for i in range(image.pages)]
        pages.labels += [(label, i) for i in range(label.pages)]
        pages.files += [number] * image.pages
        for stack in (image, label):
            for note in stack.notes:
                remarks.setdefault(note, []).append(shown(stack.path))
    for note, of in remarks.items():
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        pages.notes.append(f"{of[0]}{more}: {note}")
    return pages


def check_pair(image: Stack, label: Stack) -> None:
    """An image file and its label file must have the same pages of the same size, or DataError."""
    if image.pages != label.pages:
        raise DataError(f"{shown(image.path)} has {_count(image.pages, 'page')} and "
                        f"{shown(label.path)} {label.pages}: every image needs one label of its "
                        "own")  # fmt: skip
    if (image.height, image.width) != (label.height, label.width):
        raise DataError(f"{shown(image.path)} is {image.height} × {image.width} pixels and "
                        f"{shown(label.path)} {label.height} × {label.width}: a label has the "
                        "size of its image")  # fmt: skip


def _check_alike(first: Stack, other: Stack) -> None:
    """One network sees all images, so they have one type and one number of channels."""
    if first.channels != other.channels:
        raise DataError(f"{shown(first.path)} has {_count(first.channels, 'channel')} and "
                        f"{shown(other.path)} {other.channels}: all images need the "
                        "same")  # fmt: skip
    if first.dtype.name != other.dtype.name:
        raise DataError(f"{shown(first.path)} is {first.dtype.name} and {shown(other.path)} "
                        f"{other.dtype.name}: convert all images to one type")  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _page_name(stack: Stack, page: int) -> str:
    name = shown(stack.path.name)
    return name if stack.pages == 1 else f"{name}[{page}]"
