"""What is scored for what was given, against the metrics called directly."""

import numpy as np
import pytest
from made_up_files import put
from scipy.ndimage import label

from unetcu.errors import UsageError
from unetcu.evaluate import evaluate
from unetcu.scores.isbi import isbi_scores
from unetcu.scores.metrics import dice, iou, object_counts, pixel_error

PIXEL = {"pixel_error", "iou", "dice"}
ISBI = {"v_rand", "v_info", "rand_error", "isbi_pixel_error"}
OBJECTS = {"seg", "ap50", "matched"}


def neurites(pages=2, size=30):
    """Truth 0/255 with membranes of three pixels between squares, and a noisy probability."""
    rng = np.random.default_rng(1)
    inside = np.zeros((pages, size, size), np.uint8)
    for page in range(pages):
        lines = np.arange(size) % (9 + page) > 2
        inside[page] = 255 * (lines[:, None] & lines)
    probability = 0.45 * (inside / 255) + 0.55 * rng.random(inside.shape)
    return probability.astype(np.float32), inside


def cells(pages=3, size=40):
    """Instance ids, each page with its own number of squares, two of which touch."""
    ids = np.zeros((pages, size, size), np.uint16)
    for page in range(pages):
        ids[page, 3:13, 4:14], ids[page, 3:13, 14:24] = 1, 2
        for k in range(page + 1):
            ids[page, 18:30, 1 + 13 * k : 10 + 13 * k] = 3 + k
    return ids


def approx(expected):
    return pytest.approx(expected, abs=1e-12)


def test_a_probability_of_two_classes(tmp_path):
    probability, truth = neurites()
    found = evaluate(put(tmp_path / "p.tif", probability), put(tmp_path / "t.tif", truth))
    inside = (truth == 255).astype(int)
    assert (found["kind"], found["truth"], found["classes"]) == ("probability", "classes", 2)
    mask = (probability > 0.5).astype(int)
    scores = found["scores"]
    assert scores["pixel_error"] == approx(pixel_error(mask, inside))
    assert [scores["iou_0"], scores["iou_1"]] == approx(iou(mask, inside))
    assert [scores["dice_0"], scores["dice_1"]] == approx(dice(mask, inside))
    assert scores["iou"] == approx(iou(mask, inside).mean())
    assert scores["dice"] == approx(dice(mask, inside).mean())
    isbi = isbi_scores(probability, inside)
    assert scores["v_rand"] == isbi.v_rand
    assert scores["v_info"] == isbi.v_info
    assert scores["rand_error"] == isbi.rand_error
    assert scores["isbi_pixel_error"] == isbi.pixel_error
    assert found["best_threshold"] == {
        "v_rand": approx(isbi.thresholds["v_rand"]),
        "v_info": approx(isbi.thresholds["v_info"]),
        "rand_error": approx(isbi.thresholds["rand"]),
        "isbi_pixel_error": approx(isbi.thresholds["pixel"]),
    }
    assert [page["name"] for page in found["pages"]] == ["p.tif[0]", "p.tif[1]"]
    for k, page in enumerate(found["pages"]):
        assert page["pixel_error"] == approx(pixel_error(mask[k], inside[k]))
        assert page["v_rand"] == isbi.page_v_rand[k]
        assert page["v_info"] == isbi.page_v_info[k]


def test_the_threshold_moves_the_pixel_scores_alone(tmp_path):
    probability, truth = neurites()
    files = put(tmp_path / "p.tif", probability), put(tmp_path / "t.tif", truth)
    low, half = evaluate(*files, threshold=0.2), evaluate(*files)
    expected = pixel_error((probability > 0.2).astype(int), (truth > 0).astype(int))
    assert low["scores"]["pixel_error"] == approx(expected)
    assert low["scores"]["pixel_error"] != half["scores"]["pixel_error"]
    assert low["scores"]["v_rand"] == half["scores"]["v_rand"]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="from 0 to 1"):
            evaluate(*files, threshold=wrong)


def test_a_class_mask_has_no_threshold(tmp_path):
    probability, truth = neurites()
    mask = (probability > 0.3).astype(np.uint8)
    found = evaluate(put(tmp_path / "p.tif", 255 * mask), put(tmp_path / "t.tif", truth))
    assert found["kind"] == "classes"
    assert found["threshold"] is None
    assert found["best_threshold"] == {}
    isbi = isbi_scores(mask.astype(float), (truth > 0).astype(int), (0.5,))
    assert found["scores"]["v_rand"] == isbi.v_rand != isbi.v_info
    assert found["scores"]["rand_error"] == isbi.rand_error
    assert found["scores"]["pixel_error"] == approx(pixel_error(mask, (truth > 0).astype(int)))
    one = evaluate(tmp_path / "p.tif", tmp_path / "p.tif")
    assert set(one["scores"].values()) == {0.0, 1.0}


def test_of_several_classes_only_pixels_are_scored(tmp_path):
    rng = np.random.default_rng(2)
    truth = np.kron(rng.integers(0, 3, (2, 4, 5)), np.ones((6, 6))).astype(np.uint8)
    truth[0, 0, 0] = 3
    predicted = truth.copy()
    predicted[:, :9] = 1
    found = evaluate(put(tmp_path / "p.tif", predicted), put(tmp_path / "t.tif", truth), classes=4)
    names = {f"{score}_{k}" for score in ("iou", "dice") for k in range(4)}
    assert set(found["scores"]) == PIXEL | names
    assert found["scores"]["iou"] == approx(iou(predicted, truth, 4).mean())
    assert found["scores"]["iou_3"] == 0
    second = found["pages"][1]
    assert second["iou_3"] is None  # nowhere on this page
    assert second["iou"] == approx(iou(predicted[1], truth[1], 3).mean())


