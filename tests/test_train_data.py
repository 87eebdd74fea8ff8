"""Training on every kind of data: built-in, classes, RGB, ignored pixels; pictures; refusals."""

import os
import tomllib

import numpy as np
import pytest
from made_up_files import discs, pixels, put
from made_up_runs import FILES, cells, epochs, history, quick, tiny, weights
from PIL import Image

from unetcu import checkpoint, cli, pictures, train
from unetcu.errors import DataError, DeviceError, UsageError
from unetcu.train import train as run
from unetcu.training import prepare
from unetcu.training.settings import Settings

FLAGS = ["--depth", "1", "--base", "2", "--tile", "64", "--steps", "4"]
CURVES = pictures.curves


@pytest.fixture
def here(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_builtin(monkeypatch):
    monkeypatch.setattr(prepare, "BUILTIN_PAGES", 3)
    monkeypatch.setattr(prepare, "BUILTIN_SIZE", 64)


def test_built_in_data_and_the_same_as_files(here, small_builtin, capsys):
    assert cli.main(["train", *FLAGS]) == 0
    out, err = capsys.readouterr()
    assert "built-in data: 3 made-up images of 64x64, touching cells" in err
    folder = here / "runs/builtin-1"
    assert {p.name for p in folder.iterdir()} == {*FILES, "samples"}
    assert len(epochs(out)) == len(history(folder)) > 0
    assert 0 <= float(epochs(out)[-1]["matched"]) <= 1
    table = tomllib.loads((folder / "config.toml").read_text())
    assert "images" not in table
    assert cli.main(["train", "--config", str(folder / "config.toml")]) == 0
    assert cli.main(["synth", "pages", "--pages", "3", "--size", "64"]) == 0
    names = ["pages/images.tif", "pages/labels.tif"]
    assert cli.main(["train", *names, "--instances", *FLAGS, "-o", "r"]) == 0
    best = weights(folder / "best.safetensors")
    assert weights(here / "runs/builtin-2/best.safetensors") == best
    assert weights(here / "r/best.safetensors") == best


def test_the_pictures_are_pictures(here, monkeypatch):
    monkeypatch.setattr(pictures, "curves", CURVES)
    done = run(*cells(here), settings=tiny(instances=True))
    for name in ("progress.png", "samples/validation.png", "samples/weight_map.png"):
        with Image.open(done.folder / name) as picture:
            picture.load()
            assert min(picture.size) >= 44
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_three_classes_colour_and_ignored_pixels(here):
    _, ids = discs(4, 44, 48, radius=6)
    t = np.where(ids > 0, 1 + ids % 2, 0).astype(np.uint8)
    t[:, :5] = 255
    images = put(here / "rgb.tif", pixels(4, 44, 48, channels=3))
    labels = put(here / "t.tif", t)
    done = run(images, labels, settings=tiny(ignore=255, classes=3, batch=2))
    model = checkpoint.load(done.folder / "best.safetensors")
    assert model.meta["config"]["in_channels"] == 3
    assert model.meta["config"]["classes"] == 3
    assert model.meta["values"] == [0, 1, 2]
    assert model.network().classes == 3
    assert done.rows[-1]["matched"] == ""
    assert 0 <= done.rows[-1]["iou"] <= 1
    table = tomllib.loads((done.folder / "config.toml").read_text())
    assert (table["classes"], table["ignore"], table["instances"]) == (3, 255, False)


def test_a_mask_of_0_and_255_again_by_its_config(here, capsys):
    """The config then says `classes = 2`, which must not change what 255 means."""
    images, ids = discs(4, 44, 48, radius=6)
    files = [str(put(here / "x.tif", images)), str(put(here / "t.tif", (ids > 0) * np.uint8(255)))]
    assert cli.main(["train", *files, *FLAGS, "--w0", "0"]) == 0
    config = here / "runs/x-1/config.toml"
    assert tomllib.loads(config.read_text())["classes"] == 2
    assert cli.main(["train", "--config", str(config)]) == 0
    one, two = (here / f"runs/x-{n}/best.safetensors" for n in (1, 2))
    assert weights(one) == weights(two)
    assert checkpoint.load(two).meta["values"] == [0, 255]


def test_folders_with_odd_names_and_what_is_printed_can_be_typed(here, capsys):
    for i in range(3):
        put(here / f"it's data/images/{i}.png", pixels(seed=i, height=44, width=48))
        mask = np.zeros((1, 44, 48), np.uint8)
        mask[:, 5:20, 5:30] = 1
        put(here / f"it's data/labels/{i}.png", mask)
    assert cli.main(["train", "it's data", *FLAGS, "-o", "my run"]) == 0
    out, err = capsys.readouterr()
    assert "unetcu predict -m 'my run/best.safetensors' IMAGES" in out
    assert "folder: my run\n" in err
    assert tomllib.loads((here / "my run/config.toml").read_text())["images"] == "it's data"
    assert cli.main(["train", "it's data", *FLAGS]) == 0
    assert (here / "runs/it's data-1/best.safetensors").is_file()


def test_weights_of_validation_come_from_the_training_images(here):
    done = [
        run(*cells(here), settings=tiny(instances=True, steps=3, balance=b, w0=w0)).rows[0]
        for b, w0 in ((1.0, 10.0), (1.0, 0.0), (0.0, 0.0))
    ]
    assert len({r["val_loss"] for r in done}) == 3
    assert len({r["loss"] for r in done}) == 3


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        done = run(*cells(folder), out=folder / "r", settings=tiny(instances=True, steps=4))
    return weights(done.folder / "best.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "lr": 0.1}, {"momentum": 0.5, "optimizer": "sgd"}, {"lr": 0.01},
        {"schedule": "constant"}, {"average": 0.1}, {"base": 3}, {"depth": 2}, {"dropout": 0.5},
        {"w0": 1.0}, {"balance": 0.5}, {"sigma": 1.0}, {"gap": 2}, {"symmetry": "none"},
        {"elastic": 1.0},
        {"scale": 0.5}, {"gray": 0.5}, {"seed": 1}, {"batch": 2}, {"tile": 60}, {"range": "image"},
        {"val": "pages 0"},
    ],
    ids=str,
)  # fmt: skip
def test_every_setting_changes_the_result(here, plain, changes):
    done = run(*cells(here), settings=tiny(instances=True, steps=4, **changes))
    assert weights(done.folder / "best.safetensors") != plain


