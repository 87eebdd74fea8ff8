"""The meaning of stored label values: each accepted form pixel for pixel, each refusal."""

import io

import numpy as np
import pytest
from PIL import Image

from unetcu.data.labels import LabelError, interpret
from unetcu.errors import DataError, UsageError


def cells(height=60, width=70, first=1, step=1):
    """Square cells that do not touch, with ids first, first + step, ..., on background 0."""
    out = np.zeros((height, width), np.int64)
    for i, (y, x) in enumerate((y, x) for y in range(3, height, 12) for x in range(4, width, 11)):
        out[y : y + 7, x : x + 6] = first + i * step
    return out


def scattered(values, seed=0, height=60, width=70):
    """Every value in many pieces, as classes in a tissue: blocks of 5 by 5 pixels."""
    blocks = np.random.default_rng(seed).choice(values, (height // 5, width // 5))
    return np.kron(blocks, np.ones((5, 5), np.int64))


def read(*maps, dtype=np.uint8, **options):
    pages = [(f"page{i}", m.astype(dtype)[:, :, None]) for i, m in enumerate(maps)]
    return interpret(pages, **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, ">u2", np.uint64])
def test_class_numbers_are_kept(dtype):
    m = scattered([0, 1, 2, 3])
    got = read(m, m[::-1], dtype=dtype)
    assert (got.classes, got.values, got.notes) == (4, (0, 1, 2, 3), [])
    for labels, want in zip(got.maps, (m, m[::-1]), strict=True):
        assert labels.dtype == np.int32
        assert np.array_equal(labels, want)


@pytest.mark.parametrize("value", [1, 2, 7, 128, 255, 65535])
def test_two_values_are_background_and_class_1(value):
    m = (cells() > 0) * value
    got = read(m, np.zeros_like(m), np.full_like(m, value), dtype=np.uint16)
    assert (got.classes, got.values) == (2, (0, value) if value > 1 else (0, 1))
    assert np.array_equal(got.maps[0], cells() > 0)
    assert not got.maps[1].any()
    assert (got.maps[2] == 1).all()


def test_bool_and_grey_stored_as_rgb():
    m = cells() > 0
    assert np.array_equal(read(m, dtype=bool).maps[0], m)
    grey = np.repeat((m * np.uint8(255))[:, :, None], 3, axis=2)
    assert np.array_equal(interpret([("a", grey)]).maps[0], m)


def test_all_background_is_two_classes():
    got = read(np.zeros((4, 5)), np.zeros((6, 3)))
    assert got.classes == 2
    assert [labels.shape for labels in got.maps] == [(4, 5), (6, 3)]


def test_a_class_that_is_absent_needs_the_number_of_classes():
    m = scattered([0, 1, 3])
    got = read(m, classes=5)
    assert (got.classes, got.values) == (5, (0, 1, 2, 3, 4))
    assert np.array_equal(got.maps[0], m)
    two = scattered([0, 2])
    assert np.array_equal(read(two, classes=3).maps[0], two)  # class 2, not class 1


@pytest.mark.parametrize("first", [1, 500])
def test_instance_ids_are_kept(first):
    m = cells(first=first, step=3)
    got = read(m, m[:, ::-1], np.zeros_like(m), dtype=np.uint16, instances=True)
    assert (got.classes, got.values, got.notes) == (2, (), [])
    assert np.array_equal(got.maps[0], m)
    assert np.array_equal(got.maps[1], m[:, ::-1])


@pytest.mark.parametrize("options", [{}, {"instances": True}, {"classes": 2}])
def test_ignored_pixels_are_minus_one(options):
    m = cells() if "instances" in options else cells() > 0
    stored = m.astype(np.int64)
    stored[:9, :20] = 99
    want = stored.copy()
    want[:9, :20] = -1
    got = read(stored, ignore=99, **options)
    assert np.array_equal(got.maps[0], want)
    assert got.notes == []


def test_ignored_values_of_any_type():
    m = (cells() > 0).astype(np.int64)
    m[0] = -1
    assert (read(m, dtype=np.int16, ignore=-1).maps[0] == m).all()
    assert (read(m, dtype=np.float64, ignore=-1).maps[0] == m).all()
    full = np.where(m < 0, 2**32 - 1, m).astype(np.uint32)
    assert (read(full, dtype=np.uint32, ignore=2**32 - 1).maps[0] == m).all()
    ring = np.where(m < 0, 7, m * 255)
    got = read(ring, ignore=7)
    assert (got.maps[0] == m).all()
    assert got.values == (0, 255)
    assert "200" in read(m > 0, ignore=200).notes[0]


def test_labels_that_look_like_instances_ask_for_the_flag():
    m = cells()
    m[5::12, 6::11] = 0  # a hole in every cell, and specks of most of them elsewhere
    specks = m[59, 1:69:2]
    specks[:] = np.arange(1, specks.size + 1) % m.max()
    with pytest.raises(LabelError, match="--instances") as caught:
        read(m)
    assert caught.value.options == {"instances": True}
    three = np.where(cells() <= 2, cells(), 0)  # two cells, or two classes: only the user knows
    with pytest.raises(LabelError, match="--classes"):
        read(three)
    assert np.array_equal(read(three, classes=3).maps[0], three)
    assert np.array_equal(read(m, classes=40).maps[0], m)


def test_dots_of_single_pixels_are_instances():
    m = np.zeros((60, 70), np.int64)
    m[3::10, 4::10] = np.arange(1, 43).reshape(6, 7)
    assert np.array_equal(read(m, instances=True).maps[0], m)


def test_classes_given_as_instances_are_remarked_on():
    assert "looks" not in str(read(cells(), instances=True).notes)
    (note,) = read((cells() > 0) * 255, instances=True).notes
    assert "without --instances" in note


def test_many_objects_in_one_page_and_few_in_others_are_no_jpeg():
    crowded = np.kron(np.arange(256).reshape(16, 16), np.ones((3, 3), np.int64))
    maps = [np.where(cells() < 31, cells(), 0) for _ in range(5)]
    got = read(*maps, crowded, instances=True)
    assert np.array_equal(got.maps[-1], crowded)


def test_ids_near_0_and_255_are_no_jpeg():
    dark = np.where(cells() < 31, cells(), 0)
    bright = np.where(dark > 0, dark + 224, 0)
    assert np.array_equal(read(dark, bright, instances=True).maps[1], bright)
    classes = scattered([*range(31), 250])
    assert np.array_equal(read(classes, classes=256).maps[0], classes)


def jpeg(mask, quality):
    file = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file)).astype(np.int64)


