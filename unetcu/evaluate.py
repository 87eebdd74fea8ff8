"""Score a prediction against the truth.

  unetcu evaluate predicted labels.tif                what unetcu predict wrote, and the labels
  unetcu evaluate probability.tif labels.tif          floating point: probability of foreground
  unetcu evaluate masks/ labels/                      class masks; folders are paired by name
  unetcu evaluate found.tif cells.tif --instances     both number the objects 1, 2, 3 ...
  unetcu evaluate predicted labels.tif --pages        what each page scores, too
  unetcu evaluate predicted labels.tif --html scores.html --images images.tif
                                                      a page with all scores, and with pictures
                                                      of each page, the worst first

The scores depend on what is compared, which is said first:
  always             pixel error (share of wrong pixels), IoU and Dice of each class
  two classes        V_Rand and V_Info (1 is perfect, borders thinned), Rand error and pixel
                     error as in the ISBI 2012 challenge; of a probability, at the best threshold
  with --instances   SEG of the Cell Tracking Challenge, AP50 = TP / (TP + FP + FN) at IoU > 0.5
                     as the mean over pages, and the share of true objects matched one to one
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .data.pairing import Name, list_files
from .errors import UsageError
from .files.atomic import atomic_path
from .files.paths import shown
from .progress import progress
from .report.evaluation import page
from .scores.isbi import THRESHOLDS, combine
from .scores.meaning import MEANING
from .scores.metrics import Confusion, ObjectCounts
from .scores.pages import count, object_scores, pixel_scores
from .scores.predictions import Compared, images_of, pair


def evaluate(
    prediction: Name,
    truth: Name,
    *,
    classes: int | None = None,
    instances: bool = False,
    ignore: int | None = None,
    threshold: float = 0.5,
    html: str | os.PathLike[str] | None = None,
    images: Name | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Everything `unetcu evaluate` prints, as plain dicts, lists, strings and numbers (JSON).

    prediction, truth: files or folders. classes, instances, ignore: how to read the truth, as in
    `data.load`. threshold: where a probability becomes a mask; the scores of ISBI 2012 choose
    their own. html: write a page about it to this file, which must not be there yet (unless
    `overwrite`); images: file or folder of what was predicted, to be shown on that page.

    "kind": what the prediction is, "probability", "classes" or "instances". "scores": of all pages
    together. "pages": the same of each, with its "name". A score that is not defined is None (IoU
    of a class that is nowhere, SEG without objects). "best_threshold": those of the ISBI scores.
    Raises DataError where prediction and truth do not fit, UsageError for a wrong threshold.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: give a probability, from 0 to 1")
    if html is None:
        if images is not None or overwrite:
            raise UsageError("--images and --overwrite are about the page of --html FILE: add that")
        return _evaluate(prediction, truth, classes, instances, ignore, threshold)[0]
    _check_place(html, prediction, truth, images)
    with atomic_path(html, overwrite=overwrite) as temporary:
        planes = None if images is None else images_of(images, truth)
        result, compared, counted = _evaluate(
            prediction, truth, classes, instances, ignore, threshold
        )
        name = f"{_named(prediction)} against {_named(truth)}"
        temporary.write_bytes(page(name, _what(result), result, compared, counted, planes))
    return result


def _check_place(html: str | os.PathLike[str], *inputs: Name | None) -> None:
    """Refuse a page in place of a file that it is about, whatever --overwrite says."""
    for given in inputs:
        if given is None:
            continue
        files = list_files(Path(given))[0] if os.path.isdir(given) else [given]
        if os.path.realpath(html) in map(os.path.realpath, files):
            raise UsageError(
                f"--html {shown(html)} would be written over what is to be read: name another file"
            )


def _evaluate(
    prediction: Name,
    truth: Name,
    classes: int | None,
    instances: bool,
    ignore: int | None,
    threshold: float,
) -> tuple[dict[str, Any], Compared, Confusion]:
    compared = pair(prediction, truth, classes=classes, instances=instances, ignore=ignore)
    swept: Sequence[float] = ()
    if not instances and compared.classes == 2:
        swept = THRESHOLDS if compared.kind == "probability" else (0.5,)
    counts = [count(p, compared, threshold, swept) for p in progress(compared.pages, "scoring")]
    counted = sum((c.confusion for c in counts[1:]), counts[0].confusion)
    scores = pixel_scores(counted)
    pages = [pixel_scores(c.confusion) for c in counts]
    objects = [c.objects for c in counts if c.objects]
    if objects:
        scores |= object_scores(sum(objects, ObjectCounts()))
        for of_all, of_page in zip(pages, objects, strict=True):
            of_all |= object_scores(of_page)
    best = {}
    if swept:
        isbi = combine([c.isbi for c in counts if c.isbi], swept)
        scores |= {"v_rand": isbi.v_rand, "v_info": isbi.v_info, "rand_error": isbi.rand_error,
                   "isbi_pixel_error": isbi.pixel_error}  # fmt: skip
        for page, rand, info in zip(pages, isbi.page_v_rand, isbi.page_v_info, strict=True):
            page |= {"v_rand": float(rand), "v_info": float(info)}
        names = {"rand": "rand_error", "pixel": "isbi_pixel_error"}
        if len(swept) > 1:
            best = {names.get(k, k): round(t, 6) for k, t in isbi.thresholds.items()}
    result = {
        "kind": compared.kind,
        "truth": "instances" if instances else "classes",
        "classes": compared.classes,
        "threshold": threshold if compared.kind == "probability" else None,
        "scores": _defined(scores),
        "best_threshold": best,
        "pages": [
            {"name": name} | _defined(page)
            for name, page in zip(compared.names, pages, strict=True)
        ],
        "notes": compared.notes,
    }
    return result, compared, counted


def _defined(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(score) else score for name, score in scores.items()}


def _named(file: Name) -> str:
    """A file on the page: without its folders where it was named by its whole path."""
    return os.path.basename(file) if os.path.isabs(file) else os.fsdecode(file)


def table(result: dict[str, Any], pages: bool = False) -> str:
    """What `evaluate` returned, as text; `pages` puts a line for each page before the totals."""
    scores, best = result["scores"], result["best_threshold"]
    shown_names = [name for name in MEANING if name in scores]
    count = len(result["pages"])
    lines = [f"{_what(result)}: {count} page{'s' if count > 1 else ''}", ""]
    if pages:
        columns = [n for n in shown_names if n in result["pages"][0]]
        width = max(len("page"), *(len(page["name"]) for page in result["pages"]))
        lines.append("page".ljust(width) + "".join(f"{MEANING[n][0]:>13}" for n in columns))
        for page in result["pages"]:
            lines.append(page["name"].ljust(width)
                         + "".join(f"{_number(page[n]):>13}" for n in columns))  # fmt: skip
        lines.append("")
    for name in shown_names:
        label, meaning = MEANING[name]
        if name in ("iou", "dice"):
            each = (scores[f"{name}_{k}"] for k in range(result["classes"]))
            meaning += ": " + ", ".join(map(_number, each))
        if name in best and scores[name] is not None:
            meaning += f"; at threshold {best[name]:g}"
        lines.append(f"{label:<17}{_number(scores[name]):<6}  {meaning}")
    return "\n".join(lines)


def _what(result: dict[str, Any]) -> str:
    predicted = {"probability": "probability of foreground", "classes": "class mask",
                 "instances": "instance ids"}[result["kind"]]  # fmt: skip
    if result["threshold"] is not None:
        predicted += f" above {result['threshold']:g}"
    if result["truth"] == "classes":
        return f"{predicted}, against {result['classes']} classes"
    made = "" if result["kind"] == "instances" else ", its connected parts as objects"
    return f"{predicted}{made}, against instance ids"


def _number(score: float | None) -> str:
    return "n/a" if score is None else f"{score:.4f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("prediction", metavar="PRED", help="file or folder to score")
    parser.add_argument("truth", metavar="TRUTH", help="labels of the same pages: file or folder")
    parser.add_argument(
        "--instances", action="store_true", help="TRUTH numbers the objects: 1, 2, 3 ..."
    )
    parser.add_argument("--classes", type=int, metavar="N", help="classes, background included")
    parser.add_argument("--ignore", type=int, metavar="V", help="true value of pixels to leave out")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="a probability above it is foreground (default: 0.5)",
    )
    parser.add_argument("--pages", action="store_true", help="the scores of each page, too")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page about it: scores and pictures, in one file"
    )
    parser.add_argument(
        "--images", metavar="IMAGES", help="what was predicted, file or folder: shown on the page"
    )
    parser.add_argument("--overwrite", action="store_true", help="write over the FILE of --html")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """The command `unetcu evaluate`."""
    result = evaluate(
        args.prediction,
        args.truth,
        classes=args.classes,
        instances=args.instances,
        ignore=args.ignore,
        threshold=args.threshold,
        html=args.html,
        images=args.images,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps(result, indent=2, allow_nan=False))
        return 0
    for note in result["notes"]:
        print(note, file=sys.stderr)
    print(table(result, args.pages))
    return 0


if __name__ == "__main__":
    from .cli import main

    sys.exit(main("evaluate"))
