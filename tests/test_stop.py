"""Signals to a real process that trains: exit codes, what it says, and that it can go on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_runs import cells, history

from unetcu import checkpoint, train
from unetcu.training import loop

TRAIN = [sys.executable, "-W", "error", "-m", "unetcu.train"]
FLAGS = ["--instances", "--depth", "1", "--base", "2", "--tile", "44", "--epochs", "20000"]


def done() -> int:
    return checkpoint.load("r/last.safetensors").meta["state"]["done"]


def saved() -> int:
    """When the newest state was written."""
    return os.stat("r/last.safetensors").st_mtime_ns if os.path.exists("r/last.safetensors") else 0


def once_it_saves(number: int, words: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a training that gets this signal when it has saved."""
    before = saved()
    path = os.pathsep.join([str(Path(train.__file__).parents[1]), *sys.path])
    environment = {**os.environ, "UNETCU_THREADS": "1", "PYTHONPATH": path}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*TRAIN, *words], env=environment, stdout=pipe, stderr=pipe, text=True
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            if saved() != before:
                process.send_signal(number)
                break
            time.sleep(0.02)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def test_ctrl_c_then_sigterm_then_kill_and_it_still_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [str(f) for f in cells(tmp_path)]
    steps = [0]
    for number, words in (
        (signal.SIGINT, [*files, *FLAGS, "-o", "r"]),
        (signal.SIGTERM, ["-o", "r", "--resume"]),
        (signal.SIGKILL, ["-o", "r", "--resume"]),
    ):
        code, out, err = once_it_saves(number, words)
        steps.append(done())
        assert steps[-1] >= steps[-2] + 1
        assert all(line.startswith("epoch ") for line in out.splitlines())
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL
            continue
        assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
        told = re.search(
            r"^stopped after step (\d+) of 1000000, all saved\n"
            r"to continue: unetcu train -o r --resume\nlook at: r/report.html\n\Z", err, re.M,
        )  # fmt: skip
        assert told, err
        assert int(told[1]) == steps[-1]
        page = Path("r/report.html").read_text("utf-8")
        assert f"{steps[-1]:,}".replace(",", "&#8239;") + " steps" in page
    step = loop.Trainer.begin

    def two_more(self, batch):
        loss = step(self, batch)
        if self.done == steps[-1] + 2:
            signal.raise_signal(signal.SIGINT)
        return loss

    monkeypatch.setattr(loop.Trainer, "begin", two_more)
    assert train.train(out="r", resume=True).exit_code == 130
    assert done() == steps[-1] + 2
    table = history(Path("r"))
    assert [int(r["epoch"]) for r in table] == list(range(1, len(table) + 1))
    assert [int(r["step"]) for r in table] == [50 * n for n in range(1, len(table) + 1)]


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step, before = loop.Trainer.begin, signal.getsignal(signal.SIGINT)

    def twice(self, batch):
        if self.done == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(loop.Trainer, "begin", twice)
    monkeypatch.setattr(train, "seconds_a_step", lambda net, prepared: 0.1)
    settings = train.Settings(depth=1, base=2, tile=44, steps=9, instances=True)
    with pytest.raises(KeyboardInterrupt):
        train.train(*cells(tmp_path), out="r", settings=settings)
    assert signal.getsignal(signal.SIGINT) is before
    assert not os.path.exists("r/last.safetensors")
