"""Tell what was read from a data set, what looks wrong in it, and which flags of train fit it.

  unetcu check train-volume.tif train-labels.tif      two stacks, one page an image
  unetcu check images/ masks/                         two folders, paired by file name
  unetcu check folder                                 a folder with images/ and labels/ in it
  unetcu check images.tif cells.tif --instances       every object has a number of its own

Nothing is written. The last line is the command to train with; the rest says why. A warning is
a suspicion, not an error: look at the images it names. Data that cannot be used is refused in one
line that says what to do.
"""

import argparse
import json
import shutil
import sys
import textwrap
from collections import Counter
from typing import Any

from .data import Dataset, describe_split, load, split, split_warnings, survey
from .data.labels import LabelError
from .data.pairing import Name
from .files.paths import for_shell
from .tiles import border, nearest_valid
from .training.recipes import about, recipe
from .training.settings import Settings, from_flags


def check(
    images: Name,
    labels: Name | None = None,
    *,
    classes: int | None = None,
    instances: bool = False,
    ignore: int | None = None,
    range: str = "auto",
    val: str = "auto",
) -> dict[str, Any]:
    """Everything `unetcu check` prints, as plain dicts, lists, strings and numbers (JSON).

    The arguments are those of `data.load` and `data.split`. Where the labels only make sense with
    an option that was not given (instance ids, a void value), it is tried and suggested.
    Raises DataError and UsageError as `load` and `split` do.
    """
    options: dict[str, Any] = {"classes": classes, "instances": instances, "ignore": ignore}
    notes = []
    while True:
        try:
            dataset = load(images, labels, range=range, **options)
            break
        except LabelError as error:
            if any(_given(options[name]) for name in error.options):
                raise
            options |= error.options
            notes.append(f"read with {_words(error.options)}, because {error}")
    notes += dataset.notes
    warnings = []
    if len(dataset) == 1 and val == "auto":
        val = "none"
        warnings.append("one image only: no other is left for validation")
    training, validation = split(dataset, val, seed=0)
    light, balance = survey.brightness(dataset), survey.balance(dataset)
    objects = survey.objects(dataset)
    warnings += split_warnings(dataset, training, validation)
    warnings += _about(light["constant"], "the same value in every pixel")
    if len(balance["background_only"]) == len(dataset):
        warnings.append("all labels are background: nothing can be learnt")
    else:
        notes += _about(balance["background_only"], "no foreground in the labels")
    warnings += survey.doubts(dataset)
    flags = _flags(dataset, options, objects, val, validation)
    if "recipe" in flags:
        name = flags["recipe"]
        notes.append(f"this looks like what the recipe {name} is for: {about(recipe(name))}")
    sizes = Counter(f"{image.shape[0]} × {image.shape[1]}" for image in dataset.images)
    return {
        "images": {
            "count": len(dataset),
            "files": len(set(dataset.files)),
            "sizes": dict(sizes.most_common()),
            "channels": dataset.images[0].shape[2],
            "dtype": dataset.range.dtype,
            **light,
        },
        "labels": {"kind": "instances" if dataset.instances else "classes", **balance},
        "objects": {"kind": "instance" if dataset.instances else "connected piece", **objects},
        "range": str(dataset.range),
        "validation": describe_split(dataset, training, validation),
        "warnings": warnings,
        "notes": notes,
        "flags": flags,
        "command": _command(images, labels, flags),
    }


