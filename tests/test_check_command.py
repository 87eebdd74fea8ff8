"""`unetcu check` on made-up data: what it reports, what it suggests, what it refuses."""

import argparse
import json
import shlex
from itertools import pairwise

import numpy as np
import pytest
from made_up_files import discs, mask, pixels, put

from unetcu import cli, train
from unetcu.check import check, report
from unetcu.errors import DataError, UsageError


@pytest.fixture
def cells(tmp_path):
    images, ids = discs(6, touching=True)
    return put(tmp_path / "cells.tif", images), put(tmp_path / "ids.tif", ids), images, ids


def side_by_side(page):
    """Every two different ids that stand next to or below each other."""
    for a, b in pairwise(page):
        yield from ((p, q) for p, q in zip(a, b, strict=True) if p and q and p != q)
    for row in page:
        yield from ((p, q) for p, q in pairwise(row) if p and q and p != q)


def test_what_it_finds_in_a_stack_of_cells(cells):
    image_file, label_file, images, ids = cells
    found = check(image_file, label_file, instances=True)
    assert found["images"]["count"] == 6
    assert found["images"]["sizes"] == {"160 × 170": 6}
    assert (found["images"]["dtype"], found["images"]["channels"]) == ("uint8", 1)
    assert found["images"]["min"] == images.min()
    assert found["images"]["max"] == images.max()
    assert found["labels"]["kind"] == "instances"
    assert found["labels"]["classes"][1]["pixels"] == (ids > 0).sum()
    number = [
        sum(np.count_nonzero(page == i) >= 10 for i in range(1, page.max() + 1)) for page in ids
    ]
    assert found["objects"]["count"] == sum(number)
    assert found["objects"]["per_image"] == [min(number), max(number)]
    pairs = {(i, *sorted(two)) for i, page in enumerate(ids.tolist()) for two in side_by_side(page)}
    assert found["objects"]["touching_pairs"] == len(pairs) > 100
    assert found["warnings"] == []
    (note,) = found["notes"]
    assert note.startswith("this looks like what the recipe nuclei is for: Crowded nuclei")
    assert found["flags"] == {"recipe": "nuclei", "range": "dtype", "val": "pages 5", "tile": 244}


def test_the_command_it_proposes_runs_as_it_stands(cells):
    image_file, label_file, *_ = cells
    words = shlex.split(check(image_file, label_file, instances=True)["command"])
    assert words[:4] == ["unetcu", "train", str(image_file), str(label_file)]
    assert words[4:6] == ["--recipe", "nuclei"]
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    typed = parser.parse_args(words[2:])
    assert (typed.recipe, typed.range, typed.val) == ("nuclei", "dtype", ["pages", "5"])


def test_flags_that_labels_call_for_are_tried_and_suggested(cells, tmp_path):
    image_file, label_file, images, ids = cells
    found = check(image_file, label_file)
    assert found["flags"]["recipe"] == "nuclei"  # which has them
    assert found["labels"]["kind"] == "instances"
    assert any("--instances" in note for note in found["notes"])
    void = np.where(ids > 0, 1, 0).astype(np.uint8)
    void[:, :30] += (np.indices((30, 170)).sum(axis=0) % 3 == 0).astype(np.uint8)
    void[:, -5:] = 255
    found = check(image_file, put(tmp_path / "void.tif", void))
    assert found["flags"]["ignore"] == 255
    assert found["labels"]["ignored"] == 6 * 5 * 170
    assert len(found["labels"]["classes"]) == 3
    assert len(images) == found["images"]["count"]


def test_brightness_that_differs_calls_for_the_image_rule(cells, tmp_path):
    _, label_file, images, _ = cells
    dim = (images * np.array([1, 0.2, 0.9, 0.1, 0.5, 0.05])[:, None, None]).astype(np.uint8)
    found = check(put(tmp_path / "dim.tif", dim), label_file, instances=True)
    assert found["flags"]["range"] == "image"
    assert (
        check(put(tmp_path / "dim.tif", dim), label_file, instances=True, range="set")["flags"][
            "range"
        ]
        == "set"
    )


@pytest.mark.parametrize(
    ("size", "tile"), [(400, None), (164, None), (100, 188), (64, 148), (21, 108), (3, 92)]
)
def test_small_images_call_for_a_smaller_tile(tmp_path, size, tile):
    files = (
        put(tmp_path / "x.tif", pixels(3, size, size + 9)),
        put(tmp_path / "t.tif", mask(3, size, size + 9)),
    )
    assert check(*files)["flags"].get("tile") == tile


def test_large_objects_call_for_a_deeper_net(tmp_path):
    images, ids = discs(2, 500, 500, radius=60)
    files = put(tmp_path / "x.tif", images), put(tmp_path / "t.tif", ids)
    flags = check(*files, instances=True)["flags"]
    assert (flags["depth"], flags["tile"]) == (4, 348)