def test_instances_against_instances(tmp_path):
    truth = cells()
    predicted = np.where(truth == 2, 1, truth).astype(np.uint16)  # two cells as one
    predicted[0, 35:38, 35:38] = 77
    files = put(tmp_path / "p.tif", predicted), put(tmp_path / "t.tif", truth)
    found = evaluate(*files, instances=True)
    assert (found["kind"], found["truth"]) == ("instances", "instances")
    expected = object_counts(predicted, truth)
    assert set(found["scores"]) == PIXEL | OBJECTS | {"iou_0", "iou_1", "dice_0", "dice_1"}
    assert found["scores"]["seg"] == expected.seg
    assert found["scores"]["ap50"] == expected.ap50
    assert found["scores"]["matched"] == expected.matched_share
    assert found["scores"]["pixel_error"] == approx(9 / truth.size)
    assert found["pages"][2]["matched"] == object_counts(predicted[2], truth[2]).matched_share
    perfect = evaluate(files[1], files[1], instances=True)["scores"]
    assert {perfect[name] for name in OBJECTS} == {1.0}


def test_what_is_no_instances_yet_is_its_connected_parts_as_they_are(tmp_path):
    truth = cells()
    gap = truth > 0
    gap[:, 3:13, 13:15] = False  # between the two that touch
    for name, predicted in (
        ("p.tif", gap.astype(np.float32) * 0.9),
        ("m.tif", gap.astype(np.uint8)),
        ("n.tif", 255 * gap.astype(np.uint8)),
    ):
        files = put(tmp_path / name, predicted), put(tmp_path / "t.tif", truth)
        scores = evaluate(*files, instances=True)["scores"]
        assert scores["matched"] == scores["ap50"] == 1
        assert 0.9 < scores["seg"] < 1
        assert scores["pixel_error"] == approx((gap != (truth > 0)).mean())
    assert evaluate(tmp_path / "p.tif", tmp_path / "t.tif", instances=True, threshold=0.95)[
        "scores"
    ]["matched"] == 0  # fmt: skip


def test_a_mask_against_itself_is_perfect_however_small_and_near_its_parts(tmp_path):
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, 2:38:5, 2:38] = 1
    mask[0, :, ::5] = 0
    file = put(tmp_path / "m.tif", mask)
    scores = evaluate(
        file, put(tmp_path / "t.tif", label(mask)[0].astype(np.uint16)), instances=True
    )["scores"]
    assert scores["pixel_error"] == 0
    assert {scores[name] for name in OBJECTS} == {1.0}


def test_a_page_that_is_all_ignored_counts_nothing(tmp_path):
    truth = cells()
    hidden = np.concatenate([truth, np.full_like(truth[:1], 999)])
    predicted = np.concatenate([truth, truth[:1]])
    files = put(tmp_path / "p.tif", predicted), put(tmp_path / "t.tif", hidden)
    found = evaluate(*files, instances=True, ignore=999)
    assert {found["scores"][name] for name in OBJECTS} == {1.0}
    assert {found["pages"][-1][name] for name in OBJECTS} == {None}


def test_true_instances_given_as_a_mask_are_its_parts(tmp_path):
    mask = np.zeros((1, 30, 30), np.uint8)
    mask[0, 2:10, 2:10] = mask[0, 15:25, 5:28] = 255
    ids = np.where(mask > 0, 5, 0).astype(np.uint16)
    ids[0, :12][ids[0, :12] > 0] = 9
    files = put(tmp_path / "p.tif", ids), put(tmp_path / "t.tif", mask)
    found = evaluate(*files, instances=True)
    assert found["scores"]["matched"] == 1
    mask[0, 2:10, 6:10] = 7
    hidden = evaluate(files[0], put(tmp_path / "t.tif", mask), instances=True, ignore=7)["scores"]
    assert hidden["pixel_error"] == 0
    assert hidden["seg"] == hidden["matched"] == 1
    assert any("t.tif holds one value" in note for note in found["notes"])


def test_ignored_pixels_are_left_out(tmp_path):
    probability, truth = neurites()
    marked = truth.copy()
    marked[:, :, 20:] = 77
    files = put(tmp_path / "p.tif", probability), put(tmp_path / "t.tif", marked)
    scores = evaluate(*files, ignore=77)["scores"]
    mask, inside = ((a[:, :, :20] > 0.5).astype(int) for a in (probability, truth))
    assert scores["pixel_error"] == approx(pixel_error(mask, inside))
    ids = cells().astype(np.int32)
    hidden = ids.copy()
    hidden[:, 16:] = 1000
    files = put(tmp_path / "i.tif", ids), put(tmp_path / "j.tif", hidden.astype(np.uint16))
    found = evaluate(*files, instances=True, ignore=1000)["scores"]
    assert {found[name] for name in OBJECTS} == {1.0}
    assert found["pixel_error"] == 0


def test_an_object_score_without_objects_is_none(tmp_path):
    ids = cells()
    ids[1] = 0
    files = put(tmp_path / "p.tif", ids), put(tmp_path / "t.tif", ids)
    found = evaluate(*files, instances=True)
    assert found["pages"][1]["seg"] is found["pages"][1]["ap50"] is None
    assert found["scores"]["seg"] == found["scores"]["ap50"] == 1
    files = put(tmp_path / "p.tif", ids * 0), put(tmp_path / "t.tif", ids * 0)
    assert evaluate(*files, instances=True)["scores"]["seg"] is None
