"""What each page of a prediction adds to the scores of all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .instances import Rule, label_instances
from .isbi import PageScores, score_page
from .metrics import Confusion, ObjectCounts, mean_of
from .predictions import Compared, Page


class Maps(NamedTuple):
    """A page as whole numbers. found, truth: classes, or ids of objects where the truth is that;
    found_classes, true_classes: classes always. -1 in both truths is ignored."""

    found: NDArray[np.integer]
    truth: NDArray[np.integer]
    found_classes: NDArray[np.integer]
    true_classes: NDArray[np.integer]


class Counts(NamedTuple):
    """What one page adds to the scores of all; None where it is not asked for."""

    confusion: Confusion
    objects: ObjectCounts | None
    isbi: PageScores | None


def maps(page: Page, compared: Compared, threshold: float) -> Maps:
    """The page with its probability, if it is one, cut at the threshold."""
    predicted, truth = page.prediction, page.truth
    if not compared.instances:
        if compared.kind == "probability":
            predicted = (predicted > threshold).view(np.uint8)
        return Maps(predicted, truth, predicted, truth)
    ids: NDArray[Any] = predicted
    if compared.kind != "instances":
        ids = label_instances(predicted, Rule(threshold, min_size=0, grow=0))  # as it is
    inside = np.where(truth < 0, -1, truth > 0)
    return Maps(ids, truth, (ids > 0).view(np.uint8), inside)


def count(page: Page, compared: Compared, threshold: float, swept: Sequence[float]) -> Counts:
    """Count one page; swept: thresholds of the ISBI scores, none where they are not asked for."""
    m = maps(page, compared, threshold)
    return Counts(
        Confusion.of(m.found_classes, m.true_classes, compared.classes),
        ObjectCounts.of(m.found, m.truth) if compared.instances else None,
        score_page(page.prediction, page.truth, swept) if swept else None,
    )


def pixel_scores(counted: Confusion) -> dict[str, float]:
    """Scores of pixels by name."""
    iou, dice = counted.iou, counted.dice
    scores = {"pixel_error": counted.pixel_error, "iou": mean_of(iou), "dice": mean_of(dice)}
    for k in range(len(iou)):
        scores |= {f"iou_{k}": float(iou[k]), f"dice_{k}": float(dice[k])}
    return scores


def object_scores(counted: ObjectCounts) -> dict[str, float]:
    """Scores of objects by name."""
    return {"seg": counted.seg, "ap50": counted.ap50, "matched": counted.matched_share}
