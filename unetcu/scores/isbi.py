"""The scores of the ISBI 2012 challenge: V_Rand, V_Info, Rand error, pixel error.

They judge a membrane segmentation by the regions it encloses. A probability map is thresholded;
the regions S of the proposal are the 4-connected parts of its foreground, the regions T of the
truth those of the true foreground. Only pixels of the true foreground are compared ("foreground
restricted"); among them, p_ij is the share that lies in region i of S and region j of T, s_i and
t_j are the sums over j and i. A pixel there that the proposal calls border is a region of its own.

    V_Rand = sum_ij p_ij^2 / (1/2 sum_i s_i^2 + 1/2 sum_j t_j^2)
    V_Info = I(S; T) / (1/2 H(S) + 1/2 H(T))

(Arganda-Carreras et al. 2015, equations for alpha = 1/2: F-scores of split and merge errors.)
For both, the proposal's borders are thinned first (`thinning`), each page has its score,
and the result is the mean over pages at the threshold where that is best.
The two measures of 2012 take the proposal as it is and add up the counts of all pages before
they divide; again the best threshold counts:

    rand_error  = 1 - the F-score of the Rand index, the formula of V_Rand without thinning
    pixel_error = 1 - the F-score of the foreground's pixels, 2 TP / (2 TP + FP + FN)

All four agree with the organizers' own evaluation to ten digits (bench/golden_metrics.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..scores.metrics import overlaps
from ..scores.thinning import thinned_regions

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]


def _thresholds() -> tuple[float, ...]:
    # Added up in double precision, as the challenge does: the last is 0.9999999999999999, and
    # a probability of exactly 1 lies above it.
    values = [0.0]
    while values[-1] + 0.1 <= 1.0:
        values.append(values[-1] + 0.1)
    return tuple(values)


THRESHOLDS = _thresholds()
# Thresholds of one page are thinned together, up to this many pixels at a time.
BATCH_PIXELS = 1 << 22


@dataclass(frozen=True)
class PageScores:
    """One page at every threshold. Pages without true foreground have NaN in v_rand and v_info.

    v_rand, v_info: (thresholds,). rand, pixel: (thresholds, 2), the counts above and below the
    line of an F-score, kept apart to be summed over pages.
    """

    v_rand: Values
    v_info: Values
    rand: Values
    pixel: Values


@dataclass(frozen=True)
class IsbiScores:
    """Each score at its best threshold, with that threshold, and what each page scores there.

    v_rand, v_info: 1 is perfect. rand_error, pixel_error: 0 is perfect. NaN where no page has
    foreground. by_threshold: name -> (thresholds,), scores that are 1 when perfect.
    pages: (pages,) V_Rand and V_Info at the threshold that is best for the mean.
    """

    v_rand: float
    v_info: float
    rand_error: float
    pixel_error: float
    thresholds: dict[str, float]
    by_threshold: dict[str, Values]
    page_v_rand: Values
    page_v_info: Values


def score_page(
    probability: npt.NDArray[np.floating],
    truth: npt.NDArray[np.integer],
    thresholds: Sequence[float] = THRESHOLDS,
) -> PageScores:
    """Score one page: (H, W) probability of foreground, (H, W) truth.

    truth: foreground where > 0, background where 0, left out where -1. A pixel of the proposal
    is foreground where its value is above the threshold, compared in float64.
    """
    if probability.shape != truth.shape:
        raise DataError(f"the prediction is {probability.shape} and the truth {truth.shape}: "
                        "they must be of one size")  # fmt: skip
    if not np.isfinite(probability).all():
        raise DataError("the prediction holds NaN or infinite values: nothing can be scored")
    from scipy import ndimage

    value = probability.astype(np.float64)
    inside = truth > 0
    true_regions = ndimage.label(inside)[0][inside]
    result = PageScores(*(np.zeros((len(thresholds), *more)) for more in ((), (), (2,), (2,))))
    masks, first = _different_masks(value, thresholds)
    per_batch = max(1, BATCH_PIXELS // max(1, value.size))
    for start in range(0, len(masks), per_batch):
        batch = np.stack(masks[start : start + per_batch])
        for k, regions in enumerate(thinned_regions(batch), start):
            mask = masks[k]
            at = [i for i, f in enumerate(first) if f == k]
            thinned = regions[inside]
            result.v_rand[at], result.v_info[at] = _v_scores(true_regions, thinned)
            whole = np.where(mask[inside], thinned, 0)
            result.rand[at] = _rand_terms(*_tables(true_regions, whole))
            hits = np.count_nonzero(mask & inside)
            known = np.count_nonzero(mask & (truth != -1))
            result.pixel[at] = 2 * hits, known + np.count_nonzero(inside)
    return result


def combine(pages: Sequence[PageScores], thresholds: Sequence[float] = THRESHOLDS) -> IsbiScores:
    """The scores of a stack from those of its pages."""
    if not pages:
        raise DataError("there is no page to score: give at least one")
    v_rand = np.stack([page.v_rand for page in pages])
    v_info = np.stack([page.v_info for page in pages])
    counted = ~np.isnan(v_rand[:, 0])
    curves = {
        "v_rand": _mean(v_rand[counted]),
        "v_info": _mean(v_info[counted]),
        "rand": _f_score(np.sum([page.rand for page in pages], axis=0)),
        "pixel": _f_score(np.sum([page.pixel for page in pages], axis=0)),
    }
    best = {k: 0 if np.isnan(c).all() else int(np.nanargmax(c)) for k, c in curves.items()}
    return IsbiScores(
        v_rand=float(curves["v_rand"][best["v_rand"]]),
        v_info=float(curves["v_info"][best["v_info"]]),
        rand_error=float(1 - curves["rand"][best["rand"]]),
        pixel_error=float(1 - curves["pixel"][best["pixel"]]),
        thresholds={name: float(thresholds[k]) for name, k in best.items()},
        by_threshold=curves,
        page_v_rand=v_rand[:, best["v_rand"]],
        page_v_info=v_info[:, best["v_info"]],
    )


def isbi_scores(
    probability: Iterable[npt.NDArray[np.floating]],
    truth: Iterable[npt.NDArray[np.integer]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> IsbiScores:
    """All four scores of a stack: (pages, H, W) arrays, or any iterables of (H, W) pages.

    See `score_page` for the values. For a proposal that is a mask already, one threshold does.
    """
    pages = [score_page(p, t, thresholds) for p, t in zip(probability, truth, strict=True)]
    return combine(pages, thresholds)


def _different_masks(
    value: Values, thresholds: Sequence[float]
) -> tuple[list[npt.NDArray[np.bool_]], list[int]]:
    """The distinct masks, and for each threshold which one it gives (all one for a mask)."""
    masks: list[npt.NDArray[np.bool_]] = []
    first: list[int] = []
    # Thresholds that the same number of pixels pass give the same pixels.
    seen: dict[int, int] = {}
    for threshold in thresholds:
        mask = value > threshold
        passing = int(np.count_nonzero(mask))
        if passing not in seen:
            seen[passing] = len(masks)
            masks.append(mask)
        first.append(seen[passing])
    return masks, first


def _tables(truth: Labels, proposal: Labels) -> tuple[Values, Values, Values]:
    """Sizes of the true regions t, proposed regions s, and their overlaps, in pixels.

    truth, proposal: (n,) labels of the compared pixels. A pixel with proposal 0 is a region of
    its own: it stands as a 1 in s and as a 1 in the overlaps.
    """
    _, j, n = overlaps(truth, proposal)
    alone = np.ones(int(n[j == 0].sum()))
    regions = np.bincount(proposal)[1:]
    return (
        np.bincount(truth)[1:].astype(np.float64),
        np.concatenate([regions[regions > 0], alone]),
        np.concatenate([n[j > 0], alone]),
    )


def _v_scores(truth: Labels, proposal: Labels) -> tuple[float, float]:
    if truth.size == 0:
        return float("nan"), float("nan")
    t, s, both = _tables(truth, proposal)
    above, below = _rand_terms(t, s, both)
    h_t, h_s, h_both = _entropy(t), _entropy(s), _entropy(both)
    # A single region on either side: no information on either, and full agreement.
    trivial = t.size == s.size == 1
    return above / below, 1.0 if trivial else 2 * (h_t + h_s - h_both) / (h_t + h_s)


def _rand_terms(t: Values, s: Values, both: Values) -> tuple[float, float]:
    """Above and below the line of the Rand index's F-score: ordered pairs, each with itself."""
    return 2 * float((both * both).sum()), float((t * t).sum() + (s * s).sum())


def _entropy(sizes: Values) -> float:
    """In nats, of regions of these sizes (none is 0)."""
    total = sizes.sum()
    return float(np.log(total) - (sizes * np.log(sizes)).sum() / total)


def _mean(scores: Values) -> Values:
    return scores.mean(axis=0) if len(scores) else np.full(scores.shape[1], np.nan)


def _f_score(terms: Values) -> Values:
    above, below = terms.T
    return np.divide(above, below, out=np.full(len(terms), np.nan), where=below > 0)
