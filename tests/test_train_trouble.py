"""What a training says when it goes wrong: divergence, a constant prediction, scores undefined."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import cells, epochs, history, quick, tiny

from unetcu import checkpoint, cli, train
from unetcu.device import Fetched
from unetcu.errors import TrainingError
from unetcu.training import loop, prepare, validation


@pytest.fixture
def files(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return [str(f) for f in cells(tmp_path)]


def go(files, out=None, **changes):
    return train.train(*files, out=out, settings=tiny(instances=True, **changes))


def test_training_that_diverges_is_one_line(files, capsys, monkeypatch):
    words = [*files, "--instances", "--depth", "1", "--base", "2", "--tile", "64", "--steps", "9"]
    real = prepare.network

    def huge(*given):
        net = real(*given)
        net.parameters.writable()[:] *= 1e30
        return net

    monkeypatch.setattr(train, "network", huge)
    assert cli.main(["train", *words]) == 2
    out, err = capsys.readouterr()
    assert epochs(out) == []
    *_, last = err.splitlines()
    assert re.fullmatch(
        r"unetcu train: the loss became (nan|inf) at step 1: training has diverged; try a smaller "
        r"--lr than 0\.001 \(the models in runs/images-1, if any, are of before\)", last,
    )  # fmt: skip
    assert not os.path.exists("runs/images-1/last.safetensors")


@pytest.mark.parametrize(("step", "pause"), [(3, 60), (4, 60), (5, 0), (7, 60)])
def test_nothing_is_saved_after_a_loss_that_is_no_number(files, monkeypatch, step, pause):
    """Epochs end at steps 3, 6 and 7: the loss of a step is read before its weights are saved."""
    begin = loop.Trainer.begin

    def spoil(self, batch):
        fetched = begin(self, batch)
        return Fetched(np.float32(np.nan)) if self.done == step else fetched

    monkeypatch.setattr(loop.Trainer, "begin", spoil)
    monkeypatch.setattr(loop, "SAVE_SECONDS", pause)
    with pytest.raises(TrainingError, match=f"the loss became nan at step {step}: training has"):
        go(files, out="r")
    saved = {3: None, 4: 3, 5: 4, 7: 6}[step]
    if saved is None:
        assert not {"best.safetensors", "last.safetensors"} & set(os.listdir("r"))
    else:
        assert checkpoint.load("r/last.safetensors").meta["step"] == saved


@pytest.mark.parametrize("where", ["weights", "average"])
def test_what_is_not_finite_is_never_saved(files, monkeypatch, where):
    step = loop.Trainer.begin

    def spoil(self, batch):
        loss = step(self, batch)
        if self.done == 7:
            flat = self.net.parameters.writable() if where == "weights" else self.average.flat
            flat[3] = np.inf
        return loss

    monkeypatch.setattr(loop.Trainer, "begin", spoil)
    with pytest.raises(TrainingError, match="a weight became infinite at step 7: training has div"):
        go(files, val="none", out="r")
    for name in ("best", "last"):
        assert checkpoint.load(f"r/{name}.safetensors").meta["step"] == 4
    assert [r["step"] for r in history(Path("r"))] == ["4"]


def test_a_constant_prediction_is_told(files, monkeypatch, capsys):
    def constant(net, examples, settings):
        return validation.Scores(1, 0, 0.5, 0, True, np.zeros((*examples[0].t.shape, 2)))

    monkeypatch.setattr(loop, "validate", constant)
    done = go(files, epochs=3)
    err = capsys.readouterr().err
    warning = "warning: every pixel is predicted as the same class"
    assert err.count(warning) == 2, "the first epoch may be too early"
    assert (done.folder / "log.txt").read_text().count(warning) == 2


def test_scores_that_are_not_defined_stay_empty(files, tmp_path, monkeypatch):
    """Validation pages without an object, all background in truth and prediction."""
    scores = validation.Scores(math.nan, math.nan, math.nan, math.nan, False, None)
    monkeypatch.setattr(loop, "validate", lambda *a: scores)
    monkeypatch.setattr(loop.Loop, "_draw", lambda self, scores: None)
    done = go(files, epochs=2)
    for row in done.rows:
        assert [row[k] for k in ("val_loss", "iou", "pixel_error", "matched")] == [""] * 4
        assert row["best"] == "*"
    assert checkpoint.load(done.folder / "best.safetensors").meta["scores"] == {}
