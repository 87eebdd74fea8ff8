"""A training from its files to its folder: what is written, what is said, what is chosen."""

import json
import math
import os
import tomllib

import numpy as np
import pytest
from made_up_runs import FILES, cells, epochs, history, quick, tiny, weights

from unetcu import checkpoint, cli, train
from unetcu.errors import CheckpointError, UsageError
from unetcu.training import loop, prepare, validation
from unetcu.training.rundir import COLUMNS
from unetcu.training.settings import Settings
from unetcu.training.validation import validate


@pytest.fixture
def files(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return [str(f) for f in cells(tmp_path)]


def go(files, **changes):
    options = {k: changes.pop(k) for k in ("out", "init_from", "resume") if k in changes}
    return train.train(*files, settings=tiny(instances=True, **changes), **options)


def test_the_folder_holds_what_is_documented_and_nothing_else(files, capsys):
    done = go(files, lr=0.01)
    out, err = capsys.readouterr()
    assert done.exit_code == 0
    assert str(done.folder) == os.path.join("runs", "images-1")
    assert {p.name for p in done.folder.iterdir()} == {*FILES, "samples"}
    assert {p.name for p in (done.folder / "samples").iterdir()} == {
        "validation.png", "weight_map.png"}  # fmt: skip
    rows, table = epochs(out), history(done.folder)
    assert [r["epoch"] for r in rows] == ["1", "2", "3"]
    assert [r["step"] for r in table] == ["3", "6", "7"]
    for told, row, kept in zip(rows, table, done.rows, strict=True):
        assert list(row) == list(COLUMNS)
        star = "* lowest val_loss" if row["best"] else ""
        assert told == {**row, "best": star}
        assert {k: str(v) for k, v in kept.items()} == row
    assert (done.folder / "progress.png").read_text() == "3", "curves of all epochs"
    best = min(done.rows, key=lambda r: r["val_loss"])
    assert [r for r in done.rows if r["best"]][-1] == best
    assert not any(line.startswith("epoch ") for line in err.splitlines())
    others = [line for line in out.splitlines() if not line.startswith("epoch ")]
    assert [line.split(":")[0] for line in others] == ["best model", "look at", "use it"]
    assert f"(epoch {best['epoch']})" in others[0]
    assert others[1] == "look at: " + os.path.join("runs", "images-1", "report.html")
    log = (done.folder / "log.txt").read_text().splitlines()
    assert [line for line in log if line.startswith("epoch ")] == out.splitlines()[:3]
    assert [line for line in log if not line.startswith("epoch ")] == err.splitlines()
    for start in ("range ", "validation: 1 of 4 images", "device: cpu", "network: depth 1, base 2",
                  "training: 7 steps of 1 tile, 3 steps an epoch, about ", "folder: "):  # fmt: skip
        assert any(line.startswith(start) for line in err.splitlines()), start


def test_the_numbers_of_an_epoch(files, monkeypatch):
    losses, seen = [], []

    def spy(self, batch):
        fetched = step(self, batch)
        losses.append(fetched.item())
        return fetched

    def judge(net, examples, settings):
        seen.append(validate(net, examples, settings))
        return seen[-1]

    step = loop.Trainer.begin
    monkeypatch.setattr(loop.Trainer, "begin", spy)
    monkeypatch.setattr(loop, "validate", judge)
    done = go(files, lr=0.5, steps=5)
    losses.pop(0)  # of the rehearsal that tells the memory
    for row, part, scores in zip(done.rows, (losses[:3], losses[3:]), seen, strict=True):
        assert math.isclose(row["loss"], sum(part) / len(part), abs_tol=1e-6)
        assert row["val_loss"] == round(scores.loss, 6)
        assert row["iou"] == round(scores.iou, 5)
        assert row["pixel_error"] == round(scores.pixel_error, 5)
        assert row["matched"] == round(scores.matched, 4)
    assert done.rows[1]["lr"] == float(f"{0.5 * 0.5 * (1 + math.cos(math.pi * 0.6)):.3g}")


def test_best_is_the_epoch_with_the_star_and_is_what_was_judged(files, monkeypatch):
    # So that the second of five epochs is the best, whatever is learnt.
    wanted, judged = iter([0.5, 0.25, 0.75, 0.25, 0.5]), []

    def judge(net, examples, settings):
        judged.append({k: p.numpy().tobytes() for k, p in net.parameters.items()})
        scores = validate(net, examples, settings)
        scores.loss = next(wanted)
        return scores

    monkeypatch.setattr(loop, "validate", judge)
    done = go(files, epochs=5)
    assert [r["best"] for r in done.rows] == ["*", "*", "", "", ""]
    assert weights(done.folder / "best.safetensors") == judged[1]
    assert weights(done.folder / "last.safetensors") != judged[4], "the average is judged"
    best = checkpoint.load(done.folder / "best.safetensors")
    assert best.meta["step"] == 6
    assert best.meta["scores"]["loss"] == 0.25
    assert best.meta["scores"]["pixel_error"] > 0
    assert best.network().config == best.meta["config"]
    assert best.training == {}
    assert (best.meta["instances"], best.meta["gap"], best.meta["tile"]) == (True, 1, 64)
    assert json.loads(json.dumps(best.meta)) == best.meta


@pytest.mark.parametrize("patience", [1, 2])
def test_patience(files, monkeypatch, capsys, patience):
    wanted = iter([0.5, 0.75, 0.4, 0.75, 0.8, 0.9, 0.1])
    scores = validation.Scores(0, 0.5, 0.5, 0.5, False, None)
    monkeypatch.setattr(
        loop, "validate", lambda *a: setattr(scores, "loss", next(wanted)) or scores
    )
    monkeypatch.setattr(loop.Loop, "_draw", lambda self, scores: None)
    done = go(files, epochs=7, patience=patience)
    assert len(done.rows) == (2 if patience == 1 else 5)
    assert done.exit_code == 0
    assert f"no new best in {patience} epochs: stopped early" in capsys.readouterr().err
    before = (done.folder / "last.safetensors").read_bytes()
    again = train.train(out=done.folder, resume=True)
    assert (again.rows, again.exit_code) == (done.rows, 0)
    assert "is finished" in capsys.readouterr().err
    assert (done.folder / "last.safetensors").read_bytes() == before


def test_without_validation_the_newest_is_best(files, capsys):
    done = go(files, val="none", patience=1, epochs=2)
    out, err = capsys.readouterr()
    assert [r["best"] for r in done.rows] == ["*", "*"]
    assert [r["val_loss"] for r in epochs(out) if "val_loss" in r] == []
    assert [r["best"] for r in epochs(out)] == ["* newest"] * 2
    assert history(done.folder)[1]["iou"] == ""
    assert "validation: none" in err
    assert sorted(p.name for p in (done.folder / "samples").iterdir()) == ["weight_map.png"]
    last = checkpoint.load(done.folder / "last.safetensors")
    average = last.network("cpu").parameters.named(last.training["average"])
    best = weights(done.folder / "best.safetensors")
    assert {name: a.tobytes() for name, a in average.items()} == best


def test_nothing_is_written_over(files, tmp_path):
    one, two = go(files, steps=1), go(files, steps=2)
    assert [r.folder.name for r in (one, two)] == ["images-1", "images-2"]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match="images-1 is there already"):
        go(["none.tif", "none.tif"], out=one.folder)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert go(files, steps=1, out=tmp_path / "mine").folder == tmp_path / "mine"


