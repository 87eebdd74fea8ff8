"""Score a prediction against the truth.

  unetcu evaluate predicted labels.tif                what unetcu predict wrote, and the labels
  unetcu evaluate probability.tif labels.tif          floating point: probability of foreground
  unetcu evaluate masks/ labels/                      class masks; folders are paired by name
  unetcu evaluate found.tif cells.tif --instances     both number the objects 1, 2, 3 ...
  unetcu evaluate predicted labels.tif --pages        what each page scores, too

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
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .data.pairing import Name
from .errors import UsageError
from .progress import progress
from .scores.instances import Rule, label_instances
from .scores.isbi import THRESHOLDS, PageScores, combine, score_page
from .scores.metrics import Confusion, ObjectCounts, mean_of
from .scores.predictions import Page, pair

# What the table says of each score; per class "iou_0", "dice_0" and so on come beside these.
MEANING = {
    "pixel_error": ("pixel error", "share of wrong pixels"),
    "iou": ("IoU", "intersection over union, mean over classes"),
    "dice": ("Dice", "mean over classes"),
    "v_rand": ("V_Rand", "1 is perfect; borders thinned, mean over pages"),
    "v_info": ("V_Info", "1 is perfect; borders thinned, mean over pages"),
    "rand_error": ("Rand error", "ISBI 2012: 0 is perfect; not thinned"),
    "isbi_pixel_error": ("ISBI pixel error", "ISBI 2012: 1 - F-score of the foreground"),
    "seg": ("SEG", "Cell Tracking Challenge: mean Jaccard of the true objects"),
    "ap50": ("AP50", "TP / (TP + FP + FN) at IoU > 0.5, mean over pages"),
    "matched": ("matched", "share of true objects matched one to one at IoU > 0.5"),
}


class _Counts(NamedTuple):
    """What one page adds to the scores of all; None where it is not asked for."""

    confusion: Confusion
    objects: ObjectCounts | None
    isbi: PageScores | None


def evaluate(
    prediction: Name,
    truth: Name,
    *,
    classes: int | None = None,
    instances: bool = False,
    ignore: int | None = None,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Everything `unetcu evaluate` prints, as plain dicts, lists, strings and numbers (JSON).

    prediction, truth: files or folders. classes, instances, ignore: how to read the truth, as in
    `data.load`. threshold: where a probability becomes a mask; the scores of ISBI 2012 choose
    their own.

    "kind": what the prediction is, "probability", "classes" or "instances". "scores": of all pages
    together. "pages": the same of each, with its "name". A score that is not defined is None (IoU
    of a class that is nowhere, SEG without objects). "best_threshold": those of the ISBI scores.
    Raises DataError where prediction and truth do not fit, UsageError for a wrong threshold.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: give a probability, from 0 to 1")
    compared = pair(prediction, truth, classes=classes, instances=instances, ignore=ignore)
    swept: Sequence[float] = ()
    if not instances and compared.classes == 2:
        swept = THRESHOLDS if compared.kind == "probability" else (0.5,)
    counts = [
        _count(page, compared.kind, compared.classes, instances, threshold, swept)
        for page in progress(compared.pages, "scoring")
    ]
    scores = _pixel_scores(sum((c.confusion for c in counts[1:]), counts[0].confusion))
    pages = [_pixel_scores(c.confusion) for c in counts]
    objects = [c.objects for c in counts if c.objects]
    if objects:
        scores |= _object_scores(sum(objects, ObjectCounts()))
        for page, of_page in zip(pages, objects, strict=True):
            page |= _object_scores(of_page)
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
    return {
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


def _count(
    page: Page,
    kind: str,
    classes: int,
    instances: bool,
    threshold: float,
    swept: Sequence[float],
) -> _Counts:
    predicted, truth = page.prediction, page.truth
    isbi = score_page(predicted, truth, swept) if swept else None
    if not instances:
        chosen = (predicted > threshold).view(np.uint8) if kind == "probability" else predicted
        return _Counts(Confusion.of(chosen, truth, classes), None, isbi)
    ids = predicted if kind == "instances" else label_instances(predicted, Rule(threshold))
    inside = np.where(truth < 0, -1, truth > 0)
    return _Counts(
        Confusion.of((ids > 0).view(np.uint8), inside), ObjectCounts.of(ids, truth), isbi
    )


def _pixel_scores(counted: Confusion) -> dict[str, float]:
    iou, dice = counted.iou, counted.dice
    scores = {"pixel_error": counted.pixel_error, "iou": mean_of(iou), "dice": mean_of(dice)}
    for k in range(len(iou)):
        scores |= {f"iou_{k}": float(iou[k]), f"dice_{k}": float(dice[k])}
    return scores


def _object_scores(counted: ObjectCounts) -> dict[str, float]:
    return {"seg": counted.seg, "ap50": counted.ap50, "matched": counted.matched_share}


def _defined(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(score) else score for name, score in scores.items()}


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
        if name in best:
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
