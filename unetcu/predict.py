"""Segment images of any size with a trained network.

  unetcu predict -m runs/cells-1/best.safetensors more.tif -o predicted
  unetcu predict -m best.safetensors folder/ a.tif b.png -o predicted --instances
  unetcu predict -m best.safetensors huge.tif -o predicted --memory 2G --tta mirror

IMAGES are TIFF stacks and PNG images, or folders of them. For an image NAME.tif, OUT then holds
  NAME_probability.tif   of foreground, 0 to 1, a page for each page of the image
                         (three classes or more: NAME_probability_1.tif, _2 and so on; what
                         they lack to 1 is the probability of background, class 0)
  NAME_classes.tif       0 = background, 1, 2 ...: the most probable class (see --threshold)
  NAME_confidence.tif    with --confidence: how probable the most probable class is
  NAME_instances.tif     with --instances: the objects of each page, numbered 1, 2, 3 ...
  NAME_overlay.png       the first page with the result drawn on it: look at it first

An image is predicted tile by tile, with mirrored borders, and never loaded whole, so its size
does not matter. Only --instances needs memory for a whole page, about 44 bytes a pixel.

On the CPU the convolutions take a fast form, whose rounding errors are larger and depend on the
tiles: the same --tile gives the same bytes with any --threads and --memory, another --tile moves
the last digits. How far it is from the exact form is measured on one tile and said. --exact takes
1.6 to 2.5 times as long and gives exactly the result of the whole image in one piece, whatever
--tile is (with --tta rot7, nearly exactly). Without the compiled module all is exact.

Give images made like those it was trained on: channels, magnification, kind of contrast.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import checkpoint, threads
from .data.pairing import list_files
from .data.ranges import Range
from .device import DEVICE_HELP, describe
from .errors import CheckpointError, UsageError
from .files.paths import shown
from .infer import VIEWS
from .memory import human, parse_bytes
from .outputs import BITS, paths_of
from .precision import FORMS, PRECISION_HELP
from .scores.instances import Rule
from .stackwise import Job, needed_bytes, predict_stack, say
from .tiles import border, nearest_valid
from .training.interrupts import Interrupts
from .unet import UNet

Name = str | os.PathLike[str]

TILE = 572  # input pixels, the paper's


def predict(
    model: Name,
    images: Name | Sequence[Name],
    out: Name,
    *,
    tile: int | None = None,
    tta: str = "none",
    threshold: float | None = None,
    instances: bool = False,
    min_size: int | None = None,
    overlay: bool = True,
    confidence: bool = False,
    bits: int = 32,
    memory: int | None = None,
    exact: bool = False,
    precision: str = "auto",
    device: str = "auto",
    overwrite: bool = False,
) -> list[Path]:
    """Predict images and return the paths of the files written; prints as the command does.

    model: a file that training wrote. images: files or folders. out: a folder, made if missing.
    tile: input pixels of a tile (default: `default_tile`). tta, exact: see infer.probabilities.
    threshold, overlay, confidence, bits: see outputs.Outputs. instances: number the objects; how
    they are found says the model, but for threshold and min_size where these are given. memory:
    bytes that the process may take. precision: as of UNet; exact means fp32. Raises UnetcuError
    (errors.py) for bad input; what can be seen to be wrong before the work is refused before it.
    """
    if tta not in VIEWS:
        raise UsageError(f"--tta {tta} is not known: give one of {', '.join(VIEWS)}")
    if bits not in BITS:
        raise UsageError(f"--bits {bits} is not known: give one of {', '.join(map(str, BITS))}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: give a probability, from 0 to 1")
    if min_size is not None and min_size < 0:
        raise UsageError(f"--min-size {min_size}: give 0 or more pixels")
    if min_size is not None and not instances:
        raise UsageError(f"--min-size {min_size} is about objects: add --instances")
    net, rule, objects, trained = _model(model, device, "fp32" if exact else precision)
    if threshold is not None:
        objects = replace(objects, threshold=threshold)
    if min_size is not None:
        objects = replace(objects, min_size=min_size)
    size = default_tile(net.depth) if tile is None else tile
    _check_tile(size, net.depth)
    images = [images] if isinstance(images, str | os.PathLike) else images
    files, notes = _files(images)
    options = {
        "threshold": threshold,
        "objects": objects if instances else None,
        "overlay": overlay,
        "confidence": confidence,
        "bits": bits,
        "overwrite": overwrite,
    }
    job = Job(net, rule, size - 2 * border(net.depth), tta, exact, Path(out), options)
    needs = {file: needed_bytes(job, file) for file in files}
    _check_places(images, files, job)
    hungriest = max(needs, key=lambda file: needs[file])
    if memory is not None and needs[hungriest] > memory:
        raise UsageError(
            f"--memory {human(memory)} is too little for {shown(hungriest.name)}, --tile {size}: "
            f"give at least {math.ceil(needs[hungriest] / 1e6)}M, or a smaller tile"
        )
    config = ", ".join(f"{k} {v}" for k, v in net.config.items() if k != "dropout")
    say(f"model: {shown(model)}, {config}; {rule}")
    about = f"tiles {size} -> {job.tile_out}, about {human(needs[hungriest])} of memory"
    say(f"device: {describe(device)}; {about}")
    for note in notes:
        say(note)
    if instances and threshold is not None and threshold >= objects.seed > 0:
        say(f"--threshold {threshold:g} is not below {objects.seed:g}, from where the model's rule "
            "looks for summits: touching objects stay in one piece")  # fmt: skip
    if trained and not instances:
        say("the model was trained on instances: --instances numbers the objects")
    job.folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with Interrupts() as stop:
        for file in files:
            written += predict_stack(job, file, stop, compare=not (exact or written))
    return written


def default_tile(depth: int) -> int:
    """The input size of a tile where none is asked for, in pixels: the paper's 572 to depth 5."""
    return nearest_valid(max(TILE, 2 * border(depth) + 4 * 2**depth), depth)[1]


