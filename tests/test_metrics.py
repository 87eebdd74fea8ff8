"""Scores of pixels and objects against hand-computed cases and loops over pixels."""

import math
from collections import Counter

import numpy as np
import pytest

from unetcu.errors import DataError
from unetcu.scores import metrics
from unetcu.scores.metrics import (
    Confusion,
    ObjectCounts,
    dice,
    iou,
    mean_of,
    object_counts,
    pixel_error,
)


def objects_by_loops(predicted, truth):
    """(true, predicted, matched, sum of SEG's Jaccards), from sets of pixel positions."""

    def sets(ids):
        found = {}
        for at, value in np.ndenumerate(ids):
            if value != 0 and truth[at] != -1:
                found.setdefault(int(value), set()).add(at)
        return list(found.values())

    true, guessed = sets(truth), sets(predicted)
    pairs = [(t, p) for t in true for p in guessed]
    matched = sum(len(t & p) / len(t | p) > 0.5 for t, p in pairs)
    seg = sum(len(t & p) / len(t | p) for t, p in pairs if len(t & p) > 0.5 * len(t))
    return len(true), len(guessed), matched, seg


def random_ids(rng, size, objects):
    """Overlapping rectangles, later ones on top, with ids that have gaps."""
    ids = np.zeros((size, size), np.int32)
    for value in rng.permutation(3 * objects)[:objects] + 1:
        y, x = rng.integers(0, size, 2)
        h, w = rng.integers(1, size // 2, 2)
        ids[y : y + h, x : x + w] = value
    return ids


# Pixels


def test_pixel_scores_of_a_hand_counted_page():
    truth = np.array([[0, 0, 1, 1], [2, 2, 1, -1]])
    predicted = np.array([[0, 1, 1, 1], [2, 0, 0, 2]])
    # of 7 known pixels: (0,1), (1,1), (1,2) are wrong
    assert pixel_error(predicted, truth) == pytest.approx(3 / 7, abs=1e-15)
    counts = Confusion.of(predicted, truth, 3)
    assert counts.counts.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 1]]
    assert counts.pixel_error == pytest.approx(3 / 7, abs=1e-15)
    assert iou(predicted, truth, 3) == pytest.approx([1 / 4, 2 / 4, 1 / 2], abs=1e-15)
    assert dice(predicted, truth, 3) == pytest.approx([2 / 5, 4 / 6, 2 / 3], abs=1e-15)


def test_counts_of_pages_add_up_to_those_of_the_stack():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(-1, 4, (3, 9, 8)), rng.integers(0, 4, (3, 9, 8))
    whole = Confusion.of(predicted, truth, 4)
    parts = [Confusion.of(p, t, 4) for p, t in zip(predicted, truth, strict=True)]
    assert np.array_equal((parts[0] + parts[1] + parts[2]).counts, whole.counts)
    assert whole.counts.sum() == np.count_nonzero(truth >= 0)


def test_a_perfect_prediction_scores_1_and_its_complement_0():
    truth = np.random.default_rng(2).integers(0, 2, (20, 20)).astype(np.uint8)
    assert pixel_error(truth, truth) == 0
    assert iou(truth, truth).tolist() == dice(truth, truth).tolist() == [1, 1]
    assert pixel_error(1 - truth, truth) == 1
    assert iou(1 - truth, truth).tolist() == dice(1 - truth, truth).tolist() == [0, 0]


def test_a_class_that_occurs_nowhere_is_undefined_and_left_out_of_the_mean():
    truth = np.array([[0, 0, 1]])
    scores = iou(np.array([[0, 1, 1]]), truth, 3)
    assert scores[:2] == pytest.approx([0.5, 0.5])
    assert math.isnan(scores[2])
    assert mean_of(scores) == 0.5
    assert math.isnan(mean_of(np.array([math.nan])))


def test_with_every_pixel_ignored_nothing_is_defined():
    truth = np.full((3, 3), -1)
    assert math.isnan(pixel_error(np.zeros((3, 3), int), truth))
    assert math.isnan(Confusion.of(np.zeros((3, 3), int), truth).pixel_error)
    assert np.isnan(iou(np.zeros((3, 3), int), truth)).all()


@pytest.mark.parametrize(
    ("predicted", "truth", "says"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "2 x 3 and the truth 3 x 2"),
        (np.array([[0, 2]]), np.array([[0, 1]]), "prediction has class 2: expected 0 to 1"),
        (np.array([[0, -1]]), np.array([[0, 1]]), "prediction has class -1"),
        (np.array([[0, 1]]), np.array([[0, 3]]), "truth has class 3"),
        (np.array([[0, 1]]), np.array([[0, -2]]), "truth has class -2"),
    ],
)
def test_what_cannot_be_compared_is_refused(predicted, truth, says):
    with pytest.raises(DataError, match=says) as caught:
        iou(predicted, truth)
    assert "\n" not in str(caught.value)


# Objects


def test_object_scores_of_a_hand_counted_page():
    truth = np.array(
        [
            [1, 1, 1, 1, 0, 0],
            [2, 2, 2, 2, 0, 3],
            [4, 4, 4, 4, 4, 3],
        ]
    )
    predicted = np.array(
        [
            [7, 7, 7, 0, 0, 0],  # 3 of 4: J = 3/4
            [5, 5, 0, 0, 0, 6],  # half of object 2: IoU 1/2, neither detected nor matched
            [8, 8, 8, 8, 8, 8],  # all of object 4 and half of 3: J = 5/6
        ]
    )
    found = object_counts(predicted, truth)
    assert (found.true, found.predicted, found.matched) == (4, 4, 2)
    assert found.seg == pytest.approx((3 / 4 + 0 + 0 + 5 / 6) / 4, abs=1e-15)
    assert found.ap50 == pytest.approx(2 / (2 + 2 + 2), abs=1e-15)
    assert found.matched_share == 0.5


