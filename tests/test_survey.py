"""The numbers of `unetcu check`, on data sets small enough to count by hand."""

import numpy as np
import pytest
from made_up_files import discs

from unetcu.data import Dataset, survey
from unetcu.data.ranges import fit


def dataset(labels, images=None, classes=2, instances=False, values=()):
    labels = [np.array(m, np.int32) for m in labels]
    if images is None:
        images = [np.indices(m.shape)[1].astype(np.uint8)[:, :, None] + i
                  for i, m in enumerate(labels)]  # fmt: skip
    names = [f"x.tif[{i}]" for i in range(len(labels))]
    files = [0] * len(labels)
    return Dataset(images, labels, names, files, classes, instances, fit(images), values)


CELLS = [
    [[1, 1, 1, 1, 0, 7, 7, 7, 7], [1, 1, 1, 1, 0, 7, 7, 7, 7], [1, 1, 1, 1, 7, 7, 7, 7, 7],
     [0, 0, 0, 9, 9, 0, 0, 0, -1]],
    [[0] * 9, [0] * 9, [0] * 9, [-1] * 9],
    [[5] * 9, [5] * 9, [4] * 9, [4] * 9],
]  # fmt: skip


def test_objects_that_are_instances():
    got = survey.objects(dataset(CELLS, instances=True))
    assert got["count"] == 4  # 1, 7, 5, 4; 9 is a speck of 2 pixels
    assert got["specks"] == 1
    assert got["per_image"] == [0, 2]
    assert got["touching_pairs"] == 4  # 1-7, 1-9, 7-9, 5-4
    areas = sorted([12, 13, 18, 18])
    want = [2 * np.sqrt(np.percentile(areas, q) / np.pi) for q in (50, 90)]
    assert got["diameter"] == pytest.approx(want, rel=0.02)


def test_a_pair_that_touches_on_two_sides_is_one_pair():
    ids = [[1, 1, 2, 2], [2, 2, 1, 1], [0, 3, 3, 3]]
    assert survey.objects(dataset([ids], instances=True))["touching_pairs"] == 3


def test_objects_that_are_connected_pieces():
    got = survey.objects(dataset([np.clip(m, -1, 1) for m in CELLS]))
    assert (got["count"], got["specks"], got["touching_pairs"]) == (2, 0, 0)
    none = survey.objects(dataset(CELLS[1:2]))
    assert (none["count"], none["diameter"], none["per_image"]) == (0, [0.0, 0.0], [0, 0])


def test_class_balance():
    got = survey.balance(dataset(CELLS, instances=True))
    assert [c["pixels"] for c in got["classes"]] == [8 + 27, 27 + 36]
    assert got["classes"][1]["share"] == pytest.approx(63 / 98)
    assert got["ignored"] == 10
    assert got["background_only"] == ["x.tif[1]"]
    got = survey.balance(dataset([[[0, 2, 2]], [[0, 0, -1]]], classes=3, values=(0, 1, 2)))
    assert [c["pixels"] for c in got["classes"]] == [3, 0, 2]
    got = survey.balance(dataset([[[0, 1, 1]]], values=(0, 255)))
    assert [c["value"] for c in got["classes"]] == [0, 255]


def test_brightness():
    images = [np.array(v, np.uint16).reshape(1, 3, 1) for v in ([3, 9, 5], [7, 7, 7], [0, 80, 1])]
    got = survey.brightness(dataset([[[0, 0, 0]]] * 3, images))
    assert got == {"min": 0, "max": 80, "medians": [1, 7], "constant": ["x.tif[1]"]}


def test_good_data_raises_no_doubt():
    images, ids = discs(4)
    images = list(images[:, :, :, None])
    assert survey.doubts(dataset(ids, images, instances=True)) == []
    assert survey.doubts(dataset(ids > 0, images)) == []


def test_copies_of_images():
    images, ids = discs(4)
    images = list(images[:, :, :, None])
    images[3] = images[1].copy()
    lines = survey.doubts(dataset(ids, images, instances=True))
    assert lines[0].startswith("1 image is a copy")
    assert "x.tif[1] and x.tif[3]" in lines[0]
    assert "differ" in lines[0]
    ids[3] = ids[1]
    (line,) = survey.doubts(dataset(ids, images, instances=True))
    assert "differ" not in line


def test_inverted_labels():
    images, ids = discs(4)
    images = list(images[:, :, :, None])
    (line,) = survey.doubts(dataset(ids == 0, images, values=(0, 255)))
    assert "inverted" in line
    assert "255" in line
    membranes = [np.where(np.indices((60, 60)) % 12 == 0, 0, 1).min(axis=0)] * 2
    assert not any("inverted" in line for line in survey.doubts(dataset(membranes)))


def look(labels, bright=0.0, **options):
    """What a data set of these labels is alike, its foreground so much brighter."""
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(np.shape(m)) * 10 for m in labels]
    images = [
        (100 + 10 * bright * (np.array(m) > 0) + n).astype(np.float32)[..., None]
        for m, n in zip(labels, noise, strict=True)
    ]
    return survey.alike(dataset(labels, images, **options))


def test_what_kind_of_data_it_is():
    _, ids = discs(3, touching=True)
    assert look(ids, 3, instances=True) == "nuclei"
    assert look(ids, 0.5, instances=True) == "phase"
    assert look(ids, -3, instances=True) == "phase"
    lines = np.ones((3, 90, 90), int)
    lines[:, ::15] = lines[:, :, ::15] = 0
    assert look(lines) == "membranes"
    assert look(1 - lines) is None
    assert look((ids > 0).astype(int)) is None
    assert look(lines + (ids[:, :90, :90] > 0), classes=3) is None
    assert look(np.zeros((2, 20, 20), int), instances=True) is None
    apart = np.where(ids % 2, ids, 0)
    assert look(apart, 3, instances=True) is None, "nothing touches"
