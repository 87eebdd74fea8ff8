"""Predictions in files, beside the truth they are to be compared with.

    compared = pair("predicted", "labels.tif", instances=True)
    compared.kind                     # "probability", "classes" or "instances"
    for page in compared.pages: ...   # a prediction and its truth, of one size

A file of floating-point numbers is a probability of foreground; so is one of whole numbers whose
name ends in _probability, as `predict --bits 8` writes it. Whole numbers are instance ids
where the truth is (`instances`), unless they are all the same, and class ids otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data import check_pair
from ..data.labels import interpret
from ..data.pairing import SUFFIXES, Name, find_pairs, list_files
from ..errors import DataError
from ..files.images import Stack, open_stack
from ..files.paths import shown
from ..weightmap import instances_of

Ids = NDArray[np.integer]
Plane = tuple[Stack, int]  # one page of a file

# How `predict` names what it writes for the image NAME: NAME_probability.tif and so on.
ENDINGS = {"probability": "_probability", "classes": "_classes", "instances": "_instances"}


class Page(NamedTuple):
    """prediction: (H, W) probability of foreground in [0, 1], or class ids, or instance ids.

    truth: (H, W) class ids or instance ids, -1 = ignored.
    """

    prediction: NDArray[Any]
    truth: Ids


@dataclass
class Compared:
    """kind: what the prediction is. instances: the truth is instance ids (else class ids).

    classes: number of classes of the truth. names: of the predicted pages, "file" or "file[page]".
    pages: a probability is read from its file whenever its page is asked for. notes: one-line
    remarks for the user.
    """

    kind: str
    instances: bool
    classes: int
    names: list[str]
    pages: Sequence[Page]
    notes: list[str]


def pair(
    prediction: Name,
    truth: Name,
    *,
    classes: int | None = None,
    instances: bool = False,
    ignore: int | None = None,
) -> Compared:
    """Open a prediction and its truth: two files, two folders, or a folder and a file.

    classes, instances, ignore: how to read the truth, as in `data.load`. In a folder that
    `predict` wrote, the files of one kind are taken. With `instances`, truth that holds a single
    value besides 0 is taken as a mask, whose 4-connected parts are the objects.
    Raises DataError, in one line, where prediction and truth do not fit together page by page.
    """
    true_files, notes = _files(Path(truth))
    true = _planes(true_files)
    maps, classes, more = _truth(true, classes, instances, ignore)
    guessed_files, left_out = _predicted_files(Path(prediction), instances, classes)
    guessed = _planes(_in_order(guessed_files, true_files))
    _check_fit(guessed, true)
    remarks = (f"{shown(s.path)}: {note}" for s, _ in guessed + true for note in s.notes)
    notes = list(dict.fromkeys([*notes, *left_out, *remarks, *more]))
    names = [_name(*plane) for plane in guessed]
    if guessed[0][0].dtype.kind == "f" or _whole_probabilities(guessed[0][0]):
        if classes > 2:
            raise DataError(f"{names[0]} is a probability of foreground and the truth has "
                            f"{classes} classes: give the class mask instead")  # fmt: skip
        read = _Probabilities(names, guessed, maps)
        return Compared("probability", instances, classes, names, read, notes)
    found: list[Ids] = [_grey(*plane) for plane in guessed]
    for name, ids in zip(names, found, strict=True):
        if ids.min() < 0:
            raise DataError(f"{name} holds {ids.min()}: class and instance ids are 0 or more")
    kind = "instances" if instances and not _one_value(found) else "classes"
    if kind == "classes":
        found = _classes(found, names, classes)
    pages = [Page(p, t) for p, t in zip(found, maps, strict=True)]
    return Compared(kind, instances, classes, names, pages, notes)


def _whole_probabilities(stack: Stack) -> bool:
    """Is it a probability that `predict --bits` wrote as whole numbers?"""
    return stack.dtype.kind == "u" and stack.path.stem.endswith(ENDINGS["probability"])


class _Probabilities(Sequence[Page]):
    """Pages whose probability is read when they are asked for, and not kept."""

    def __init__(self, names: list[str], planes: list[Plane], truth: list[Ids]) -> None:
        self._names, self._planes, self._truth = names, planes, truth

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        values = _grey(*self._planes[index])
        if values.dtype.kind == "u":
            values = values / np.float32(np.iinfo(values.dtype).max)
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:
            raise DataError(f"{self._names[index]} holds {low if low < 0 else high:.6g}: a "
                            "probability lies from 0 to 1")  # fmt: skip
        return Page(values, self._truth[index])


def images_of(images: Name, truth: Name) -> list[Plane]:
    """The image of each page of the truth. Raises DataError where they do not fit."""
    of = {label: image for image, label in find_pairs(images, truth)[0]}
    files = [(of[file], file) for file in _files(Path(truth))[0]]
    for image, file in files:
        check_pair(open_stack(image), open_stack(file))
    return _planes([image for image, _ in files])


# Values ------------------------------------------------------------------------------------


def _truth(
    planes: list[Plane], classes: int | None, instances: bool, ignore: int | None
) -> tuple[list[Ids], int, list[str]]:
    """The true maps, the number of classes, and remarks."""
    raw = [(_name(*plane), plane[0][plane[1]]) for plane in planes]
    read = interpret(raw, classes=classes, instances=instances, ignore=ignore)
    maps: list[Ids] = list(read.maps)
    if instances and _one_value(maps):
        maps = [np.where(ids < 0, -1, instances_of(ids)) for ids in read.maps]
        name = raw[0][0].partition("[")[0]
        return maps, 2, [f"{name} holds one value besides 0: its connected parts are the objects"]
    return maps, read.classes, read.notes


def _one_value(maps: list[Ids]) -> bool:
    """Whether these are a mask, every object of all pages having the same id."""
    return len({int(v) for ids in maps for v in np.unique(ids[ids > 0])}) == 1


def _classes(maps: list[Ids], names: list[str], classes: int) -> list[Ids]:
    """Class ids; of two classes, the foreground may be stored as any one value."""
    held = {int(v): name for name, ids in zip(names, maps, strict=True) for v in np.unique(ids)}
    values = sorted(held)
    if values[-1] < classes:
        return maps
    if classes == 2 and values in ([0, values[-1]], [values[-1]]):
        return [(ids > 0).astype(np.int32) for ids in maps]
    raise DataError(f"{held[values[-1]]} holds {values[-1]} and the truth has {classes} classes: a "
                    f"class mask holds 0 to {classes - 1}, a probability floating-point numbers, "
                    "and for instance ids say --instances")  # fmt: skip


# Files -------------------------------------------------------------------------------------


def _files(path: Path) -> tuple[list[Path], list[str]]:
    return list_files(path) if path.is_dir() else ([path], [])


def _predicted_files(path: Path, instances: bool, classes: int) -> tuple[list[Path], list[str]]:
    """The files to score; of several kinds in a folder, those that tell most."""
    if not path.is_dir():
        return [path], []
    files, notes = list_files(path)
    best = "instances" if instances else "probability" if classes == 2 else "classes"
    for kind in (best, *ENDINGS):
        chosen = [file for file in files if file.stem.endswith(ENDINGS[kind])]
        if chosen:
            return chosen, [f"scored are the files {shown(path)}/*{ENDINGS[kind]}.*"]
    return files, notes


def _in_order(guessed: list[Path], true: list[Path]) -> list[Path]:
    """The predicted files in the order of the true ones; a single pair may have any names."""
    if len(guessed) == len(true) == 1:
        return guessed
    by_name: dict[str, Path] = {}
    for file in guessed:
        ending = next((e for e in ENDINGS.values() if file.stem.endswith(e)), "")
        other = by_name.setdefault(file.stem.removesuffix(ending), file)
        if other is not file:
            raise DataError(f"{shown(other)} and {shown(file.name)} predict the same image: keep "
                            "one of them in the folder")  # fmt: skip
    ordered = []
    for file in true:
        names = [file.stem, *(file.stem.removesuffix(suffix) for suffix in SUFFIXES)]
        match = next((by_name.pop(name) for name in names if name in by_name), None)
        if match is None:
            raise DataError(f"no prediction is named like {shown(file)}: name both alike, or give "
                            "one file each")  # fmt: skip
        ordered.append(match)
    if by_name:
        raise DataError(f"no truth is named like {shown(min(by_name.values()))}: name both alike, "
                        "or take it out of the folder")  # fmt: skip
    return ordered


def _planes(files: list[Path]) -> list[Plane]:
    return [(stack, page) for stack in map(open_stack, files) for page in range(stack.pages)]


def _name(stack: Stack, page: int) -> str:
    name = shown(stack.path.name)
    return name if stack.pages == 1 else f"{name}[{page}]"


def _grey(stack: Stack, page: int) -> NDArray[Any]:
    if stack.channels != 1:
        raise DataError(f"{shown(stack.path)} has {stack.channels} channels: a prediction has one")
    return stack[page][:, :, 0]


def _check_fit(guessed: list[Plane], true: list[Plane]) -> None:
    if len(guessed) != len(true):
        raise DataError(f"pages predicted: {len(guessed)}, pages of truth: {len(true)}: every page "
                        "needs its truth")  # fmt: skip
    for (p, i), (t, j) in zip(guessed, true, strict=True):
        if (p.height, p.width) != (t.height, t.width):
            raise DataError(f"{_name(p, i)} is {p.height} × {p.width} pixels and its truth "
                            f"{_name(t, j)} {t.height} × {t.width}: they must be of one "
                            "size")  # fmt: skip
