"""From probabilities to instances: small pages drawn by hand, and the rule spelled out in loops."""

import numpy as np
import pytest

from unetcu.errors import DataError, UsageError
from unetcu.scores.instances import Rule, label_instances, otsu_parts, otsu_threshold


def page(*rows):
    """'..#' -> mask; digits -> ids."""
    return np.array([[int(c) if c.isdigit() else c == "#" for c in row] for row in rows])


def found(mask, **options):
    options = {"min_size": 0, "grow": 0, **options}
    return ["".join(map(str, row)) for row in label_instances(mask, Rule(**options))]


def closed_by_loops(labels, grow):
    """The rule for gaps, pixel by pixel and object by object."""
    grown = labels.copy()
    ids = [int(i) for i in np.unique(labels) if i]
    for y, x in zip(*np.nonzero(labels == 0), strict=True):
        distances = sorted(
            (min(max(abs(y - v), abs(x - u)) for v, u in np.argwhere(labels == i)), i) for i in ids
        )
        if len(distances) > 1:
            (d1, nearest), (d2, _) = distances[:2]
            if d1 <= grow and d1 + d2 - 1 <= 2 * grow:
                grown[y, x] = nearest
    return grown


def test_parts_are_4_connected_and_numbered_in_reading_order():
    mask = page("##..#", "##.#.", "..##.", "#...#")
    assert found(mask) == ["11002", "11030", "00330", "40005"]


def test_a_probability_is_foreground_above_the_threshold():
    probability = np.array([[0.5, 0.500001, 0.2, 0.9, 0.1]], np.float32)
    assert found(probability) == ["01020"]
    assert found(probability, threshold=0.1) == ["11110"]
    assert found(probability, threshold=0.95) == ["00000"]
    assert found(np.array([[0, 1, 255, 0, 2]], np.uint8)) == ["01102"]
    assert found(np.array([[-1, 1, -1, 0, 2]], np.int32)) == ["01002"]


def test_small_parts_are_dropped_and_leave_no_gap_in_the_numbers():
    mask = page("#.##.#", "..##.#", "#....#")
    assert found(mask, min_size=1) == ["102203", "002203", "400003"]
    assert found(mask, min_size=2) == ["001102", "001102", "000002"]
    assert found(mask, min_size=3) == ["001102", "001102", "000002"]
    assert found(mask, min_size=4) == ["001100", "001100", "000000"]
    assert found(mask, min_size=5) == ["000000"] * 3


def test_defaults_drop_specks_and_close_the_gap_that_training_opens():
    mask = np.zeros((12, 13), bool)
    mask[:5, :5] = mask[:5, 7:12] = mask[10:, :2] = True
    ids = label_instances(mask)
    assert ids.dtype == np.uint16
    assert ids.max() == 2
    assert (ids[:5, :6] == 1).all()
    assert (ids[:5, 6:12] == 2).all()
    assert (ids[7:] == 0).all()
    assert found(page("#" * 19 + ".." + "#" * 20), min_size=20) == ["0" * 21 + "1" * 20]
    assert label_instances(page("#" * 19 + ".." + "#" * 20)).max() == 1
    assert label_instances(page("#" * 20 + "..." + "#" * 20))[0, 20:23].tolist() == [0, 0, 0]


@pytest.mark.parametrize("wide", range(1, 8))
@pytest.mark.parametrize("grow", range(4))
def test_gaps_up_to_twice_grow_are_closed_in_the_middle(wide, grow):
    row = "##" + "." * wide + "##"
    expected = "11" + "1" * ((wide + 1) // 2) + "2" * (wide // 2) + "22"
    if wide > 2 * grow:
        expected = "11" + "0" * wide + "22"
    assert found(page(row), grow=grow) == [expected]
    assert found(page(row).T, grow=grow) == list(expected)


def test_outlines_that_face_open_background_stay():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 5:12] = mask[5:15, 14:20] = True
    ids = label_instances(mask, Rule(grow=1, min_size=0))
    assert (ids[:4] == 0).all()
    assert (ids[16:] == 0).all()
    assert (ids[:, :5] == 0).all()
    assert (ids[:, 20:] == 0).all()
    assert (ids[5:15, 12] == 1).all()
    assert (ids[5:15, 13] == 2).all()


def test_one_object_alone_never_grows():
    # Both arms of the U belong to it: the gap between them is its own.
    assert found(page("##.##", "##.##", "#####"), grow=2) == ["11011", "11011", "11111"]


@pytest.mark.parametrize("grow", [1, 2, 3])
def test_growing_agrees_with_the_rule_in_loops(grow):
    rng = np.random.default_rng(grow)
    for _ in range(12):
        mask = rng.random((13, 11)) < rng.choice([0.06, 0.15, 0.4])
        before = label_instances(mask, Rule(min_size=0, grow=0))
        after = label_instances(mask, Rule(min_size=0, grow=grow))
        assert np.array_equal(after, closed_by_loops(before, grow))


def test_what_separate_opened_is_given_back():
    from unetcu.weightmap import separate

    truth = np.zeros((40, 40), np.int32)
    truth[5:20, 5:20], truth[5:20, 20:35], truth[20:35, 5:35] = 1, 2, 3
    for gap in (1, 2):
        ids = label_instances(separate(truth, gap) > 0, Rule(grow=gap))
        assert (ids == truth).mean() > 0.98