@pytest.mark.parametrize("quality", [50, 75, 90])
@pytest.mark.parametrize("options", [{}, {"instances": True}, {"classes": 256}])
def test_masks_that_went_through_jpeg_are_refused(quality, options):
    with pytest.raises(DataError, match=r"page1 .*JPEG"):
        read((cells() > 0) * 255, jpeg(cells() > 0, quality), **options)


def test_masks_resized_smoothly_are_refused():
    mask = Image.fromarray(((cells() > 0) * 255).astype(np.uint8))
    smooth = np.asarray(mask.resize((151, 133), Image.Resampling.BICUBIC))
    with pytest.raises(DataError, match="resized"):
        read(smooth)


def test_a_label_set_with_a_void_value_is_no_jpeg():
    m = scattered([*range(21), 255])
    with pytest.raises(LabelError, match="--ignore 255") as caught:
        read(m)
    assert caught.value.options == {"ignore": 255}
    assert read(m, ignore=255).classes == 21


@pytest.mark.parametrize("options", [{}, {"instances": True}])
def test_images_given_as_labels_are_refused(options):
    noise = np.random.default_rng(0).normal(120, 30, (60, 70)).clip(0, 255)
    with pytest.raises(DataError, match="IMAGES first"):
        read(noise, **options)
    with pytest.raises(DataError, match="IMAGES first"):
        read(noise * 200, dtype=np.uint16, **options)
    steps = scattered(range(0, 200, 5))
    with pytest.raises(DataError, match="IMAGES"):
        read(steps, **options)
    with pytest.raises(DataError, match=r"page0 holds .*IMAGES first"):
        read(noise / 255, dtype=np.float32, **options)


@pytest.mark.parametrize(
    ("values", "message", "options"),
    [
        ([0, 1, 3], "--classes 4", {"classes": 4}),
        ([1, 2], "--classes 3", {"classes": 3}),
        ([0, 1, 255], "--ignore 255", {"ignore": 255}),
        ([0, 128, 255], "renumber", None),
        ([0, 5000, 60000], "renumber", None),
        (list(range(40)), "--classes N", None),
    ],
)
def test_values_that_are_not_0_to_n(values, message, options):
    with pytest.raises(DataError, match=message) as caught:
        read(scattered(values), dtype=np.uint16)
    if options is None:
        assert not isinstance(caught.value, LabelError)
    else:
        assert caught.value.options == options
        read(scattered(values), dtype=np.uint16, **options)


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ([scattered([0, 1]), scattered([0, 1, 2])], {"classes": 2}, "page1 holds the label 2"),
        ([cells() * 255], {"classes": 3}, "with --classes 3"),
        ([scattered([0, -1])], {}, "page0 holds the label -1.*--ignore -1"),
        ([scattered([0, 1, -5])], {"ignore": -1}, "the label -5"),
        ([scattered([0, 2**31])], {}, "page0 holds the label 2147483648"),
        ([np.full((5, 5), 9)], {"ignore": 9}, "nothing is left"),
    ],
)
def test_refused_labels_are_named(maps, options, message):
    with pytest.raises(DataError, match=message):
        read(*maps, dtype=np.int64, **options)


def test_coloured_labels_are_refused_with_the_mapping_to_make():
    red = np.zeros((6, 7, 3), np.uint8)
    red[2:4, 2:4, 0] = 255
    with pytest.raises(DataError, match=r"page.png is coloured .#000000 → 0, #ff0000 → 1."):
        interpret([("page.png", red)])
    rainbow = np.random.default_rng(0).integers(0, 60000, (6, 7, 3)).astype(np.uint16)
    with pytest.raises(DataError, match=r"\(\d+, \d+, \d+\) → 0.* 38 more"):
        interpret([("a", rainbow)], instances=True)


def test_fractional_labels_are_refused():
    m = (cells() > 0) * 0.5
    with pytest.raises(DataError, match=r"page0 holds 0.5: labels are whole"):
        read(m, dtype=np.float32)


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"classes": 257}, {"classes": 0}, {"classes": 3, "instances": True}]
)
def test_options_that_make_no_sense(options):
    with pytest.raises(UsageError, match="--classes"):
        read(cells() > 0, **options)


def test_what_was_given_is_not_changed():
    stored = ((cells() > 0) * 255).astype(np.int32)[:, :, None]
    before = stored.copy()
    stored.flags.writeable = False
    interpret([("a", stored)])
    interpret([("a", stored)], ignore=255, classes=2)
    assert np.array_equal(stored, before)