def test_threads_from_the_command_line_change_nothing(here, monkeypatch):
    monkeypatch.setattr(train.threads, "_count", None)
    files = [str(f) for f in cells(here)]
    for n in "13":
        assert cli.main(["train", *files, "--instances", *FLAGS, "-b", "2", "--threads", n]) == 0
        assert train.threads.count() == int(n)
    one, two = (here / f"runs/images-{n}" for n in (1, 2))
    assert weights(one / "best.safetensors") == weights(two / "best.safetensors")


def test_refusals_come_before_a_folder_is_made(here, capsys):
    files = [str(f) for f in cells(here)]
    for words in (
        ["none.tif", "none.tif"],
        [*files, "--instances", "--val", "pages", "9"],
        [*files],
        [*files, "--instances", "--device", "gpu"],
        [*files, "--instances", "--threads", "0"],
        [*files, "--instances", "--init-from", "none"],
        ["--resume"],
        ["--resume", "-o", "none"],
        [*files, "--resume", "-o", "none"],
        ["--resume", "-o", "none", "--lr", "0.1"],
    ):
        assert cli.main(["train", *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines()[-1].startswith("unetcu train: ")
        assert "Traceback" not in err
        assert not os.path.exists("runs")


def test_as_a_function_it_raises(here):
    with pytest.raises(DataError):
        run("none.tif", "none.tif", settings=tiny())
    with pytest.raises(UsageError, match="labels without images"):
        run(None, "t.tif")
    with pytest.raises(DeviceError):
        run(on="gpu")
    with pytest.raises(UsageError, match="--resume uses the run's own"):
        run(out="x", resume=True, settings=Settings())
