"""Scores of a segmentation against the truth: of pixels, and of objects.

Of pixels (class ids): `pixel_error`, `iou` and `dice` of each class.
Of objects (instance ids): SEG of the Cell Tracking Challenge, average precision at IoU 0.5, and
the share of true objects that are matched one to one.
The scores of the ISBI 2012 challenge, which sweep a threshold over a probability, are in
`unetcu.scores.isbi`.

Every score here is a ratio of counts. `Confusion` and `ObjectCounts` hold the counts of one
page or of several; adding them up page by page scores a stack of any length.
Throughout, a true label of -1 means: leave this pixel out, whatever was predicted there.
A ratio with nothing below the line is NaN, not a perfect score: the question did not arise.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import DataError

LabelMap = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

# A table of pair counts is filled directly up to this many cells (16 MiB), beyond by sorting.
DENSE_CELLS = 1 << 21


def overlaps(first: LabelMap, second: LabelMap) -> tuple[Counts, Counts, Counts]:
    """How many pixels have label i in `first` and j in `second`: (i, j, n) of each pair met.

    first, second: integer arrays of one shape, values >= 0. The pairs come in ascending order.
    """
    width = int(second.max(initial=0)) + 1
    key = first.astype(np.int64).ravel() * width + second.astype(np.int64).ravel()
    if (int(first.max(initial=0)) + 1) * width <= DENSE_CELLS:
        table = np.bincount(key)
        pair = np.flatnonzero(table)
        count = table[pair]
    else:
        pair, count = np.unique(key, return_counts=True)
    return pair // width, pair % width, count.astype(np.int64)


# Pixels -----------------------------------------------------------------------------------


@dataclass
class Confusion:
    """counts[t, p] = pixels whose true class is t and predicted class p."""

    counts: Counts

    @classmethod
    def of(cls, predicted: LabelMap, truth: LabelMap, classes: int = 2) -> "Confusion":
        """From class ids of one shape; predicted in [0, classes), truth too or -1 (ignored).

        Raises DataError for shapes that differ and for a class out of range.
        """
        known = _known(predicted, truth)
        p, t = predicted[known].astype(np.int64), truth[known].astype(np.int64)
        for name, values in (("prediction", p), ("truth", t)):
            if values.size and not 0 <= values.min() <= values.max() < classes:
                wrong = values.max() if values.max() >= classes else values.min()
                raise DataError(f"the {name} has class {wrong}: expected 0 to {classes - 1}")
        counts = np.bincount(t * classes + p, minlength=classes**2).reshape(classes, classes)
        return cls(counts.astype(np.int64))

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.counts + other.counts)

    @property
    def pixel_error(self) -> float:
        """The fraction of pixels whose class is wrong."""
        total = self.counts.sum()
        return float(1 - self.counts.trace() / total) if total else float("nan")

    @property
    def iou(self) -> Scores:
        """(classes,) intersection over union |P & T| / |P | T|; NaN for a class in neither."""
        both = self.counts.diagonal()
        return _ratio(both, self.counts.sum(0) + self.counts.sum(1) - both)

    @property
    def dice(self) -> Scores:
        """(classes,) 2 |P & T| / (|P| + |T|); NaN for a class in neither."""
        return _ratio(2 * self.counts.diagonal(), self.counts.sum(0) + self.counts.sum(1))


def pixel_error(predicted: LabelMap, truth: LabelMap) -> float:
    """The fraction of pixels whose class is wrong (Arganda-Carreras et al. 2015).

    Class ids of any one shape; pixels where truth is -1 are left out.
    """
    known = _known(predicted, truth)
    return float((predicted[known] != truth[known]).mean()) if known.any() else float("nan")


def iou(predicted: LabelMap, truth: LabelMap, classes: int = 2) -> Scores:
    """(classes,) intersection over union of each class (Jaccard 1901): see `Confusion`."""
    return Confusion.of(predicted, truth, classes).iou


def dice(predicted: LabelMap, truth: LabelMap, classes: int = 2) -> Scores:
    """(classes,) Dice coefficient of each class (Dice 1945): see `Confusion`."""
    return Confusion.of(predicted, truth, classes).dice


def mean_of(scores: Scores) -> float:
    """The mean over the scores that are defined; NaN when none is."""
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if defined.size else float("nan")


# Objects ----------------------------------------------------------------------------------


@dataclass
class ObjectCounts:
    """What SEG, AP50 and the matched share are made of.

    true, predicted: number of objects. matched: pairs with IoU > 0.5; at that overlap an object
    can have one partner at most, so pairs are one to one. jaccard_sum: SEG before division.
    """

    true: int = 0
    predicted: int = 0
    matched: int = 0
    jaccard_sum: float = 0.0
    page_precisions: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, predicted: LabelMap, truth: LabelMap) -> "ObjectCounts":
        """From the instance ids of ONE page, (H, W): 0 = background, in truth -1 = ignored.

        Ids need not be consecutive. An object that lies wholly on ignored pixels is no object.
        """
        known = _known(predicted, truth)
        p, t = _compact(predicted[known]), _compact(truth[known])
        i, j, both = overlaps(t, p)
        size_t, size_p = np.bincount(t, minlength=1), np.bincount(p, minlength=1)
        pair = (i > 0) & (j > 0)
        i, j, both = i[pair], j[pair], both[pair]
        jaccard = both / (size_t[i] + size_p[j] - both)
        matched = int((jaccard > 0.5).sum())
        n_true, n_predicted = len(size_t) - 1, len(size_p) - 1
        wrong = n_predicted - matched + n_true - matched
        precision = matched / (matched + wrong) if matched + wrong else float("nan")
        detected = 2 * both > size_t[i]
        return cls(n_true, n_predicted, matched, float(jaccard[detected].sum()), [precision])

    def __add__(self, other: "ObjectCounts") -> "ObjectCounts":
        return ObjectCounts(
            self.true + other.true,
            self.predicted + other.predicted,
            self.matched + other.matched,
            self.jaccard_sum + other.jaccard_sum,
            self.page_precisions + other.page_precisions,
        )

    @property
    def seg(self) -> float:
        """SEG (Ulman et al. 2017, Cell Tracking Challenge): mean Jaccard over all true objects.

        A true object R counts with J = |R & S| / |R | S| for the one predicted object S that
        covers more than half of it, |R & S| > |R| / 2, and with 0 where there is none.
        """
        return self.jaccard_sum / self.true if self.true else float("nan")

    @property
    def ap50(self) -> float:
        """TP / (TP + FP + FN) at IoU > 0.5 (Caicedo et al. 2019), mean over pages.

        Pages with no object, true or predicted, are left out of the mean.
        """
        return mean_of(np.array(self.page_precisions, np.float64))

    @property
    def matched_share(self) -> float:
        """The share of true objects that have a predicted one at IoU > 0.5."""
        return self.matched / self.true if self.true else float("nan")


def object_counts(predicted: LabelMap, truth: LabelMap) -> ObjectCounts:
    """Counts over a page (H, W) or a stack (pages, H, W) of instance ids, own ids on each page.

    `object_counts(predicted, truth).seg` is the SEG score, and likewise `.ap50` and
    `.matched_share`.
    """
    _known(predicted, truth)
    if predicted.ndim == 2:
        return ObjectCounts.of(predicted, truth)
    pages = (ObjectCounts.of(p, t) for p, t in zip(predicted, truth, strict=True))
    return sum(pages, ObjectCounts())


# ------------------------------------------------------------------------------------------


def _known(predicted: LabelMap, truth: LabelMap) -> npt.NDArray[np.bool_]:
    if predicted.shape != truth.shape:
        raise DataError(f"the prediction is {_size(predicted)} and the truth {_size(truth)}: "
                        "they must be of one size")  # fmt: skip
    return truth != -1


def _size(array: LabelMap) -> str:
    return " x ".join(map(str, array.shape))


def _compact(ids: LabelMap) -> LabelMap:
    """The same objects with ids 1..n; 0 stays 0 whether or not it occurs."""
    if ids.min(initial=0) == 0 and ids.max(initial=0) < DENSE_CELLS:
        occurs = np.bincount(ids.astype(np.intp, copy=False), minlength=1) > 0
        occurs[0] = True
        return (np.cumsum(occurs) - 1)[ids]
    _, index = np.unique(np.append(ids, ids.dtype.type(0)), return_inverse=True)
    return index[:-1]


def _ratio(above: Counts, below: Counts) -> Scores:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
