"""Training runs so small that a test can make many: files, settings, and what a run says."""

import csv
from pathlib import Path

import numpy as np
import pytest
from made_up_files import discs, put

from unetcu import checkpoint
from unetcu.training import prepare
from unetcu.training.settings import Settings

FILES = {"config.toml", "best.safetensors", "last.safetensors", "history.csv", "log.txt",
         "progress.png", "report.html"}  # fmt: skip


def tiny(**changes) -> Settings:
    """Three steps an epoch on the files of `cells`, one tile each."""
    length = {} if {"epochs", "minutes"} & set(changes) else {"steps": 7}
    return Settings(**{"depth": 1, "base": 2, "tile": 64, **length, **changes})


def cells(folder: Path, pages: int = 4) -> tuple[Path, Path]:
    """images.tif and ids.tif, `pages` pages of 44 x 48 pixels with touching discs."""
    images, ids = discs(pages, 44, 48, radius=6, touching=True)
    return put(folder / "images.tif", images), put(folder / "ids.tif", ids)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch as short as the data; no time measured; curves, which take half a second, faked."""

    def curves(rows, path):
        Path(path).write_text(str(len(rows)))

    monkeypatch.setattr(prepare, "SHORTEST_EPOCH", 1)
    monkeypatch.setattr("unetcu.train.seconds_a_step", lambda net, prepared: 0.25)
    monkeypatch.setattr("unetcu.pictures.curves", curves)


def weights(path: Path) -> dict[str, bytes]:
    return {k: a.tobytes() for k, a in checkpoint.load(path).weights.items()}


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def epochs(text: str) -> list[dict[str, str]]:
    """The epoch lines of a command's output, read as its documentation says they can be."""
    rows = []
    for line in text.splitlines():
        if line.startswith("epoch "):
            words = line.split("  ")
            star = words.pop() if words[-1].startswith("* ") else ""
            rows.append({**dict(word.split(" ") for word in words), "best": star})
    return rows


def state(folder: Path) -> tuple:
    """All that a run has learnt and recorded, without its times, in a form to compare."""
    last, best = (checkpoint.load(folder / f"{n}.safetensors") for n in ("last", "best"))
    timed = ("seconds", "epoch_seconds", "tiles_per_second")
    kept = {k: v for k, v in last.meta["state"].items() if k not in ("rows", *timed)}
    rows = [{k: v for k, v in r.items() if k not in timed} for r in last.meta["state"]["rows"]]
    table = [{k: v for k, v in r.items() if k not in timed} for r in history(folder)]
    arrays = [
        {k: (a.dtype, a.shape, a.tobytes()) for k, a in group.items()}
        for group in (last.weights, last.training, best.weights)
    ]
    others = {k: v for k, v in last.meta.items() if k != "state"}
    assert all(np.isfinite(a).all() for a in last.weights.values())
    return kept, rows, table, others, best.meta, arrays
