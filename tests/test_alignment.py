"""Labels that were moved, mirrored or laid on another image are found out; good ones are not."""

import numpy as np
import pytest
from made_up_files import discs

from unetcu.data import Dataset
from unetcu.data.alignment import _agreement, _edges, _outline, _shifted, misalignments
from unetcu.data.ranges import fit


def dataset(images, labels):
    images = [image[:, :, None] for image in images]
    names = [f"x.tif[{i}]" for i in range(len(images))]
    labels = [x.astype(np.int32) for x in labels]
    return Dataset(images, labels, names, [0] * len(images), 2, True, fit(images))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("touching", [False, True])
def test_good_labels_raise_no_doubt(seed, touching):
    images, ids = discs(3, seed=seed, touching=touching)
    assert misalignments(dataset(images, ids)) == []
    assert misalignments(dataset(images, ids > 0)) == []
    assert misalignments(dataset(255 - images, ids)) == []
    assert misalignments(dataset(images, np.roll(ids, (1, -1), (1, 2)))) == []  # drawn by hand


@pytest.mark.parametrize(
    ("down", "right", "words"),
    [
        (5, 0, "5 pixels up"),
        (-7, 0, "7 pixels down"),
        (0, 4, "4 pixels left"),
        (3, -9, "3 pixels up and 9 pixels right"),
    ],
)
def test_shifted_labels(down, right, words):
    images, ids = discs(4)
    (line,) = misalignments(dataset(images, np.roll(ids, (down, right), (1, 2))))
    assert line.endswith(f"when moved {words}")


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        (lambda m: m[::-1], "flipped upside down"),
        (lambda m: m[:, ::-1], "mirrored left to right"),
        (lambda m: np.rot90(m, 2), "turned by 180 degrees"),
        (lambda m: np.rot90(m), "turned right by 90 degrees"),
        (lambda m: np.rot90(m, 3), "turned left by 90 degrees"),
        (lambda m: m.T, "transposed, rows and columns exchanged"),
        (lambda m: np.rot90(m, 2).T, "transposed and turned by 180 degrees"),
    ],
)
def test_turned_labels(wrong, cure):
    images, ids = discs(4, 164, 164)
    lines = misalignments(dataset(images, [wrong(page) for page in ids]))
    assert lines == [f"labels fit the images better when {cure}"]


@pytest.mark.parametrize(("by", "which"), [(1, "previous"), (-1, "next")])
def test_labels_one_page_off(by, which):
    images, ids = discs(6)
    (line,) = misalignments(dataset(images, np.roll(ids, by, 0)))
    assert f"the {which} image" in line


def test_only_the_likeliest_is_said():
    """In a regular pattern the labels upside down fit somewhat when they are moved, too."""
    r = np.random.default_rng(0)
    y, x = np.indices((200, 210))
    ids = np.zeros((200, 210), np.uint16)
    for top in range(20, 180, 30):
        for left in range(20, 190, 30):
            a, b = top + r.integers(-3, 4), left + r.integers(-3, 4)
            ids[(y - a) ** 2 + (x - b) ** 2 < 90] = 1
    images = (ids[None] * 90 + r.integers(0, 40, (2, 200, 210))).astype(np.uint8)
    upside_down = [ids[::-1]] * 2
    (line,) = misalignments(dataset(images, upside_down))
    assert line == "labels fit the images better when flipped upside down"


def test_labels_of_other_images():
    images, _ = discs(4, seed=0)
    _, ids = discs(4, seed=99)
    (line,) = misalignments(dataset(images, ids))
    assert "do not follow edges" in line


def test_too_little_to_tell():
    images, ids = discs(2)
    assert misalignments(dataset(images, np.zeros_like(ids))) == []
    assert misalignments(dataset(images[:, :30, :30], ids[:, :30, :30])) == []
    assert misalignments(dataset(images[:, :1, :1], ids[:, :1, :1])) == []


def test_agreement_of_every_shift_is_that_of_labels_moved_so():
    images, ids = discs(1, 81, 95)
    edges, outline = _edges(images[0][:, :, None]), _outline(ids[0].astype(np.int32))
    outline[:5] = outline[-5:] = 0
    outline[:, :5] = outline[:, -5:] = 0
    got = _shifted(edges, outline, 5)
    assert got.shape == (11, 11)
    for down in range(-5, 6):
        for right in range(-5, 6):
            moved = np.roll(outline, (down, right), (0, 1))
            want = _agreement(edges, moved)
            assert got[down + 5, right + 5] == pytest.approx(want, abs=1e-5)


def test_an_outline_is_both_sides_of_a_border():
    labels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 2, -1], [0, 0, 0, 0]], np.int32)
    want = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 1, 0]])
    assert np.array_equal(_outline(labels), want)
