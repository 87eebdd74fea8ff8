"""Parts of pages: what was confused with what, whether probabilities are right, and the rule for
objects."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scores.instances import Rule
from ..scores.metrics import Confusion
from .page import Markup, el, join, markup, section, share, table, whole
from .panels import class_swatch
from .svg import Line, chart

BINS = 10
_MATRIX = 16  # classes; of more, the pairs confused most are listed
_LISTED = 20
_RULE = {
    "threshold": "foreground is what lies above this probability",
    "seed": "summits are looked for from this probability down; 0: every connected part is one "
    "object",
    "seed_size": "pixels of a summit, at least",
    "smooth": "width of the smoothing before summits are looked for, in pixels",
    "min_size": "smaller parts, in pixels, are dropped",
    "grow": "gaps of twice so many pixels between two objects are closed",
    "fill_holes": "whether background enclosed by one object becomes part of it",
}


@dataclass
class Reliability:
    """Of the pixels whose probability of foreground lies in each tenth: how many they are, the sum
    of their probabilities, and how many truly are foreground."""

    count: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    sum: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    true: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, foreground: NDArray[np.floating], truth: NDArray[np.integer]) -> None:
        """Count one image: probabilities in [0, 1]; truth above 0 is foreground, -1 left out."""
        known = truth >= 0
        p, t = foreground[known].astype(np.float64), truth[known] > 0
        which = np.minimum((p * BINS).astype(np.int64), BINS - 1)
        self.count += np.bincount(which, minlength=BINS)
        self.sum += np.bincount(which, p, BINS)
        self.true += np.bincount(which, t, BINS)

    @property
    def error(self) -> float:
        """The mean distance of probability and share over all pixels; NaN where there is none."""
        total = self.count.sum()
        return float(np.abs(self.sum - self.true).sum() / total) if total else math.nan

    def drawing(self) -> Markup:
        """The diagram, with what it says; nothing where no probability was counted."""
        held = np.flatnonzero(self.count)
        if not held.size:
            return join([])
        points = [(self.sum[i] / self.count[i], self.true[i] / self.count[i]) for i in held]
        lines = [
            Line("as it should be", "grey", [(0.0, 0.0), (1.0, 1.0)], dashed=True),
            Line("measured", "blue", [(float(x), float(y)) for x, y in points]),
        ]
        drawn = chart(
            "Are the probabilities right?", lines, x_name="probability of foreground",
            y_name="share that is foreground", low=0, high=1,
        )  # fmt: skip
        told = (
            "Each point is a tenth of the scale: of the pixels given this probability, the share "
            f"that is foreground. On the diagonal a probability can be taken at its word; below it "
            f"the network is too sure of foreground. Mean distance, by pixels: {self.error:.4f}."
        )
        return join([drawn, el("p", told, class_="legend")])


def confusion(counted: Confusion, names: Sequence[str]) -> Markup:
    """Which class was taken for which, and precision, recall, IoU and Dice of each."""
    n = counted.counts
    labels = [join([class_swatch(k), name]) for k, name in enumerate(names)]
    true, guessed, both = n.sum(1), n.sum(0), n.diagonal()
    rows = [
        (labels[k], int(true[k]), _part(both[k], guessed[k]), _part(both[k], true[k]),
         float(counted.iou[k]), float(counted.dice[k]))
        for k in range(len(n))
    ]  # fmt: skip
    each = table(
        ["class", "true pixels", "precision", "recall", "IoU", "Dice"],
        rows,
        caption="Precision: the share of what was predicted as the class that is right. Recall: "
        "the share of what is truly of the class that was found.",
        class_="plain",
    )
    return join([_matrix(n, labels) if len(n) <= _MATRIX else _most_confused(n, labels), each])


def _matrix(n: NDArray[np.int64], labels: Sequence[Markup]) -> Markup:
    rows: list[list[Any]] = []
    for k, label in enumerate(labels):
        total = int(n[k].sum())
        rows.append([join(["true ", label])] + [_shaded(int(c), total) for c in n[k]])
    head = ["", *(join(["predicted ", label]) for label in labels)]
    caption = "Pixels by true and predicted class, and their share of the true class (the row)."
    return table(head, rows, caption=caption, class_="matrix")


def _shaded(count: int, total: int) -> Markup:
    depth = round(10 * count / total) if total else 0
    return el("div", el("b", whole(count)), el("span", share(count, total)), class_=f"d{depth}")


def _most_confused(n: NDArray[np.int64], labels: Sequence[Markup]) -> Markup:
    wrong = n.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
    pairs = [divmod(int(i), len(n)) for i in order if wrong.flat[i]]
    rows = [(labels[t], labels[p], int(n[t, p]), share(n[t, p], n[t].sum())) for t, p in pairs]
    return table(
        ["true class", "predicted as", "pixels", "share of the true class"],
        rows,
        caption=f"The {len(rows)} most frequent confusions of {len(n)} classes.",
        class_="plain",
    )


def _part(part: int, of: int) -> float:
    return float(part / of) if of else math.nan


def objects_rule(rule: Rule, chosen: bool, unfinished: bool) -> Markup:
    """The section about how objects are found. chosen: on labelled images."""
    found = rule.to_dict()
    rows = [(k.replace("_", " "), markup(f"{v:g}" if not isinstance(v, bool) else
             ("yes" if v else "no")), _RULE[k]) for k, v in found.items()]  # fmt: skip
    told: list[object] = ["What is an object in the network's probability of foreground. "]
    if chosen:
        told += ["The rule was chosen on validation and training images and is in the model file: ",
                 el("code", "predict --instances"), " takes it."]  # fmt: skip
    elif unfinished:
        told.append("The rule will be chosen when the training has ended; until then it is this.")
    else:
        told.append("No validation image holds an object, so the rule is one that suits the sizes "
                    "of the training objects.")  # fmt: skip
    return section("How objects are found", el("p", *told),
                   table(["", "value", "what it says"], rows, class_="plain"))  # fmt: skip
