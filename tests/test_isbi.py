"""The ISBI 2012 scores against definitions spelled out over pairs of pixels."""

import math
from collections import Counter

import numpy as np
import pytest
from test_thinning import flood_by_queue  # the slow definition of the thinning

from unetcu.errors import DataError
from unetcu.scores.isbi import THRESHOLDS, combine, isbi_scores, score_page


def parts(mask):
    """4-connected parts, numbered from 1."""
    labels = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        todo = [] if labels[start] else [start]
        number = labels.max() + 1
        while todo:
            y, x = todo.pop()
            inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            if inside and mask[y, x] and labels[y, x] == 0:
                labels[y, x] = number
                todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return labels


def regions_of_compared_pixels(proposal, truth):
    """For each pixel of the true foreground the names of its two regions.

    Proposed border pixels (0) are regions of their own: they are named after themselves.
    """
    names = parts(truth > 0)
    at = list(zip(*np.nonzero(truth > 0), strict=True))
    return [int(proposal[p]) or p for p in at], [int(names[p]) for p in at]


def pairs_in_common(proposal, truth):
    """Ordered pairs of pixels, each with itself: (in one region on both sides, in S, in T)."""
    s, t = regions_of_compared_pixels(proposal, truth)
    both = in_s = in_t = 0
    for i in range(len(s)):
        for j in range(len(s)):
            both += s[i] == s[j] and t[i] == t[j]
            in_s += s[i] == s[j]
            in_t += t[i] == t[j]
    return both, in_s, in_t


def v_info_from_probabilities(proposal, truth):
    s, t = regions_of_compared_pixels(proposal, truth)
    n = len(s)
    p_s, p_t = ({k: v / n for k, v in Counter(names).items()} for names in (s, t))
    p_st = {k: v / n for k, v in Counter(zip(s, t, strict=True)).items()}
    shared = sum(p * math.log(p / (p_s[i] * p_t[j])) for (i, j), p in p_st.items())
    h_s, h_t = (-sum(p * math.log(p) for p in q.values()) for q in (p_s, p_t))
    return shared / (0.5 * h_s + 0.5 * h_t)


def made_up(seed, pages=3, size=14):
    """Truth: cells with borders. Probability: the truth blurred and with noise on it."""
    rng = np.random.default_rng(seed)
    sites = rng.integers(0, size, (pages, 7, 2))
    y, x = np.mgrid[:size, :size]
    truth = np.empty((pages, size, size), np.int32)
    for page in range(pages):
        d = np.hypot(y[..., None] - sites[page, :, 0], x[..., None] - sites[page, :, 1])
        d.sort(axis=2)
        truth[page] = d[..., 1] - d[..., 0] > 1.3
    blurred = (truth + np.roll(truth, 1, 1) + np.roll(truth, 1, 2)) / 3
    noisy = 0.8 * blurred + 0.2 * rng.random(truth.shape)
    return noisy.astype(np.float32), truth


@pytest.fixture(scope="module")
def example():
    probability, truth = made_up(1)
    return probability, truth, isbi_scores(probability, truth)


def test_thresholds_are_sums_of_a_tenth_in_double_precision():
    assert len(THRESHOLDS) == 11
    assert THRESHOLDS[0] == 0
    assert THRESHOLDS[3] == 0.1 + 0.1 + 0.1 != 0.3
    assert THRESHOLDS[10] == 0.9999999999999999


def test_v_rand_and_v_info_agree_with_their_definitions(example):
    probability, truth, found = example
    v_rand, v_info = np.zeros((2, 3, 11))
    for page in range(3):
        for k, threshold in enumerate(THRESHOLDS):
            regions = flood_by_queue(probability[page].astype(np.float64) > threshold)
            both, in_s, in_t = pairs_in_common(regions, truth[page])
            v_rand[page, k] = both / (0.5 * in_s + 0.5 * in_t)
            v_info[page, k] = v_info_from_probabilities(regions, truth[page])
    assert found.by_threshold["v_rand"] == pytest.approx(v_rand.mean(0), abs=1e-12)
    assert found.by_threshold["v_info"] == pytest.approx(v_info.mean(0), abs=1e-12)
    assert found.v_rand == pytest.approx(v_rand.mean(0).max(), abs=1e-12)
    assert found.v_info == pytest.approx(v_info.mean(0).max(), abs=1e-12)
    best = int(v_rand.mean(0).argmax())
    assert found.thresholds["v_rand"] == THRESHOLDS[best]
    assert found.page_v_rand == pytest.approx(v_rand[:, best], abs=1e-12)
    assert found.page_v_info == pytest.approx(v_info[:, v_info.mean(0).argmax()], abs=1e-12)
    assert 0.3 < found.v_rand < 0.999  # a case that says something
    assert len(set(found.by_threshold["v_rand"].round(6))) > 6


def test_rand_and_pixel_error_add_up_counts_over_pages_before_they_divide(example):
    probability, truth, found = example
    rand, pixel = [], []
    for threshold in THRESHOLDS:
        counts = np.zeros(3)
        hits = said = true = 0
        for p, t in zip(probability, truth, strict=True):
            mask = p.astype(np.float64) > threshold
            counts += pairs_in_common(parts(mask), t)
            hits += int((mask & (t > 0)).sum())
            said += int(mask.sum())
            true += int((t > 0).sum())
        rand.append(2 * counts[0] / (counts[1] + counts[2]))
        precision, recall = hits / max(said, 1), hits / true
        pixel.append(2 * precision * recall / (precision + recall) if hits else 0)
    assert found.by_threshold["rand"] == pytest.approx(rand, abs=1e-12)
    assert found.by_threshold["pixel"] == pytest.approx(pixel, abs=1e-12)
    assert found.rand_error == pytest.approx(1 - max(rand), abs=1e-12)
    assert found.pixel_error == pytest.approx(1 - max(pixel), abs=1e-12)
    assert found.thresholds["rand"] == THRESHOLDS[int(np.argmax(rand))]
    assert found.thresholds["pixel"] == THRESHOLDS[int(np.argmax(pixel))]


