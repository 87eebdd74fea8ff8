"""What `predict` refuses, in one line and before it writes; and what stops it in the middle."""

import os
import re
import shutil
import signal

import numpy as np
import pytest
import tifffile
from predictset import pages, save_model, stack_file
from tiffbuild import page, tiff

from unetcu import checkpoint, outputs, stackwise
from unetcu.cli import main
from unetcu.errors import CheckpointError, DataError, UsageError
from unetcu.files import atomic
from unetcu.predict import default_tile, predict
from unetcu.tiles import border, output_size


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with a model, some images, and things that are neither."""
    tmp_path = tmp_path_factory.mktemp("things")
    save_model(tmp_path / "m.safetensors")
    save_model(tmp_path / "rgb.safetensors", channels=3)
    save_model(tmp_path / "deep.safetensors", depth=4)
    stack_file(tmp_path / "a.tif", pages(0, 2, 60, 50))
    stack_file(tmp_path / "small.tif", pages(0, 1, 9, 9))
    stack_file(tmp_path / "u2.tif", pages(0, 1, 60, 50, "u2"))
    for folder in ("images", "other", "empty"):
        (tmp_path / folder).mkdir()
    stack_file(tmp_path / "images" / "b.tif", pages(0, 1, 60, 50))
    stack_file(tmp_path / "other" / "a.tif", pages(0, 1, 60, 50))
    stack_file(tmp_path / "other" / "x_classes.tif", pages(0, 1, 60, 50))
    (tmp_path / "text.tif").write_text("not an image")
    model = checkpoint.load(tmp_path / "m.safetensors")
    changes = {"range": {"kind": "dtype"}, "gap": "wide", "config": {"depth": 1}}
    for key, value in changes.items():
        changed = checkpoint.Checkpoint(model.weights, {**model.meta, key: value})
        changed.save(tmp_path / f"{key}.safetensors")
    return tmp_path


@pytest.fixture
def here(things, tmp_path, monkeypatch):
    """A copy of it that is the current folder."""
    shutil.copytree(things, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED = {
    "": "the following arguments are required",
    "-m m.safetensors -o out": "required: IMAGES",
    "a.tif -o out": "required: -m/--model",
    "-m m.safetensors a.tif": "required: -o/--out",
    "-m absent.safetensors a.tif -o out": "absent.safetensors is not there",
    "-m images a.tif -o out": "images is a folder: name the model file in it",
    "-m a.tif a.tif -o out": "a.tif is no safetensors file",
    "-m range.safetensors a.tif -o out": "range.safetensors: the model's range has not the entries",
    "-m gap.safetensors a.tif -o out": "gap.safetensors: the model's gap is no number of pixels",
    "-m config.safetensors a.tif -o out": "config.safetensors: the model file contradicts itself",
    "-m m.safetensors absent.tif -o out": "absent.tif: there is no such file",
    "-m m.safetensors empty -o out": "empty holds no TIFF or PNG file",
    "-m m.safetensors a.tif text.tif -o out": "text.tif: it is not a TIFF or PNG image",
    "-m m.safetensors a.tif u2.tif -o out": "u2.tif: the image is uint16 and the training images",
    "-m rgb.safetensors a.tif -o out": "a.tif: the image has 1 channels and the training images",
    "-m m.safetensors a.tif -o out --tile 41": "nearest tiles are 40 and 42",
    "-m m.safetensors a.tif -o out --tile 3": "nearest tiles are 18 and 20",
    "-m m.safetensors a.tif -o out --tile -5": "nearest tiles are 18 and 20",
    "-m deep.safetensors a.tif -o out --tile 188": "give an input tile of at least 204 pixels",
    "-m m.safetensors a.tif -o out --tile big": "argument --tile: invalid int value: 'big'",
    "-m m.safetensors a.tif -o out --tta seven": "invalid choice: 'seven'",
    "-m m.safetensors a.tif -o out --instance": "did you mean '--instances'?",
    "-m m.safetensors a.tif -o out --threshold 1.5": "--threshold 1.5: give a probability, from 0",
    "-m m.safetensors a.tif -o out --threshold nan": "--threshold nan: give a probability, from 0",
    "-m m.safetensors a.tif -o out --min-size -1": "--min-size -1: give 0 or more pixels",
    "-m m.safetensors a.tif -o out --memory lots": "--memory lots is no amount: write it like 2G",
    "-m m.safetensors a.tif -o out --memory 10M": "--memory 10 MB is too little for a.tif, --tile",
    "-m m.safetensors a.tif -o out --device tpu": "no device is called 'tpu'",
    "-m m.safetensors a.tif -o out --threads 0": "threads must be from 1 to 1024",
    "-m m.safetensors a.tif -o small.tif": "small.tif is a file: -o needs a folder",
    "-m m.safetensors a.tif -o small.tif/x": "small.tif is a file: -o needs a folder",
    "-m m.safetensors images -o images": "-o images lies in the folder of the images",
    "-m m.safetensors images -o images/new/deep": "lies in the folder of the images",
    "-m m.safetensors a.tif other -o out": "would both be predicted into out/a_probability.tif",
    "-m m.safetensors a.tif a.tif -o out": "would both be predicted into",
    "-m m.safetensors other/x_classes.tif x.tif -o other": "x.tif: there is no such file",
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_refused_in_one_line_before_anything_is_written(here, capsys, words):
    before = sorted(map(str, here.rglob("*")))
    assert main(["predict", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("unetcu predict: ")
    assert err.count("\n") == 1
    assert REFUSED[words] in err
    assert sorted(map(str, here.rglob("*"))) == before


def test_results_are_overwritten_only_when_asked(here, capsys):
    predict("m.safetensors", ["a.tif", "small.tif"], "out")
    before = {name: (here / "out" / name).read_bytes() for name in os.listdir("out")}
    for left in ("small_overlay.png", "a_classes.tif"):
        for name in sorted(set(before) - {left}):
            (here / "out" / name).unlink(missing_ok=True)
        capsys.readouterr()
        with pytest.raises(UsageError, match=rf"{left} exists already: .*--overwrite"):
            predict("m.safetensors", ["a.tif", "small.tif"], "out")
        assert os.listdir("out") == [left]
        predict("m.safetensors", ["a.tif", "small.tif"], "out", overwrite=True)
        assert {name: (here / "out" / name).read_bytes() for name in before} == before


def test_an_image_is_never_written_over(here):
    stack_file(here / "other" / "x.tif", pages(0, 1, 60, 50))
    before = (here / "other" / "x_classes.tif").read_bytes()
    files = ["other/x.tif", "other/x_classes.tif"]
    with pytest.raises(UsageError, match=r"x_classes\.tif would be written over the image"):
        predict("m.safetensors", files, "other", overwrite=True)
    assert (here / "other" / "x_classes.tif").read_bytes() == before
    assert "x_probability.tif" not in os.listdir("other")


def test_the_least_memory_named_is_enough(here, capsys):
    for flags in ([], ["--instances"], ["--tta", "rot7"], ["--tile", "40"]):
        words = ["predict", "-m", "m.safetensors", "small.tif", "a.tif", "-o", "out", *flags]
        words.append("--overwrite")
        capsys.readouterr()
        assert main([*words, "--memory", "1M"]) == 2
        least = int(re.search(r"for a.tif, .* give at least ([0-9]+)M", capsys.readouterr().err)[1])
        assert main([*words, "--memory", f"{least - 1}M"]) == 2
        assert main([*words, "--memory", f"{least}M"]) == 0


def test_the_default_tile_is_legal_at_every_depth():
    assert [default_tile(depth) for depth in (1, 2, 3, 4)] == [572, 572, 572, 572]
    for depth in range(1, 9):
        assert output_size(default_tile(depth), depth) >= 3 * 2**depth
        assert default_tile(depth) <= max(572, 3 * border(depth))


def test_a_page_that_cannot_be_read_leaves_nothing_of_its_stack(here):
    good = page(pages(0, 1, 60, 50)[0], compression=8)
    data = bytearray(tiff([good, good]))
    (here / "bad.tif").write_bytes(data)
    with tifffile.TiffFile(here / "bad.tif") as read:
        offset = read.pages[1].dataoffsets[0]
    data[offset + 10 : offset + 40] = bytes(30)
    (here / "bad.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.tif: page 2 of 2"):
        predict("m.safetensors", ["a.tif", "bad.tif"], "out", instances=True)
    assert all(name.startswith("a_") for name in os.listdir("out"))
    assert len(os.listdir("out")) == 4


def test_an_answer_that_is_not_finite_is_refused(here):
    model = checkpoint.load("m.safetensors")
    model.weights["head.w"] = np.full_like(model.weights["head.w"], 3e38)
    model.save("m.safetensors", overwrite=True)
    with np.errstate(all="ignore"), pytest.raises(DataError, match=r"a\.tif, page 1: .*not finite"):
        predict("m.safetensors", "a.tif", "out")
    assert os.listdir("out") == []


@pytest.mark.parametrize("failing", ["write_png", "label_instances"])
def test_a_failure_at_the_very_end_leaves_nothing(here, monkeypatch, failing):
    def fail(*args, **options):
        raise DataError("the disk is full")

    monkeypatch.setattr(outputs, failing, fail)
    with pytest.raises(DataError, match="the disk is full"):
        predict("m.safetensors", "a.tif", "out", instances=failing != "write_png")
    assert os.listdir("out") == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_tile_and_leaves_no_part(here, monkeypatch, capsys, number, code):
    real, bands = stackwise.probabilities, []

    def interrupted(*args):
        for band in real(*args):
            bands.append(band)
            if len(bands) == 2:
                signal.raise_signal(number)
            yield band

    monkeypatch.setattr(stackwise, "probabilities", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    try:
        got = main(["predict", "-m", "m.safetensors", "a.tif", "-o", "out", "--tile", "40"])
    except SystemExit as stopped:
        got = stopped.code
    assert got == code
    assert len(bands) == 2
    assert os.listdir("out") == []
    assert signal.getsignal(signal.SIGTERM) is before
    assert "a.tif:" not in capsys.readouterr().out


def test_what_a_killed_run_left_is_removed(here):
    predict("m.safetensors", "a.tif", "out")
    (here / "out" / "a_classes.tif").unlink()
    with atomic.atomic_path(here / "out" / "a_classes.tif") as half:
        (here / "kept").write_bytes(b"half a result")
    (here / "kept").rename(half)  # as if the process had been killed
    predict("m.safetensors", "a.tif", "out", overwrite=True)
    assert sorted(os.listdir("out")) == ["a_classes.tif", "a_overlay.png", "a_probability.tif"]


def test_images_unlike_those_of_the_training_are_told(here, capsys):
    for word, change in {"darker": -90, "brighter": 90}.items():
        image = np.clip(pages(0, 3, 60, 50) + change * 1.0, 0, 255).astype(np.uint8)
        predict("m.safetensors", stack_file(here / f"{word}.tif", image), "out")
        err = capsys.readouterr().err
        assert err.count("standard deviations") == 1  # not for every page
        assert re.search(rf"warning: .*{word}.tif, page 1 is [0-9.]+ .* {word} than", err)
    flat = (pages(0, 3, 60, 50) // 32 + 105).astype(np.uint8)
    predict("m.safetensors", stack_file(here / "flat.tif", flat), "out")
    assert re.search(r"flat.tif, page 1 has [0-9.]+% of the contrast of", capsys.readouterr().err)
    predict("m.safetensors", "a.tif", "out")
    assert "warning" not in capsys.readouterr().err


def test_predictions_that_say_nothing_are_told(here, capsys):
    model = checkpoint.load("m.safetensors")
    model.weights["head.b"][:] = (0, 30)
    model.save("sure.safetensors")
    predict("sure.safetensors", "a.tif", "sure")
    assert "predicted alike everywhere, probability of foreground 1 to 1" in capsys.readouterr().err
    predict("m.safetensors", "a.tif", "out", threshold=1)
    assert "is predicted to be background everywhere" in capsys.readouterr().err


def test_a_call_is_checked_as_the_command_is(here):
    with pytest.raises(UsageError, match="--tta seven is not known: give one of none, mirror"):
        predict("m.safetensors", "a.tif", "out", tta="seven")
    with pytest.raises(UsageError, match="no images: give files or folders"):
        predict("m.safetensors", [], "out")
    model = checkpoint.load("m.safetensors")
    model.meta["gap"] = 100
    model.save("far.safetensors")
    with pytest.raises(CheckpointError, match=r"far\.safetensors: the model's gap"):
        predict("far.safetensors", "a.tif", "out")
    assert not os.path.exists("out")
