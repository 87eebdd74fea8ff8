"""bench/: the report runs and replaces nothing, its tables, times and errors are right."""

import json
import os
import subprocess
import sys
import types
from contextlib import nullcontext

import numpy as np
import pytest
from benches import ROOT

from unetcu.unet import UNet


def test_ratio_is_of_the_fastest_peer_of_like_precision(bench):
    rows = bench("rows")

    def row(precision, who, median):
        same = {"least": median, "most": median, "rounds": 3}
        return rows.Row("s", "c", "w", precision, who, "", median, **same)

    peers = [row("fp32", "PyTorch", 6.0), row("fp32", "PyTorch", 4.0), row("tf32", "PyTorch", 1.0)]
    assert rows.ratio(row("tf32x3", "unetcu", 2.0), peers) == "2.00"
    assert rows.ratio(row("tf32", "unetcu", 2.0), peers) == "0.50"
    assert rows.ratio(row("bf16", "unetcu", 2.0), peers) == ""
    assert rows.ratio(peers[0], peers) == ""
    table = list(rows.table([row("fp32", "unetcu", 2.0), *peers]))
    assert len(table) == 5
    assert table[1].endswith("| 2.00 |")


def test_a_repeated_job_says_the_time_of_one(bench, monkeypatch):
    turns, now, done = bench("turns"), [0.0], []
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])

    def work():
        done.append(0)
        now[0] += 0.001

    job, clock = turns.repeated(work, int, at_least=0.02), turns.Clock()
    done.clear()
    job(clock)
    assert clock.ms == pytest.approx(1)
    assert 10 <= len(done) <= 40


@pytest.mark.parametrize("work", ["forward", "input gradient", "weight gradient"])
def test_the_errors_of_layers_are_seen(bench, work):
    """By our own kernels on simt; a result that is wrong in one place is found."""
    gpu_layers, sides = bench("gpu_layers"), bench("gpu_sides")
    case = next(c for c in bench("layers").cases(UNet(1, 8), 20) if c.name == "down1.conv2")
    where = sides.Ours("simt", []).where
    given = gpu_layers.numbers(case, "fp32")
    found = np.array(gpu_layers.ours(case, given, where, "fp32", 2)[work].result())
    assert gpu_layers.error(case, given, work, found, relu=True) <= 1e-6
    found[0, 1, 2, 3] += 1
    assert gpu_layers.error(case, given, work, found, relu=True) >= 1e-3


def test_errors_of_a_network(bench):
    errors, sides = bench("gpu_errors"), bench("gpu_sides")
    right = errors.right(errors.TINY)
    found = errors.by_us(errors.TINY, sides.Ours("simt", []), "fp32")
    assert max(errors.off(found, right).values()) <= 5e-6
    found.gradients["head.b"][:] *= 2
    assert errors.off(found, right)["training step"] >= 1e-3


class Stream:
    """CuPy's, as far as it is used; `trouble`: where it fails."""

    def __init__(self, trouble=""):
        self.trouble, self.log = trouble, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def synchronize(self):
        self.log.append("wait")

    def begin_capture(self):
        self.log.append("begin")

    def end_capture(self):
        self.log.append("end")
        if self.trouble:
            raise RuntimeError(self.trouble)
        return types.SimpleNamespace(launch=lambda stream: stream.log.append("launch"))


@pytest.mark.parametrize("trouble", ["", "capture was\ninvalidated"])
def test_a_graph_or_what_it_would_have_done(bench, monkeypatch, trouble):
    sides, notes, stream = bench("gpu_sides"), [], Stream(trouble)
    cuda = types.SimpleNamespace(
        Stream=lambda non_blocking: stream,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: nullcontext(),
    )
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    ours = sides.Ours("simt", notes)
    ours.real = True
    replay, how = ours.captured(lambda: stream.log.append("work"))
    assert stream.log == ["work", "work", "wait", "begin", "work", "end"]
    replay()
    assert stream.log[-1] == ("work" if trouble else "launch")
    assert how == ("eager" if trouble else "graph")
    assert notes == (["our CUDA graph: RuntimeError: capture was invalidated"] if trouble else [])


def report(*args):
    words = [sys.executable, "-W", "error", "-m", "bench.report", "--quick", "--on", "cpu", *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_report_runs_and_replaces_nothing_unasked(tmp_path):
    out = tmp_path / "r"
    options = "--sections", "networks", "--no-compile", "--precision", "bf16", "--out", str(out)
    first = report(*options)
    assert first.returncode == 0, first.stderr
    whole, text = json.loads((tmp_path / "r.json").read_text()), (tmp_path / "r.md").read_text()
    timed = [row for row in whole["rows"] if row["rounds"]]
    said = [row for row in whole["rows"] if not row["rounds"]]
    assert {row["who"] for row in timed} >= {"unetcu"}
    assert all(0 < row["least"] <= row["median"] <= row["most"] for row in timed)
    assert all(row["how"] == "predicted" and "median" not in row for row in said)
    assert len(said) == 3 * 2
    assert text.count("PREDICTED, not measured") == 3
    (tmp_path / "r.json").unlink()
    again = report(*options)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.md"]
    assert report(*options, "--overwrite").returncode == 0
    assert np.isfinite([row["median"] for row in timed]).all()
