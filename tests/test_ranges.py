"""The normalisation of a data set, against percentiles and moments worked out one by one."""

import json
import math

import numpy as np
import pytest

from unetcu.data.ranges import KINDS, Range, fit
from unetcu.errors import CheckpointError, DataError, UsageError


def picture(seed, height=37, width=53, gain=1.0, offset=0, dtype=np.uint16, channels=1):
    """Noise around 1000 with a bright corner; a new array in the data type asked for."""
    r = np.random.default_rng(seed)
    x = r.normal(1000, 40, (height, width, channels))
    x[: height // 5, : width // 5] += 900
    return (x * gain + offset).astype(dtype)


def percentile(values, q):
    """Between the two nearest of the sorted values, in proportion."""
    ranked = sorted(float(v) for v in values)
    at = (len(ranked) - 1) * q / 100
    below = math.floor(at)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (at - below) * (ranked[above] - ranked[below])


def expected(images, limits):
    """y of every image in float64, one pixel after the other, from limits (low, high) of each."""
    ranged = []
    for image, (low, high) in zip(images, limits, strict=True):
        values = [(float(v) - low) / (high - low) for v in image.ravel()]
        ranged.append([min(2.0, max(-1.0, v)) for v in values])
    everything = [v for values in ranged for v in values]
    mean = math.fsum(everything) / len(everything)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in everything) / len(everything))
    return [
        np.reshape([(v - mean) / std for v in values], image.shape)
        for values, image in zip(ranged, images, strict=True)
    ]


def limits_by_hand(kind, images):
    flat = [image.ravel().tolist() for image in images]
    if kind == "dtype":
        return [(0.0, 65535.0)] * len(images)
    if kind == "set":
        pooled = [v for values in flat for v in values]
        return [(percentile(pooled, 0.1), percentile(pooled, 99.9))] * len(images)
    return [(percentile(values, 1), percentile(values, 99.8)) for values in flat]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_definition(kind):
    images = [picture(0), picture(1, 20, 64, gain=2), picture(2, gain=0.7, offset=300)]
    images[1][3, 4] = 65535  # a hot pixel, held within one width of the limits
    rule = fit(images, kind)
    for image, want in zip(images, expected(images, limits_by_hand(kind, images)), strict=True):
        got = rule.apply(image)
        assert got.dtype == np.float32
        assert got.shape == image.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)
    everything = np.concatenate([rule.apply(image).ravel() for image in images])
    assert abs(everything.mean()) < 1e-5
    assert abs(everything.std() - 1) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(np.bool_, 0, 1), (np.uint8, 0, 255), (np.int16, -32768, 32767), (np.uint32, 0, 2**32 - 1)],
)
def test_the_full_range_of_each_data_type(dtype, low, high):
    image = (np.random.default_rng(0).random((9, 8, 1)) * 100).astype(dtype)
    rule = fit([image], "dtype")
    assert (rule.low, rule.width) == ((low,), (high - low,))