def test_seg_asks_for_more_than_half_of_the_true_object_and_ap_for_iou_above_one_half():
    truth = np.array([[1, 1, 0, 0, 0, 0]])
    covering = np.array([[9, 9, 9, 9, 9, 0]])  # all of it: J = 2/5, detected but not matched
    found = object_counts(covering, truth)
    assert (found.seg, found.ap50, found.matched_share) == (pytest.approx(0.4), 0, 0)
    just_half = object_counts(np.array([[9, 9, 9, 9, 0, 0]]), truth)
    assert (just_half.seg, just_half.matched) == (0.5, 0)
    more = object_counts(np.array([[9, 9, 9, 0, 0, 0]]), truth)
    assert (more.seg, more.matched) == (pytest.approx(2 / 3), 1)


@pytest.mark.parametrize("cells", [metrics.DENSE_CELLS, 0])
def test_objects_agree_with_loops_over_pixels(monkeypatch, cells):
    monkeypatch.setattr(metrics, "DENSE_CELLS", cells)
    rng = np.random.default_rng(3)
    positive = 0
    for _ in range(40):
        truth = random_ids(rng, 20, 5)
        predicted = np.roll(truth, rng.integers(-1, 2, 2), (0, 1)).astype(np.uint16)
        predicted[rng.random(truth.shape) < 0.1] = 7
        truth[rng.random(truth.shape) < 0.05] = -1
        found = ObjectCounts.of(predicted, truth)
        true, guessed, matched, seg = objects_by_loops(predicted, truth)
        assert (found.true, found.predicted, found.matched) == (true, guessed, matched)
        assert found.jaccard_sum == pytest.approx(seg, abs=1e-12)
        assert found.ap50 == pytest.approx(matched / (true + guessed - matched), abs=1e-12)
        positive += matched
    assert positive > 40


def test_names_of_objects_do_not_matter():
    rng = np.random.default_rng(4)
    truth = random_ids(rng, 30, 9)
    predicted = np.roll(truth, 1, 0)
    renamed = np.concatenate([[0], rng.permutation(500)[: truth.max()] + 1])
    assert object_counts(renamed[predicted], truth) == object_counts(predicted, truth)
    assert object_counts(predicted, renamed[truth]).seg == pytest.approx(
        object_counts(predicted, truth).seg, abs=1e-14
    )
    assert object_counts(renamed[truth], truth).seg == 1
    assert object_counts(renamed[truth], truth).ap50 == 1


def test_an_object_is_never_matched_twice():
    rng = np.random.default_rng(5)
    for _ in range(20):
        found = object_counts(random_ids(rng, 20, 6), random_ids(rng, 20, 6))
        assert found.matched <= min(found.true, found.predicted)


def test_ids_belong_to_their_page_and_ap_is_the_mean_over_pages():
    one = np.array([[1, 1, 0, 2]])
    stack = np.stack([one, one])
    miss = np.array([[1, 1, 0, 0]])
    found = object_counts(np.stack([one, miss]), stack)
    assert (found.true, found.predicted, found.matched) == (4, 3, 3)
    assert found.ap50 == pytest.approx((1 + 1 / 2) / 2)  # not 3 of 4
    assert found.seg == found.matched_share == 0.75


def test_without_objects_the_scores_are_undefined():
    nothing, one = np.zeros((4, 4), int), np.ones((4, 4), int)
    empty = object_counts(nothing, nothing)
    assert math.isnan(empty.seg)
    assert math.isnan(empty.ap50)
    assert math.isnan(empty.matched_share)
    invented = object_counts(one, nothing)
    assert math.isnan(invented.seg)
    assert invented.ap50 == 0
    assert object_counts(nothing, one).seg == 0
    # A page without any object does not enter the mean.
    assert object_counts(np.stack([nothing, one]), np.stack([nothing, one])).ap50 == 1


def test_ignored_pixels_take_part_on_neither_side():
    truth = np.array([[1, 1, -1, -1, 2]])
    found = object_counts(np.array([[1, 1, 1, 3, 0]]), truth)
    assert (found.true, found.predicted, found.matched) == (2, 1, 1)
    assert found.seg == 0.5


def test_overlaps_counts_every_pair():
    rng = np.random.default_rng(6)
    for dtype in (np.uint8, np.uint64):
        a = rng.integers(0, 5, (9, 11)).astype(dtype)
        b = rng.integers(0, 7, (9, 11)).astype(np.int32)
        expected = Counter(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
        i, j, n = (v.tolist() for v in metrics.overlaps(a, b))
        assert list(zip(i, j, strict=True)) == sorted(expected)
        assert dict(zip(zip(i, j, strict=True), n, strict=True)) == expected
    assert [v.size for v in metrics.overlaps(a[:0], b[:0])] == [0, 0, 0]


def test_objects_of_different_sizes_are_refused():
    with pytest.raises(DataError, match="3 x 3 and the truth 2 x 3 x 3"):
        object_counts(np.ones((3, 3), int), np.ones((2, 3, 3), int))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.uint64])
def test_objects_count_alike_whatever_their_numbers_and_their_type(dtype):
    truth = np.kron(np.int32([[0, 1, 2], [3, 0, 0]]), np.ones((4, 4), np.int32))
    found = np.where(truth == 2, 0, truth)
    wanted = ObjectCounts.of(found, truth)
    assert (wanted.true, wanted.predicted, wanted.matched) == (3, 2, 2)
    most = min(np.iinfo(dtype).max // 4, 10**12)
    for step in (1, most):
        assert ObjectCounts.of(found.astype(dtype) * dtype(step), truth) == wanted