def test_config_makes_the_same_run_again(files, capsys):
    first = go(files, lr=0.01, batch=2, elastic=3.0, seed=5, val="pages 0,2", dropout=0.25)
    config = first.folder / "config.toml"
    assert cli.main(["train", "--config", str(config)]) == 0
    assert weights(first.folder.with_name("images-2") / "best.safetensors") == weights(
        first.folder / "best.safetensors"
    )
    second = tomllib.loads((first.folder.with_name("images-2") / "config.toml").read_text())
    assert second == tomllib.loads(config.read_text())
    assert second["images"] == files[0]
    assert cli.main(["train", "--config", str(config), "--seed", "6"]) == 0
    assert weights(first.folder.with_name("images-3") / "best.safetensors") != weights(
        first.folder / "best.safetensors"
    )


def test_minutes_become_steps(files):
    done = go(files, minutes=0.1, val="none")
    table = tomllib.loads((done.folder / "config.toml").read_text())
    assert table["steps"] == done.rows[-1]["step"] == 24
    assert "minutes" not in table
    best = checkpoint.load(done.folder / "best.safetensors")
    assert "steps = 24" in best.meta["settings"]


def test_the_length_of_a_run_and_of_an_epoch(files, monkeypatch):
    monkeypatch.setattr(prepare, "DEFAULT_STEPS", 10)
    done = train.train(*files, settings=Settings(depth=1, base=2, tile=64, instances=True))
    assert [r["step"] for r in done.rows] == [3, 6, 9, 12]  # at least the default, whole epochs
    assert [r["step"] for r in go(files, epochs=2, batch=2).rows] == [2, 4]
    # 44 x 48 pixels in outputs of 28: two by two tiles of each of three images.
    assert [r["step"] for r in go(files, epochs=1, tile=44).rows] == [12]
    monkeypatch.setattr(prepare, "SHORTEST_EPOCH", 15)
    assert [r["step"] for r in go(files, epochs=1, batch=2).rows] == [8]


def test_a_long_run_is_scored_about_so_often(files, monkeypatch):
    monkeypatch.setattr(prepare, "MOST_EPOCHS", 3)
    assert [r["step"] for r in go(files, steps=20).rows] == [6, 12, 18, 20]  # passes are of 3
    assert [r["step"] for r in go(files, steps=10).rows] == [3, 6, 9, 10]
    assert [r["step"] for r in go(files, epochs=5).rows] == [3, 6, 9, 12, 15]


def test_init_from(files):
    first = go(files, lr=0.01)
    model = first.folder / "best.safetensors"
    again = go(files, init_from=model, steps=1, lr=1e-12, average=0.0)
    start, end = (checkpoint.load(f / "best.safetensors").weights for f in (first.folder, again[0]))
    assert all(np.allclose(start[k], end[k], atol=1e-9) for k in start)
    with pytest.raises(UsageError, match=r"--init-from does not fit: it has base 2 \(here 3\)"):
        go(files, init_from=model, base=3)
    with pytest.raises(CheckpointError, match="not there"):
        go(["none.tif", "none.tif"], init_from="none.safetensors")  # before the data is read
    assert len(list(first.folder.parent.iterdir())) == 2
    go(files, init_from=model, steps=1, dropout=0.5)