def test_holes_are_filled_when_asked_and_only_inside_one_object():
    ring = page("####...", "#..#.#.", "#..#...", "####...")
    assert found(ring) == ["1111000", "1001020", "1001000", "1111000"]
    assert found(ring, fill_holes=True) == ["1111000", "1111020", "1111000", "1111000"]
    nested = page("#####", "#...#", "#.#.#", "#...#", "#####")
    assert found(nested) == ["11111", "10001", "10201", "10001", "11111"]
    assert found(nested, fill_holes=True) == found(nested)
    two_around = page(".##.", "#..#", "#..#", ".##.")
    assert found(two_around, fill_holes=True) == found(two_around)
    two_holes = page("#####", "#.#.#", "###.#", ".#.##", "#####")
    assert found(two_holes, fill_holes=True) == ["11111", "11111", "11111", "01111", "11111"]
    open_bay = page("###", "#..", "###")
    assert found(open_bay, fill_holes=True) == ["111", "100", "111"]
    diagonal_way_out = page("####", "#..#", "#.#.", "####")
    assert found(diagonal_way_out, fill_holes=True) == found(diagonal_way_out)
    filled_first = page("###", "#.#", "###")
    assert found(filled_first, fill_holes=True, min_size=9) == ["111"] * 3
    # The last row and column of a page are its edge too.
    assert found(page("...", "##.", "..."), fill_holes=True) == ["000", "110", "000"]


def test_ids_that_do_not_fit_16_bits_are_32_bits_wide():
    dots = np.zeros((2 * 255, 2 * 257 + 1), bool)
    dots[::2, : 2 * 257 : 2] = True
    ids = label_instances(dots, Rule(min_size=0, grow=0))
    assert (ids.dtype, ids.max()) == (np.dtype(np.uint16), 0xFFFF)
    dots[0, -1] = True
    ids = label_instances(dots, Rule(min_size=0, grow=0))
    assert (ids.dtype, ids.max()) == (np.dtype(np.uint32), 0x10000)


def test_an_empty_page_has_no_instances():
    ids = label_instances(np.zeros((5, 6), np.float32))
    assert (ids.shape, ids.max(), ids.dtype) == ((5, 6), 0, np.dtype(np.uint16))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(DataError, match=r"\(2, 3, 4\)"):
        label_instances(np.zeros((2, 3, 4), bool))
    with pytest.raises(DataError, match="NaN"):
        label_instances(np.array([[0.1, np.nan]]))
    for option in ({"grow": -1}, {"min_size": -1}):
        with pytest.raises(UsageError, match="0 or more"):
            label_instances(np.zeros((3, 3), bool), Rule(**option))


# Otsu


def otsu_by_loops(image):
    """The split of an 8-bit image that makes the variance between its two classes largest."""
    values = image.ravel().astype(float)
    best, at = -1.0, None
    for t in range(int(values.min()) + 1, int(values.max()) + 1):
        low, high = values[values < t], values[values >= t]
        between = low.size * high.size * (low.mean() - high.mean()) ** 2
        if between > best * (1 + 1e-12):
            best, at = between, t
    return at


def test_otsu_splits_where_the_variance_between_the_classes_is_largest():
    rng = np.random.default_rng(7)
    for _ in range(10):
        image = np.concatenate(
            [rng.normal(60, 15, 400), rng.normal(150, 30, rng.integers(50, 400)), [0, 255]]
        )
        image = np.clip(image.round(), 0, 255).astype(np.uint8)
        assert ((image >= otsu_threshold(image)) == (image >= otsu_by_loops(image))).all()


def test_a_pixel_at_the_threshold_is_bright():
    ramp = np.arange(257, dtype=np.uint16)[None]  # bins of width 1: a value lies on each edge
    bright = ramp >= otsu_by_loops(ramp)
    assert np.array_equal(otsu_parts(ramp) > 0, bright)
    assert np.array_equal(otsu_parts(ramp, bright=False) > 0, ~bright)


def test_otsu_of_any_type_and_of_a_constant_image():
    image = np.repeat([100, 3000], 50).reshape(10, 10)
    for dtype in (np.uint16, np.int32, np.float32):
        assert 100 < otsu_threshold(image.astype(dtype)) <= 3000
    assert otsu_threshold(image > 1000) > 0
    assert otsu_threshold(np.full((3, 3), 7)) == 7
    for bad in (np.array([[1.0, np.nan]]), np.zeros((0, 3))):
        with pytest.raises(DataError, match="finite"):
            otsu_threshold(bad)


def test_the_baseline_finds_bright_or_dark_parts_and_joins_nothing():
    image = np.full((12, 20), 20, np.uint8)
    image[2:9, 2:8] = image[2:9, 9:15] = 200
    image[11, 19] = 210
    ids = otsu_parts(image)
    assert ids.max() == 2
    assert np.array_equal(ids > 0, image == 200)
    assert np.array_equal(otsu_parts(255 - image, bright=False), ids)
    assert otsu_parts(image, min_size=1).max() == 3