def _about(names: list[str], what: str) -> list[str]:
    """A line on the images it is about; none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what}: {', '.join(names[:3])}{more}"]


def _flags(
    dataset: Dataset,
    options: dict[str, Any],
    objects: dict[str, Any],
    val: str,
    validation: list[int],
) -> dict[str, Any]:
    """The flags of train that this data calls for, by name; where the default fits, none."""
    likeness = survey.alike(dataset)
    usual = Settings() if likeness is None else from_flags(argparse.Namespace(), recipe(likeness))
    flags: dict[str, Any] = {} if likeness is None else {"recipe": likeness}
    flags |= {k: v for k, v in options.items() if _given(v) and v != getattr(usual, k)}
    flags["range"] = dataset.range.kind
    # The net should see an object whole; one more pooling doubles how far it sees.
    depth = usual.depth + (objects["diameter"][0] > 2 * border(usual.depth))
    out = usual.tile - 2 * border(usual.depth)
    smallest = min(min(image.shape[:2]) for image in dataset.images)
    tile = nearest_valid(min(out, smallest) + 2 * border(depth), depth)[0]
    if depth != usual.depth:
        flags["depth"] = depth
    if tile != usual.tile:
        flags["tile"] = tile
    if val == "auto" and len(set(dataset.files)) == 1:
        first, last = validation[0], validation[-1]
        val = f"pages {first}-{last}" if first < last else f"pages {first}"
    flags["val"] = "0.2" if val == "auto" else val
    return flags


def _given(value: Any) -> bool:
    return value is not None and value is not False


def _words(flags: dict[str, Any]) -> str:
    return " ".join(f"--{k}" if v is True else f"--{k} {v}" for k, v in flags.items())


def _command(images: Name, labels: Name | None, flags: dict[str, Any]) -> str:
    files = (for_shell(name) for name in (images, labels) if name is not None)
    return " ".join(["unetcu train", *files, _words(flags)])


def report(found: dict[str, Any]) -> str:
    """The result of `check` as aligned lines for a reader, the command last."""
    images, labels, objects = found["images"], found["labels"], found["objects"]
    sizes = list(images["sizes"])
    first = f"{images['count']:,} in {_count(images['files'], 'file')}, {sizes[0]} pixels"
    if len(sizes) > 1:
        first += f" and {_count(len(sizes) - 1, 'other size')}"
    (low, high), (least, most) = images["medians"], objects["per_image"]
    rows = [
        ("images", f"{first}, {_count(images['channels'], 'channel')}, {images['dtype']}"),
        ("", f"values {images['min']:.6g} to {images['max']:.6g}, medians of the images "
             f"{low:.6g} to {high:.6g}"),
        ("range", found["range"].removeprefix("range ")),
        ("labels", f"{labels['kind']:<10}{'value':>8}{'class':>8}{'pixels':>15}{'share':>10}"),
    ]  # fmt: skip
    for row in labels["classes"]:
        several = labels["kind"] == "instances" and row["class"] == 1
        value = "1, 2, ..." if several else row["value"]
        rows.append(("", f"{value:>18}{row['class']:>8}{row['pixels']:>15,}{row['share']:>10.2%}"))
    if labels["ignored"]:
        rows.append(("", f"{'ignored':>18}{'':8}{labels['ignored']:>15,}"))
    rows.append(("objects", f"{_count(objects['count'], objects['kind'])}, {least} to {most} an "
                 f"image; {_count(objects['touching_pairs'], 'pair')} touching"))  # fmt: skip
    if objects["count"]:
        half, nearly_all = objects["diameter"]
        rows.append(
            ("", f"half are up to {half:.0f} pixels across, 9 of 10 up to {nearly_all:.0f}")
        )
    if objects["specks"]:
        rows.append(
            ("", f"{_count(objects['specks'], 'speck')} under {survey.SPECK} pixels left out")
        )
    rows.append(("validation", found["validation"].removeprefix("validation: ")))
    rows += [("note", line) for line in found["notes"]]
    rows += [("warning", line) for line in found["warnings"]]
    width = shutil.get_terminal_size((100, 24)).columns
    lines = [line for name, text in rows for line in _wrapped(name, text, width)]
    return "\n".join([*lines, "", found["command"]])


def _wrapped(name: str, text: str, width: int) -> list[str]:
    line = f"{name:<12}{text}"
    if len(line) <= width:
        return [line]
    return textwrap.wrap(
        line,
        max(40, width),
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `unetcu check`."""
    parser.add_argument("images", metavar="IMAGES", help="TIFF stack, PNG, or folder")
    parser.add_argument("labels", metavar="LABELS", nargs="?", help="the same, of labels")
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes")
    parser.add_argument(
        "--instances",
        action="store_true",
        help="labels number the objects: 0 background, 1, 2, ...",
    )
    parser.add_argument("--ignore", type=int, metavar="V", help="label value to leave out")
    parser.add_argument("--range", default="auto", metavar="KIND", help="auto, dtype, set or image")
    parser.add_argument(
        "-v", "--val", nargs="+", default=["auto"], metavar="WORD",
        help="auto, a share like 0.2, pages 18-23, or none (default: auto)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a report")


def run(args: argparse.Namespace) -> int:
    """Check and print; 0 whatever the warnings are."""
    found = check(
        args.images,
        args.labels,
        classes=args.classes,
        instances=args.instances,
        ignore=args.ignore,
        range=args.range,
        val=" ".join(args.val),
    )
    print(json.dumps(found, indent=2) if args.json else report(found))
    return 0


if __name__ == "__main__":
    from .cli import main

    sys.exit(main("check"))
