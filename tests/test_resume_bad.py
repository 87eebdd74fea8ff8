"""What cannot be continued is refused in one line: other data, another training, damage."""

from pathlib import Path

import pytest
import tifffile
from made_up_runs import cells, quick, state, tiny

from unetcu import checkpoint
from unetcu.checkpoint import Checkpoint
from unetcu.errors import CheckpointError, DataError
from unetcu.train import train
from unetcu.training import loop
from unetcu.training.interrupts import Interrupts


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Files, and the folder of a training on them that was stopped after step 4 of 7."""
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    files = [str(f) for f in cells(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interrupts, "signal", property(lambda self: 2 * (loops[-1].trainer.done > 3)))
        loops = []
        go = loop.Loop.go
        patch.setattr(loop.Loop, "go", lambda self: loops.append(self) or go(self))
        train(*files, out="r", settings=tiny(instances=True))
    return files


def test_changed_data_are_refused(run):
    before, files = state(Path("r")), run
    for name in files:
        sound = Path(name).read_bytes()
        pages = tifffile.imread(name)
        pages[-1, -1, -1] ^= 1
        tifffile.imwrite(name, pages, photometric="minisblack")
        with pytest.raises(CheckpointError, match="r was trained on other data: the files changed"):
            train(out="r", resume=True)
        Path(name).write_bytes(sound)
    assert state(Path("r")) == before
    Path(files[1]).unlink()
    with pytest.raises(DataError, match=r"ids\.tif does not exist"):
        train(out="r", resume=True)


def test_what_is_no_state_is_refused(run):
    last = checkpoint.load("r/last.safetensors")
    config = Path("r/config.toml")
    text = config.read_text()

    def refused(match, meta=None, training=None):
        if meta is not None:
            Checkpoint(last.weights, meta, training or last.training).save(
                "r/last.safetensors", overwrite=True
            )
        with pytest.raises(CheckpointError, match=match):
            train(out="r", resume=True)

    good = last.meta
    refused("holds no state to resume from", {k: v for k, v in good.items() if k != "state"})
    for key in good["state"]:
        wrong = [["done"], None] if key != "best" else [["x"]]
        for value in wrong:
            refused("holds no state", {**good, "state": {**good["state"], key: value}})
    rows = good["state"]["rows"]
    for bad in ([1], [{}], [{**rows[0], "more": 1}]):
        refused("holds no state", {**good, "state": {**good["state"], "rows": bad}})
    Checkpoint(last.weights, good).save("r/last.safetensors", overwrite=True)
    refused("cannot resume: the file holds weights only")
    config.write_text(text.replace('optimizer = "adamw"', 'optimizer = "sgd"'))
    refused("cannot resume: .* needs average, velocity", good)
    config.write_text(text)
    Path("r/last.safetensors").write_bytes(b"damaged")
    refused("no safetensors file")
    Checkpoint(last.weights, good, last.training).save("r/last.safetensors", overwrite=True)
    assert train(out="r", resume=True).rows[-1]["step"] == 7
