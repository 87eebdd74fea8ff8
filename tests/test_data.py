"""Data sets from made-up files: what is read, pixel for pixel, and what is refused."""

import numpy as np
import pytest
import tifffile
from made_up_files import mask, pixels, put

from unetcu import data
from unetcu.data import load
from unetcu.errors import DataError, UsageError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pair_of_stacks(tmp_path, dtype, channels):
    x, t = pixels(4, channels=channels, dtype=dtype), mask(4)
    got = load(put(tmp_path / "x.tif", x), put(tmp_path / "t.tif", t))
    assert got.names == ["x.tif[0]", "x.tif[1]", "x.tif[2]", "x.tif[3]"]
    assert (len(got), got.files, got.classes, got.values) == (4, [0] * 4, 2, (0, 255))
    assert not got.instances
    for i in range(4):
        assert got.images[i].dtype == dtype
        assert np.array_equal(got.images[i], x[i].reshape(21, 34, channels))
        assert got.labels[i].dtype == np.int32
        assert np.array_equal(got.labels[i], t[i] // 255)
    assert got.range.apply(got.images[0]).shape == (21, 34, channels)


def test_one_bit_images_and_labels(tmp_path):
    x, t = pixels(2) > 100, mask(2) > 0
    for name, array in (("x.tif", x), ("t.tif", t)):
        with tifffile.TiffWriter(tmp_path / name) as file:
            for page in array:
                file.write(page, contiguous=False, photometric="minisblack")
    got = load(tmp_path / "x.tif", tmp_path / "t.tif")
    assert got.images[1].dtype == bool
    assert np.array_equal(got.images[1][:, :, 0], x[1])
    assert np.array_equal(got.labels[1], t[1])
    assert np.isfinite(got.range.apply(got.images[1])).all()


def test_an_image_of_one_pixel(tmp_path):
    got = load(put(tmp_path / "x.png", pixels(1, 1, 1)), put(tmp_path / "t.png", mask(1, 1, 1)))
    assert got.names == ["x.png"]
    assert np.isfinite(got.range.apply(got.images[0])).all()
    assert got.labels[0].tolist() == [[0]]


def test_twelve_bits_in_sixteen(tmp_path):
    x = pixels(3, dtype=np.uint16) * 20
    got = load(put(tmp_path / "x.tif", x), put(tmp_path / "t.tif", mask(3)))
    y = np.concatenate([got.range.apply(image) for image in got.images])
    assert got.range.kind == "set"
    assert abs(y.std() - 1) < 1e-4


def test_instances_and_ignored_pixels(tmp_path):
    t = mask(2, value=3).astype(np.uint16)
    t[:, 4:11, 12:20] = 700  # touches the other
    t[1, 0] = 65535
    files = put(tmp_path / "x.tif", pixels(2)), put(tmp_path / "t.tif", t)
    got = load(*files, instances=True, ignore=65535)
    assert (got.instances, got.classes) == (True, 2)
    assert np.array_equal(got.labels[0], t[0])
    assert np.array_equal(got.labels[1], np.where(t[1] == 65535, -1, t[1].astype(int)))


def test_a_folder_of_stacks(tmp_path):
    for name, pages in (("a", 2), ("b", 1), ("c", 3)):
        put(tmp_path / f"images/{name}.tif", pixels(pages))
        put(tmp_path / f"labels/{name}.tif", mask(pages))
    got = load(tmp_path)
    assert got.names == ["a.tif[0]", "a.tif[1]", "b.tif", "c.tif[0]", "c.tif[1]", "c.tif[2]"]
    assert got.files == [0, 0, 1, 2, 2, 2]


def test_a_large_set_is_decoded_when_it_is_used(tmp_path, monkeypatch):
    files = put(tmp_path / "x.tif", pixels(5)), put(tmp_path / "t.tif", mask(5))
    held = load(*files)
    monkeypatch.setattr(data, "HELD", 1000)
    lazy = load(*files)
    assert not isinstance(lazy.images, list)
    assert lazy.range == held.range
    assert lazy.fingerprint() == held.fingerprint()
    assert [x.tolist() for x in lazy.images[1:3]] == [x.tolist() for x in held.images[1:3]]


def test_remarks_of_the_reader_are_passed_on_once(tmp_path):
    rgba = np.dstack([pixels()[0]] * 3 + [np.full((21, 34), 255, np.uint8)])
    for i in range(5):
        put(tmp_path / f"images/{i}.png", rgba[None])
        put(tmp_path / f"labels/{i}.png", mask())
    (note,) = load(tmp_path).notes
    assert "alpha" in note
    assert "4 more" in note


def test_fingerprints_tell_data_sets_apart(tmp_path):
    x, t = pixels(2), mask(2)
    other = x.copy()
    other[1, 3, 3] ^= 1
    flat = x.reshape(2, 34, 21), t.reshape(2, 34, 21)
    sets = [
        (x, t),
        (other, t),
        (x, t // 255),
        (x, mask(2, value=0)),
        (x.astype(np.uint16), t),
        flat,
    ]
    found = []
    for i, (a, b) in enumerate(sets):
        found.append(load(put(tmp_path / f"{i}x.tif", a), put(tmp_path / f"{i}t.tif", b)))
    prints = [dataset.fingerprint() for dataset in found]
    assert prints[0] == prints[2]  # 255 or 1 is the same label
    assert len(set(prints)) == 5


def stacks(x, t):
    return lambda p: (put(p / "x.tif", x), put(p / "t.tif", t))


def mixed(first, second):
    def make(p):
        for name, x in (("a", first), ("b", second)):
            put(p / f"images/{name}.tif", x)
            put(p / f"labels/{name}.tif", mask())
        return (p,)

    return make


REFUSED = {
    "other page count": (stacks(pixels(3), mask(2)), "x.tif has 3 pages and .*t.tif 2"),
    "other size": (stacks(pixels(), mask(height=20)), "x.tif is 21 × 34 pixels .* 20 × 34"),
    "other channels": (mixed(pixels(), pixels(channels=3)), "a.tif has 1 channel and .*b.tif 3"),
    "other type": (mixed(pixels(), pixels(dtype=np.uint16)), "a.tif is uint8 and .*b.tif uint16"),
    "missing": (lambda p: (put(p / "x.tif", pixels()), p / "t.tif"), "t.tif does not exist"),
    "float labels": (stacks(pixels(), pixels(dtype=np.float64) / 7), "t.tif holds .*: labels are"),
    "coloured": (stacks(pixels(), pixels(channels=3)), "t.tif is coloured"),
    "values": (stacks(pixels(2), np.stack([mask()[0] * 0, mask(value=9)[0] + mask()[0] % 2])),
               r"t.tif\[1\] holds the label"),
    "cut": (lambda p: (put(p / "x.tif", pixels()), p / "cut.tif"), "cut.tif"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(tmp_path, case):
    make, message = REFUSED[case]
    if case == "cut":
        whole = put(tmp_path / "whole.tif", mask(3)).read_bytes()
        (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    options = {"classes": 3} if case == "values" else {}
    given = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        load(*given, **options)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_options_are_checked_before_files_are_read(tmp_path):
    for options in ({"range": "minmax"}, {"classes": 1}, {"instances": True, "classes": 5}):
        with pytest.raises(UsageError):
            load(tmp_path / "none.tif", tmp_path / "none either.tif", **options)
