"""Which files make a pair, and in which order; what is refused because it is in doubt."""

import os
import unicodedata

import numpy as np
import pytest
import tifffile
from made_up_files import folders, mask, pixels, put
from PIL import Image

from unetcu.data import load
from unetcu.errors import DataError


@pytest.mark.parametrize("suffix", ["", "_mask", "_masks", "_label", "_labels"])
@pytest.mark.parametrize("parent", ["labels", "masks"])
def test_folders_are_paired_by_name(tmp_path, suffix, parent):
    a, b = put(tmp_path / "images/b 2.tif", pixels()), tmp_path / "images" / "B.x.png"
    put(b, pixels(height=9, width=400, seed=1))
    put(tmp_path / parent / f"b 2{suffix}.png", mask())
    put(tmp_path / parent / f"B.x{suffix}.TIFF", mask(height=9, width=400))
    for got in (load(tmp_path), load(tmp_path / "images", tmp_path / parent)):
        assert got.names == ["B.x.png", "b 2.tif"]
        assert [image.shape for image in got.images] == [(9, 400, 1), (21, 34, 1)]
        assert np.array_equal(got.images[1], tifffile.imread(a)[0, :, :, None])
        assert np.array_equal(got.images[0][:, :, 0], np.asarray(Image.open(b)))
        assert got.files == [0, 1]


def test_numbers_in_names_count_as_numbers(tmp_path):
    ordered = ["7.tif", "cell.tif", "cell009.tif", "cell9.tif", "cell9a.tif", "cell10.tif"]
    got = load(*folders(tmp_path, sorted(ordered), ordered))
    assert got.names == ordered


def test_a_name_that_fits_as_it_is_goes_first(tmp_path):
    folders(tmp_path, ["a.tif", "a_mask.tif"], ["a_label.tif"])
    put(tmp_path / "labels/a_mask.tif", mask(value=1) * 0)
    got = load(tmp_path)
    assert got.names == ["a.tif", "a_mask.tif"]
    assert got.labels[0].any()
    assert not got.labels[1].any()


def test_hidden_files_are_ignored_and_others_remarked_on(tmp_path):
    images, labels = folders(tmp_path, ["a.tif", "._a.tif"], ["a.png", ".DS_Store.png"])
    (images / "notes.txt").write_text("two cells")
    (images / "old").mkdir()
    (images / ".cache").mkdir()
    got = load(images, labels)
    assert got.names == ["a.tif"]
    assert any("notes.txt" in note for note in got.notes)
    assert any("old" in note for note in got.notes)
    assert len(got.notes) == 2


@pytest.mark.parametrize(
    "name", ["Zelle α 細胞", "-v", "[a-z]*?", "two\nlines", "  ", "a.b.c", os.fsdecode(b"\xff\xfe")]
)
def test_awkward_names(tmp_path, name):
    images, labels = folders(tmp_path, [f"{name}.tif", f"{name}2.tif"], [f"{name}_mask.tif"])
    put(labels / f"{name}2.tif", mask(value=0))
    got = load(images, labels)
    assert len(got) == 2
    assert got.labels[0].any() != got.labels[1].any()
    assert all(shown.isprintable() for shown in got.names)
    (labels / f"{name}2.tif").unlink()
    with pytest.raises(DataError) as caught:
        load(images, labels)
    assert str(caught.value).isprintable()


def test_the_same_letters_in_another_unicode_form(tmp_path):
    composed, taken_apart = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))
    got = load(*folders(tmp_path, [f"{composed}.tif"], [f"{taken_apart}_mask.tif"]))
    assert got.labels[0].any()


def one_file_is_both(p):
    put(p / "x.tif", pixels())
    os.link(p / "x.tif", p / "y.tif")
    return p / "x.tif", p / "y.tif"


def one_folder_is_both(p):
    put(p / "a.tif", pixels())
    return p, p / "../" / p.name


def linked_label(p):
    images, labels = folders(p, ["a.tif"], ["b.tif"])
    os.link(images / "a.tif", labels / "a.tif")
    (labels / "b.tif").unlink()
    return images, labels


def named(images, labels):
    return lambda p: folders(p, images, labels)


def empty_folder(p):
    (p / "images").mkdir()
    return p / "images", folders(p / "q", [], ["a.tif"])[1]


def both_kinds(p):
    folders(p, ["a.tif"], ["a.tif"])
    folders(p, [], ["a.tif"], "masks")
    return (p,)


REFUSED = {
    "one file": (one_file_is_both, "x.tif and .*y.tif are one and the same"),
    "one folder": (one_folder_is_both, "one and the same"),
    "linked label": (linked_label, "a.tif and .*a.tif are one and the same"),
    "no label": (named(["a.tif", "b.tif"], ["a.tif"]), "no label in .*labels for b.tif"),
    "no image": (named(["a.tif"], ["a.tif", "c.tif"]), "no image in .*images for c.tif"),
    "almost": (named(["a.tif"], ["a-mask.tif"]), "no label .* for a.tif"),
    "two labels": (named(["a.tif"], ["a.tif", "a_mask.png"]), "a.tif has two labels, .*a.tif and"),
    "two images": (named(["a.tif", "a.png"], ["a.tif"]), "two images of one name"),
    "empty folder": (empty_folder, "images holds no TIFF or PNG file but nothing"),
    "file and folder": (lambda p: (p, put(p / "x.tif", pixels())), "is a folder and .*x.tif is"),
    "missing alone": (lambda p: (p / "none",), "none does not exist"),
    "no labels": (lambda p: (put(p / "x.tif", pixels()),), "was given without labels"),
    "no folders": (lambda p: (p,), "holds no folders images/ and labels/"),
    "both kinds": (both_kinds, "both labels/ and masks/"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(tmp_path, case):
    make, message = REFUSED[case]
    given = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message) as caught:
        load(*given)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
