"""Write the built-in data: made-up microscope pages of touching cells, with their labels.

  unetcu synth cells                     16 pages that look like phase contrast
  unetcu synth membranes --kind em       neurites between dark membranes, as in electron micrographs
  unetcu synth large --pages 4 --size 1024 --seed 7

The folder gets images.tif (uint8) and labels.tif (uint16: 0 = background, 1, 2, 3 ... = the cells),
stacks of the same form as your own data; the command to train on them is printed. `unetcu train`
without files trains on the phase pages. Nothing is overwritten. Cells touch with no background
between them, and grey value alone does not tell cell from background: Otsu's threshold fails.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError
from ..files.paths import for_shell, shown
from ..progress import progress
from ..rng import stream

KINDS = ("phase", "em")
SMALLEST_PART = 40  # pixels: what the page's edge leaves of a cell is background if smaller
SIZES = range(64, 4097)


def make(
    seed: int, pages: int, size: int, kind: str = "phase"
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Made-up pages: images uint8 and instance ids uint16, both (pages, size, size).

    Page i depends on (seed, i, size, kind) alone. On each page the cells are numbered 1, 2, 3 ...
    and are 4-connected; 0 is background. kind: "phase" or "em". Raises UsageError.
    """
    if kind not in KINDS:
        raise UsageError(f"--kind {kind!r} is not known: give phase or em")
    if pages < 1:
        raise UsageError(f"--pages {pages} makes no sense: give 1 or more")
    if size not in SIZES:
        raise UsageError(f"--size {size} is not possible: give {SIZES[0]} to {SIZES[-1]} pixels")
    if not 0 <= seed < 2**64:
        raise UsageError(f"--seed {seed} must be at least 0 and below 2^64")
    if kind == "phase":
        from ..synth.phase import page
    else:
        from ..synth.em import page
    from ..synth.shapes import numbered

    images = np.empty((pages, size, size), np.uint8)
    instances = np.empty((pages, size, size), np.uint16)
    for i in progress(range(pages), "made-up pages"):
        grey, labels = page(stream(seed, i, f"synth {kind}"), size)
        images[i] = np.clip(np.rint(grey), 0, 255)
        instances[i] = numbered(labels, SMALLEST_PART)
    return images, instances


def write(folder: Path, seed: int, pages: int, size: int, kind: str = "phase") -> tuple[Path, Path]:
    """Make pages and write them as FOLDER/images.tif and FOLDER/labels.tif; returns both paths.

    The folder is made if it is not there. Raises DataError where a file is in the way.
    """
    from ..files.imagewrite import write_tiff

    paths = folder / "images.tif", folder / "labels.tif"
    for path in paths:  # before the work, not after it
        if path.exists() or path.is_symlink():
            raise DataError(f"{shown(path)} exists already: name another folder")
    images, instances = make(seed, pages, size, kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be made: {error.strerror}") from error
    write_tiff(paths[0], images, imagej=True)
    write_tiff(paths[1], instances, imagej=True)
    return paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `unetcu synth`."""
    parser.add_argument("folder", metavar="DIR", help="folder to write to; made if not there")
    parser.add_argument("--kind", choices=KINDS, default="phase", help="what the pages look like")
    parser.add_argument("--pages", type=int, default=16, metavar="N", help="number of pages")
    parser.add_argument("--size", type=int, default=320, metavar="N", help="pixels of a side")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other seed, other pages")


def run(args: argparse.Namespace) -> int:
    """Write the stacks and say what they are and how to train on them."""
    paths = write(Path(args.folder), args.seed, args.pages, args.size, args.kind)
    files = " ".join(for_shell(path) for path in paths)
    print(
        f"{args.pages} {args.kind} pages of {args.size} x {args.size} (uint8), cells numbered "
        f"(uint16), seed {args.seed}; train with: unetcu train {files} --instances"
    )
    return 0
