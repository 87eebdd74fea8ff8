"""Which file holds the labels of which image.

Two files are a pair (two stacks, say). Two folders are paired by the names of their files up to
the extension; a label's name may carry _mask, _masks, _label or _labels besides. Nothing is
paired by position, and nothing is left over in silence.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..files.paths import shown

EXTENSIONS = (".tif", ".tiff", ".png")
SUFFIXES = ("_masks", "_mask", "_labels", "_label")
PARENTS_OF_LABELS = ("labels", "masks")

Name = str | os.PathLike[str]
Pair = tuple[Path, Path]


def find_pairs(images: Name, labels: Name | None) -> tuple[list[Pair], list[str]]:
    """The (image file, label file) pairs of a data set, in natural order of names, and remarks.

    images, labels: two files, or two folders; or one folder that holds folders images/ and labels/
    (or masks/), with labels None. Raises DataError where the pairs are not beyond doubt.
    """
    for name in (images, labels):
        if name is not None and not os.path.exists(name):
            raise DataError(f"{shown(name)} does not exist: give files or folders that do")
    images, labels = (images, labels) if labels is not None else _children(Path(images))
    images, labels = Path(images), Path(labels)
    if images.is_dir() != labels.is_dir():
        folder, file = (images, labels) if images.is_dir() else (labels, images)
        raise DataError(f"{shown(folder)} is a folder and {shown(file)} is not: give two files or "
                        "two folders")  # fmt: skip
    _refuse_same(images, labels)
    if not images.is_dir():
        return [(images, labels)], []
    image_files, notes = list_files(images)
    label_files, more = list_files(labels)
    by_stem = _by_stem(image_files)
    of: dict[str, list[Path]] = {stem: [] for stem in by_stem}
    stray = []
    for file in label_files:
        stem = _stem_of(file, of)
        if stem is None:
            stray.append(file)
        else:
            of[stem].append(file)
    for stem, files in of.items():
        if len(files) > 1:
            raise DataError(f"{shown(by_stem[stem])} has two labels, {shown(files[0])} and "
                            f"{shown(files[1].name)}: keep one of them in the folder")  # fmt: skip
    bare = [by_stem[stem] for stem, files in of.items() if not files]
    if bare:
        raise DataError(f"no label in {shown(labels)} for {_some(bare)}: labels are named like "
                        "their image, with or without _mask or _label")  # fmt: skip
    if stray:
        raise DataError(f"no image in {shown(images)} for {_some(stray)}: labels are named like "
                        "their image, with or without _mask or _label")  # fmt: skip
    pairs = [(by_stem[stem], files[0]) for stem, files in of.items()]
    for pair in pairs:
        _refuse_same(*pair)
    return pairs, notes + more


def list_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The TIFF and PNG files of a folder in natural order (2 before 10), and remarks.

    Hidden files are left out without a word, everything else that is no TIFF or PNG with a remark.
    Raises DataError if there is no such file, or the folder cannot be read.
    """
    try:
        entries = [e for e in os.scandir(folder) if not e.name.startswith(".")]
        folders = [e for e in entries if e.is_dir()]
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be read: {error.strerror}") from error
    files = [folder / e.name for e in entries if e not in folders]
    read = [f for f in files if f.suffix.lower() in EXTENSIONS]
    others = [f for f in files if f not in set(read)]
    if not read:
        holds = _some(others or [folder / e.name for e in folders]) if entries else "nothing"
        raise DataError(f"{shown(folder)} holds no TIFF or PNG file but {holds}: give the folder "
                        "of the files themselves")  # fmt: skip
    notes = []
    if others:
        notes.append(f"{shown(folder)}: left out, no TIFF or PNG: {_some(sorted(others))}")
    if folders:
        inner = sorted(folder / e.name for e in folders)
        notes.append(f"{shown(folder)}: folders inside are left out: {_some(inner)}")
    return sorted(read, key=_natural), notes


def _children(folder: Path) -> Pair:
    """images/ and labels/ (or masks/) inside a folder that was given alone."""
    if not os.path.isdir(folder):
        raise DataError(f"{shown(folder)} was given without labels: give IMAGES and LABELS, or a "
                        "folder that holds images/ and labels/")  # fmt: skip
    found = [folder / name for name in PARENTS_OF_LABELS if (folder / name).is_dir()]
    if len(found) == 2:
        raise DataError(f"{shown(folder)} holds both labels/ and masks/: give IMAGES and LABELS")
    if not found or not (folder / "images").is_dir():
        raise DataError(f"{shown(folder)} holds no folders images/ and labels/ (or masks/): give "
                        "IMAGES and LABELS")  # fmt: skip
    return folder / "images", found[0]


def _by_stem(files: Sequence[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for file in files:
        stem = _stem(file)
        if stem in by_stem:
            raise DataError(f"{shown(by_stem[stem])} and {shown(file.name)} are two images of "
                            "one name: keep one of them in the folder")  # fmt: skip
        by_stem[stem] = file
    return by_stem


def _stem(file: Path) -> str:
    """The name up to the extension; macOS may have stored the same letters in another form."""
    return unicodedata.normalize("NFC", file.stem)


def _stem_of(label: Path, images: dict[str, list[Path]]) -> str | None:
    """The image's stem; a name that fits as it is goes before one that fits without its suffix."""
    stem = _stem(label)
    for suffix in ("", *SUFFIXES):
        if stem.endswith(suffix) and stem.removesuffix(suffix) in images:
            return stem.removesuffix(suffix)
    return None


def _refuse_same(image: Path, label: Path) -> None:
    try:
        same = os.path.samefile(image, label)
    except (OSError, ValueError):
        return  # one is missing or unreadable: opening it says so
    if same:
        raise DataError(f"{shown(image)} and {shown(label)} are one and the same: give the images "
                        "first and their labels second")  # fmt: skip


def _some(files: Sequence[Path]) -> str:
    """At most three names, and how many more there are."""
    names = ", ".join(shown(file.name) for file in files[:3])
    return names + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _natural(file: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Runs of digits count as numbers, so that page 2 comes before page 10."""
    parts = re.split("([0-9]+)", file.stem)
    return [(0, int(p)) if p.isdecimal() and p.isascii() else (1, p) for p in parts], file.name