def test_warnings(tmp_path):
    images, ids = discs(6)
    images[2] = 77
    images[5] = images[0]
    ids[1] = 0
    found = check(put(tmp_path / "x.tif", images), put(tmp_path / "t.tif", ids > 0))
    text = "\n".join(found["warnings"])
    assert "x.tif[2]" in text
    assert "x.tif[5] (validation) and x.tif[0] (training) are the same image" in text
    assert "copy" in text
    assert "no foreground in the labels: x.tif[1]" in found["notes"]
    found = check(tmp_path / "x.tif", put(tmp_path / "none.tif", ids * 0))
    assert any("all labels are background" in line for line in found["warnings"])
    assert any("class 1" in line for line in found["warnings"])


def test_a_class_that_is_absent(tmp_path):
    x, t = pixels(3), mask(3, value=2)
    found = check(put(tmp_path / "x.tif", x), put(tmp_path / "t.tif", t), classes=3)
    assert found["flags"]["classes"] == 3
    assert [c["pixels"] > 0 for c in found["labels"]["classes"]] == [True, False, True]
    assert any("class 1" in line for line in found["warnings"])


def test_a_value_of_0_can_be_ignored(tmp_path):
    t = mask(3, value=1) + 1
    t[:, :2] = 0
    found = check(
        put(tmp_path / "x.tif", pixels(3)), put(tmp_path / "t.tif", t), ignore=0, classes=3
    )
    assert found["flags"]["ignore"] == 0
    assert found["labels"]["ignored"] == 3 * 2 * 34


def test_folders_are_split_by_share_and_one_image_not_at_all(tmp_path):
    for i in range(5):
        put(tmp_path / f"images/{i}.png", pixels(seed=i, height=30 + i))
        put(tmp_path / f"masks/{i}_mask.png", mask(height=30 + i))
    found = check(tmp_path)
    assert found["flags"]["val"] == "0.2"
    assert shlex.split(found["command"])[2:4] == [str(tmp_path), "--range"]
    assert len(found["images"]["sizes"]) == 5
    assert "4 other sizes" in report(found)
    one = check(tmp_path / "images/0.png", tmp_path / "masks/0_mask.png")
    assert one["flags"]["val"] == "none"
    assert any("one image" in line for line in one["warnings"])


@pytest.mark.parametrize("name", ["two words", "a'b", "-x", "$HOME", "line\nbreak", "é"])
def test_awkward_names_in_the_command(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / f"{name}.tif", pixels(3))
    put(tmp_path / "t.tif", mask(3))
    command = check(f"{name}.tif", "t.tif")["command"]
    assert command.isprintable()
    if "\n" in name:
        assert "$'line\\x0abreak.tif'" in command
    else:
        given = shlex.split(command)[2]
        assert not given.startswith("-")
        assert (tmp_path / given).exists()


def run(capsys, *words):
    code = cli.main(["check", *map(str, words)])
    return code, *capsys.readouterr()


def test_the_report_and_json(cells, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    image_file, label_file, *_ = cells
    code, out, err = run(capsys, image_file, label_file, "--instances")
    assert (code, err) == (0, "")
    *lines, blank, command = out.splitlines()
    assert blank == ""
    assert command.startswith("unetcu train ")
    assert all(len(line) <= 70 for line in lines)
    heads = [line[:12].strip() for line in lines if line[:12].strip()]
    assert heads == ["images", "range", "labels", "objects", "validation", "note"]
    code, out, err = run(capsys, image_file, label_file, "--instances", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == check(image_file, label_file, instances=True)


def test_options_of_the_command_line(cells, capsys):
    image_file, label_file, *_ = cells
    words = [
        "--classes",
        "90",
        "--range",
        "set",
        "--ignore",
        "1",
        "--json",
        "--val",
        "pages",
        "0,2",
    ]
    code, out, _ = run(capsys, image_file, label_file, *words)
    assert code == 0
    want = {"classes": 90, "ignore": 1, "range": "set", "tile": 244, "val": "pages 0,2"}
    assert json.loads(out)["flags"] == want


def test_what_cannot_be_used_is_refused_in_one_line(cells, capsys, tmp_path):
    image_file, label_file, *_ = cells
    short = put(tmp_path / "short.tif", mask(2))
    for words in (
        [image_file, short],
        [image_file, image_file],
        [label_file, image_file],
        [image_file, tmp_path / "none.tif"],
        [image_file, label_file, "--val", "pages", "0-5"],
        [image_file, label_file, "--range", "minmax"],
        [image_file, label_file, "--instances", "--classes", "3"],
        [image_file],
    ):
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, "")
        assert err.startswith("unetcu check: ")
        assert len(err.splitlines()) == 1


def test_as_a_function_it_raises():
    with pytest.raises(DataError, match="does not exist"):
        check("nowhere.tif", "nothing.tif")
    with pytest.raises(UsageError, match="--range"):
        check("nowhere.tif", "nothing.tif", range="all")