def _model(model: Name, device: str, precision: str) -> tuple[UNet, Range, Rule, bool]:
    """The network, its range, how it finds objects, and whether labels were instances."""
    saved = checkpoint.load(model)
    gap = saved.meta.get("gap", 1)
    try:
        if type(gap) is not int or not 0 <= gap <= 99:
            raise CheckpointError("the model's gap is no number of pixels")
        rule = Range.from_dict(saved.meta["range"])
        objects = saved.meta.get("objects")
        found = Rule(grow=gap) if objects is None else Rule.from_dict(objects)
        return saved.network(device, precision), rule, found, saved.meta["instances"]
    except CheckpointError as error:
        raise CheckpointError(f"{shown(model)}: {error}") from error


def _check_tile(size: int, depth: int) -> None:
    below, above = nearest_valid(size, depth)
    if below != size:
        raise UsageError(
            f"--tile {size} does not fit a U-Net of depth {depth}: the nearest tiles are "
            f"{below} and {above}"
        )


def _files(images: Sequence[Name]) -> tuple[list[Path], list[str]]:
    """The files given, and those of the folders given, and remarks."""
    files: list[Path] = []
    notes: list[str] = []
    for given in map(Path, images):
        inside, remarks = list_files(given) if given.is_dir() else ([given], [])
        files += inside
        notes += remarks
    if not files:
        raise UsageError("no images: give files or folders")
    return files, notes


def _check_places(images: Sequence[Name], files: list[Path], job: Job) -> None:
    """Refuse an output that exists, stands for two images, or lies among the images."""
    folder, options = job.folder, job.options
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(f"{shown(there)} is a file: -o needs a folder, a new one or one of yours")
    where = Path(os.path.realpath(folder))
    for given in images:
        if os.path.isdir(given) and where.is_relative_to(os.path.realpath(given)):
            raise UsageError(
                f"-o {shown(folder)} lies in the folder of the images: name one outside of it"
            )
    taken: dict[Path, Path] = {}
    for file in files:
        kinds = {k: options[k] for k in ("overlay", "confidence")}
        kinds["instances"] = options["objects"] is not None
        for path in paths_of(file.stem, folder, job.net.classes, **kinds).values():
            other = taken.setdefault(path, file)
            if other is not file:
                raise UsageError(
                    f"{shown(other)} and {shown(file)} would both be predicted into {shown(path)}: "
                    "predict them into two folders"
                )
            if os.path.lexists(path) and not options["overwrite"]:
                raise UsageError(
                    f"{shown(path)} exists already: name another folder, or add --overwrite"
                )
    inputs = {Path(os.path.realpath(file)): file for file in files}
    for path in taken:
        if where / path.name in inputs:
            raise UsageError(f"{shown(path)} would be written over the image: name another folder")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGES", help="image files, or folders of them")
    add("-m", "--model", required=True, help="a model file, RUN/best.safetensors")
    add("-o", "--out", required=True, help="the folder to write to, made if it is missing")
    add("--tile", type=int, metavar="PIXELS", help="input size of a tile (default: 572); changes "
        "speed and memory, and of the result the last digits, with --exact nothing")  # fmt: skip
    add("--tta", choices=VIEWS, default="none", help="mean over views of each tile: 8 mirrored and "
        "turned ones, or 7 rotations as in the paper; takes 8 or 10 times as long")  # fmt: skip
    add("--threshold", type=float, metavar="P", help="foreground is where its probability is above "
        "P (default: where a class is more probable than background)")  # fmt: skip
    add("--instances", action="store_true", help="number the objects: connected parts of the "
        "foreground, cut where it has several summits, by the rule that training chose and "
        "stored in the model")  # fmt: skip
    add("--min-size", type=int, metavar="PIXELS", help="of an instance (default: the model's)")
    add("--no-overlay", dest="overlay", action="store_false", help="write no pictures")
    add("--confidence", action="store_true", help="also write NAME_confidence.tif, the probability "
        "of the most probable class: low where a human should look")  # fmt: skip
    add("--bits", type=int, choices=BITS, default=32, help="of probabilities and confidence: 32, "
        "floating point; 16 or 8, whole numbers, the largest of which stands for 1")  # fmt: skip
    add("--memory", metavar="SIZE", help="refuse to start where more than this would be needed, "
        "such as 2G or 500M")  # fmt: skip
    add("--exact", action="store_true", help="every bit is that of the whole image in one piece, "
        "in about twice the time (default: fast; the difference is measured and said)")  # fmt: skip
    add("--precision", default="auto", choices=("auto", *FORMS), help=PRECISION_HELP)
    add("--overwrite", action="store_true", help="replace results that are there already")
    add("--device", default="auto", help=DEVICE_HELP)
    add("--threads", type=int, metavar="N", help="CPU threads; results are the same")


def run(args: argparse.Namespace) -> int:
    """The command `unetcu predict`."""
    options = dict(vars(args))
    count, images, out = options.pop("threads"), options.pop("images"), options.pop("out")
    if count is not None:
        threads.set_count(count)
    options["memory"] = None if args.memory is None else parse_bytes(args.memory)
    predict(options.pop("model"), images, out, **options)
    return 0


if __name__ == "__main__":
    from .cli import main

    sys.exit(main("predict"))