def test_twelve_bits_in_sixteen_fill_the_same_scale_as_sixteen():
    narrow = picture(0).clip(0, 4095)
    want = fit([narrow * 16]).apply(narrow * 16)
    np.testing.assert_allclose(fit([narrow]).apply(narrow), want, rtol=0, atol=1e-5)
    dim = (narrow // 64).astype(np.uint32)
    y = fit([dim], "dtype").apply(dim)  # 2**-26 of the range, and still of scale 1
    assert abs(y.std() - 1) < 1e-4


def test_signed_float_big_endian_and_read_only_images_are_ranged_alike():
    image = picture(0)
    want = fit([image]).apply(image)
    for other in (image.astype(np.int32) - 5000, image.astype(np.float32) / 7 - 3,
                  image.astype(np.float64) * 1e20, image.astype(">u2")):  # fmt: skip
        other.flags.writeable = False
        before = other.copy()
        np.testing.assert_allclose(fit([other]).apply(other), want, rtol=0, atol=1e-4)
        assert np.array_equal(other, before)


def test_auto_depends_on_how_brightness_differs_in_the_whole_set():
    alike = [picture(i) for i in range(8)]
    assert fit(alike).kind == "set"
    assert fit([(image // 16).astype(np.uint8) for image in alike]).kind == "dtype"
    assert fit([image.astype(np.float32) for image in alike]).kind == "set"
    gains = [picture(i, gain=g) for i, g in enumerate((1, 1, 2, 4, 8, 20, 20, 20))]
    assert fit(gains).kind == "image"
    assert "fold" in str(fit(gains))
    offsets = [picture(i, offset=1500 * i) for i in range(8)]
    assert fit(offsets).kind == "image"
    assert "middle" in str(fit(offsets))
    masks = [np.indices((9, 100, 1))[1] < share for share in (10, 30, 45, 55, 70, 90)]
    assert fit(masks).kind == "dtype"  # half-filled or not, their values mean the same
    many = [picture(i) for i in range(20)]
    for odd in (np.zeros((37, 53, 1), np.uint16), picture(0, gain=0.2, offset=800)):
        assert fit([*many, odd]).kind == "set"


def test_images_of_different_exposure_look_alike_after_the_image_rule():
    dark, bright = picture(0, gain=0.5, offset=7), picture(0, gain=20, offset=100)
    rule = fit([dark, bright])
    assert rule.kind == "image"
    assert np.abs(rule.apply(dark) - rule.apply(bright)).max() < 0.05


def test_the_rule_never_depends_on_the_image_it_is_applied_to():
    rule = fit([picture(i) for i in range(4)])
    assert rule.kind == "set"
    new = picture(9, gain=3)
    assert rule.apply(new).mean() > rule.apply(picture(9)).mean() + 1
    part = rule.apply(new)[5:20, 7:30]
    assert np.array_equal(rule.apply(new[5:20, 7:30]), part)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_ranged_on_their_own(kind):
    image = np.concatenate([picture(0), picture(1, gain=9), np.full((37, 53, 1), 5, np.uint16)], 2)
    rule = fit([image], kind)
    whole = rule.apply(image)
    for c in range(2):
        alone = fit([image[:, :, c : c + 1]], kind)
        assert np.array_equal(alone.apply(image[:, :, c : c + 1])[:, :, 0], whole[:, :, c])
    assert np.abs(whole[:, :, 2]).max() < 1e-6  # a constant channel says nothing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_image_gives_finite_values(kind, value):
    constant = np.full((6, 5, 1), value, np.uint16)
    assert np.isfinite(fit([constant], kind).apply(constant)).all()
    rule = fit([constant, picture(0)], kind)
    got = rule.apply(constant)
    assert np.isfinite(got).all()
    assert np.ptp(got) == 0


def test_noise_in_an_empty_image_is_not_blown_up():
    rule = fit([picture(i, gain=g) for i, g in enumerate((1, 4, 8, 20))])
    empty = (1000 + np.random.default_rng(5).integers(0, 3, (37, 53, 1))).astype(np.uint16)
    assert rule.kind == "image"
    assert np.ptp(rule.apply(empty)) < 0.1 * np.ptp(rule.apply(picture(0)))
    values = picture(0).ravel()
    assert rule.width[0] == pytest.approx((percentile(values, 99.8) - percentile(values, 1)) / 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700000), (700000, 1), (1337, 911), (513, 512)])
def test_an_image_read_in_bands_has_the_values_of_the_whole(shape):
    rule = fit([picture(i, gain=g) for i, g in enumerate((1, 8))])
    image = picture(3, *shape)
    read = []

    def rows(y0, y1):
        read.append(y1 - y0)
        return image[y0:y1]

    limits = rule.limits(rows, *shape)
    assert sum(read) == shape[0]
    assert max(read) <= 256
    whole = rule.apply(image)
    y, x = shape[0] // 3, shape[1] // 4
    window = rule.apply(image[y : y + 50, x : x + 60], limits)
    assert np.array_equal(window, whole[y : y + 50, x : x + 60])


def test_percentiles_of_a_large_image_come_from_a_grid_over_all_of_it():
    rule = fit([picture(i, gain=g) for i, g in enumerate((1, 8))])
    image = picture(3, 1337, 911, dtype=np.float32)
    low, width = rule.limits(lambda y0, y1: image[y0:y1], 1337, 911)
    grid = image[::3, ::3].ravel()  # a step of 3 is the first to leave at most 2**18 pixels
    assert low[0] == percentile(grid, 1)
    assert low[0] + width[0] == pytest.approx(percentile(grid, 99.8), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_stored_as_json_is_the_same_rule(kind):
    rule = fit([picture(0, channels=2), picture(1, gain=7, channels=2)], kind)
    assert Range.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "auto"},
        {"kind": ["set"]},
        {"dtype": "object"},
        {"low": [0.0, 1.0]},
        {"low": []},
        {"low": "0"},
        {"width": [0.0]},
        {"std": [-1.0]},
        {"std": [float("nan")]},
        {"mean": [float("inf")]},
        {"mean": [None]},
        {"mean": [True]},
        {"more": 1},
        {"why": None},
    ],
)
def test_a_stored_rule_that_was_tampered_with_is_refused(change):
    stored = fit([picture(0)]).to_dict() | change
    with pytest.raises(CheckpointError, match="range"):
        Range.from_dict(stored)


def test_refusals_of_images_that_do_not_fit_the_rule():
    rule = fit([picture(0)])
    with pytest.raises(DataError, match="2 channels"):
        rule.apply(picture(0, channels=2))
    with pytest.raises(DataError, match="uint8"):
        rule.apply(picture(0, gain=0.1, dtype=np.uint8))
    assert fit([picture(0, dtype=np.float32)]).apply(picture(0, dtype=np.float64)).any()
    with pytest.raises(UsageError, match="auto, dtype, set, image"):
        fit([picture(0)], "minmax")
    with pytest.raises(UsageError, match="no full range"):
        fit([picture(0, dtype=np.float32)], "dtype")
    with pytest.raises(DataError, match="1e37"):
        fit([picture(0, dtype=np.float64) * 1e300])


def test_the_line_a_user_reads_is_one_line():
    for kind in KINDS:
        line = str(fit([picture(0), picture(1)], kind))
        assert line.startswith(f"range {kind}: ")
        assert "uint16" in line
        assert "\n" not in line