def test_the_truth_itself_is_perfect_at_every_threshold():
    _, truth = made_up(2)
    found = isbi_scores(truth.astype(np.float32), truth)
    assert found.v_rand == found.v_info == pytest.approx(1, abs=1e-14)
    assert found.rand_error == found.pixel_error == 0
    assert found.by_threshold["v_rand"] == pytest.approx(np.ones(11), abs=1e-14)


def test_borders_of_any_thickness_score_1_but_only_after_thinning():
    truth = np.zeros((1, 9, 21), np.int32)
    truth[0, :, :10] = truth[0, :, 11:] = 1
    thick = truth.copy()
    thick[0, :, 8:13] = 0
    found = isbi_scores(thick.astype(np.float32), truth)
    assert found.v_rand == found.v_info == pytest.approx(1, abs=1e-14)
    assert found.rand_error > 0.1


def test_a_merger_by_hand():
    truth = np.array([[[1, 1, 1, 0, 1]]])
    found = isbi_scores(np.ones((1, 1, 5)), truth)
    assert found.v_rand == pytest.approx((9 + 1) / (0.5 * 16 + 0.5 * 10), abs=1e-15)
    assert found.rand_error == pytest.approx(1 - 10 / 13, abs=1e-15)
    assert found.pixel_error == pytest.approx(1 - 2 * 4 / (5 + 4), abs=1e-15)
    assert found.v_info == 0  # one region tells nothing


def test_a_proposal_without_foreground_is_one_region_once_thinned():
    truth = np.array([[[1, 1, 1, 0, 1]]])
    found = isbi_scores(np.zeros((1, 1, 5)), truth)
    assert found.v_rand == pytest.approx(10 / 13, abs=1e-15)
    assert found.rand_error == pytest.approx(1 - 2 * 4 / (4 + 10), abs=1e-15)  # all apart
    assert found.pixel_error == 1


def test_one_region_on_either_side_is_full_agreement():
    found = isbi_scores(np.ones((1, 3, 7)), np.ones((1, 3, 7), int))
    assert (found.v_rand, found.v_info, found.rand_error, found.pixel_error) == (1, 1, 0, 0)


def test_a_page_without_true_foreground_is_left_out_of_the_mean():
    probability, truth = made_up(3, pages=2)
    blank = np.zeros_like(truth[:1])
    found = isbi_scores(np.concatenate([probability, probability[:1]]), [*truth, *blank])
    without = isbi_scores(probability, truth)
    assert found.v_rand == without.v_rand
    assert found.v_info == without.v_info
    assert np.isnan(found.page_v_rand).tolist() == [False, False, True]
    assert found.rand_error == without.rand_error
    assert found.pixel_error > without.pixel_error  # its false foreground counts


def test_with_no_true_foreground_at_all_nothing_is_defined():
    found = isbi_scores(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), int))
    for score in (found.v_rand, found.v_info, found.rand_error, found.pixel_error):
        assert math.isnan(score)


def test_ignored_pixels_are_compared_nowhere():
    probability, truth = made_up(4, pages=1)
    truth[0, :, :5] = -1
    changed = probability.copy()
    changed[0, :, 0] = 1 - changed[0, :, 0]
    curve, again = (isbi_scores(p, truth).by_threshold["pixel"] for p in (probability, changed))
    assert np.array_equal(curve, again)
    # What is compared is the same as if the truth there were border.
    border = np.maximum(truth, 0)
    for name in ("v_rand", "v_info", "rand"):
        curve = isbi_scores(probability, truth).by_threshold[name]
        assert np.array_equal(curve, isbi_scores(probability, border).by_threshold[name])
    assert (
        isbi_scores(probability, border).pixel_error != isbi_scores(probability, truth).pixel_error
    )


def test_pages_may_come_one_by_one_and_thresholds_may_be_few():
    probability, truth = made_up(5)
    streamed = isbi_scores((p for p in probability), (t for t in truth), (0.5,))
    found = isbi_scores(probability, truth)
    at = next(k for k, t in enumerate(THRESHOLDS) if t == 0.5)
    assert streamed.v_rand == found.by_threshold["v_rand"][at]
    assert streamed.thresholds == dict.fromkeys(("v_rand", "v_info", "rand", "pixel"), 0.5)


def test_small_batches_change_nothing(monkeypatch, example):
    probability, truth, found = example
    monkeypatch.setattr("unetcu.scores.isbi.BATCH_PIXELS", 3 * truth[0].size)
    again = isbi_scores(probability, truth)
    for name, curve in found.by_threshold.items():
        assert np.array_equal(again.by_threshold[name], curve)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    probability = np.full((4, 4), 0.5)
    probability[1, 2] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        score_page(probability, np.ones((4, 4), int))


def test_sizes_must_agree_and_there_must_be_a_page():
    with pytest.raises(DataError, match="one size"):
        score_page(np.zeros((4, 5)), np.zeros((5, 4), int))
    with pytest.raises(DataError, match="at least one"):
        combine([])
