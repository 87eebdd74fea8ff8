"""A run that was stopped, wherever, and continued ends with the bits of an undisturbed one."""

import itertools
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_runs import cells, quick, state, tiny

from unetcu import checkpoint, cli, threads
from unetcu.device.rehearsal import Rehearsal
from unetcu.train import train
from unetcu.training import loop
from unetcu.training.interrupts import Interrupts


class Killed(BaseException):
    """Stands for the end of the process: nothing of the program catches it."""


@pytest.fixture
def files(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return [str(f) for f in cells(tmp_path)]


def go(files, out, **changes):
    return train(*files, out=out, settings=tiny(instances=True, **{"lr": 0.01, **changes}))


def after_step(number, action):
    """A patch under which `action` is called when that step has been made."""
    step = loop.Trainer.begin

    def stepped(self, batch):
        loss = step(self, batch)
        if self.done == number and not isinstance(self.net.device, Rehearsal):
            action()
        return loss

    patch = pytest.MonkeyPatch()
    patch.setattr(loop.Trainer, "begin", stepped)
    return patch


def stopped(number, work, how=signal.SIGINT):
    """The result of `work`, during which a signal comes at the end of that step."""
    patch = after_step(number, lambda: signal.raise_signal(how))
    try:
        return work()
    finally:
        patch.undo()


@pytest.mark.parametrize(
    ("stops", "changes"),
    [
        ([k], {"optimizer": optimizer, "dropout": 0.5})
        for k in (1, 2, 3, 4, 6)
        for optimizer in ("adamw", "sgd")
    ]
    + [
        ([1, 3, 5], {"batch": 2, "val": "none"}),
        ([2, 3, 4, 5, 6], {"average": 0.0, "schedule": "constant"}),
        ([4], {"minutes": 0.03, "val": "none"}),
    ],
)
def test_stopped_and_continued_it_ends_the_same(files, stops, changes, capsys):
    whole = go(files, "whole", **changes)
    total = whole.rows[-1]["step"]
    assert total == 7
    capsys.readouterr()
    for i, k in enumerate(stops):
        part = stopped(
            k,
            lambda: train(out="r", resume=True) if i else go(files, "r", **changes),  # noqa: B023
        )
        assert part.exit_code == 130
        assert part.rows == checkpoint.load("r/last.safetensors").meta["state"]["rows"]
        out, err = capsys.readouterr()
        assert err.endswith(
            f"stopped after step {k} of 7, all saved\nto continue: unetcu train -o r --resume\n"
            + ("look at: r/report.html\n" if k >= 3 else "")
        )
        assert "best model" not in out
    done = train(out="r", resume=True)
    assert done.exit_code == 0
    out, err = capsys.readouterr()
    assert f"training: {7 - stops[-1]} steps of" in err
    assert state(Path("r")) == state(Path("whole"))
    seconds = [r["seconds"] for r in done.rows]
    assert seconds == sorted(seconds)


def test_it_may_be_continued_with_another_number_of_threads(files, monkeypatch):
    monkeypatch.setattr(threads, "_count", 1)
    go(files, "whole", batch=2)
    stopped(3, lambda: go(files, "r", batch=2))
    monkeypatch.setattr(threads, "_count", 3)
    train(out="r", resume=True)
    assert state(Path("r")) == state(Path("whole"))


def test_killed_at_any_file_it_can_be_continued(files, monkeypatch):
    """The n-th file of a run never gets its name; saved is after every step."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    replace = os.replace
    go(files, "whole", steps=4)
    for n in itertools.count(3):
        number = iter(range(1, n + 1))

        def counted(*given):
            if next(number, n) == n:  # noqa: B023
                raise Killed
            replace(*given)

        monkeypatch.setattr(os, "replace", counted)
        try:
            go(files, f"r{n}", steps=4)
            break
        except Killed:
            pass
        monkeypatch.setattr(os, "replace", replace)
        if os.path.exists(f"r{n}/last.safetensors"):
            train(out=f"r{n}", resume=True)
            assert state(Path(f"r{n}")) == state(Path("whole")), n
            assert not list(Path(f"r{n}").glob(".*"))
        else:
            assert n < 5
    assert n > 10


def test_saved_at_least_once_a_minute(files, monkeypatch):
    saved = []
    save = loop.Loop.save_last

    def spy(self):
        saved.append(self.trainer.done)
        save(self)

    monkeypatch.setattr(loop.Loop, "save_last", spy)
    go(files, "slow", steps=4)
    assert saved == [3, 4]
    assert loop.SAVE_SECONDS <= 60
    clock = itertools.count(0, 25)  # seconds between two looks
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    saved.clear()
    go(files, "r", steps=30, val="none")
    assert max(b - a for a, b in itertools.pairwise([0, *saved])) <= 2
    assert len(saved) < 28


def test_a_signal_that_comes_late_in_a_step_is_saved_for(files, monkeypatch):
    """`signal` may turn between any two looks at it; what is said to be saved is saved."""
    for late in (1, 2, 3):
        looks = itertools.count()

        class Late(Interrupts):
            @property
            def signal(self):
                return 2 * (next(looks) >= late)  # noqa: B023

        monkeypatch.setattr(loop, "Interrupts", Late)
        folder = f"r{late}"
        go(files, folder, steps=5)
        done = checkpoint.load(f"{folder}/last.safetensors").meta["state"]["done"]
        assert done <= late + 1
        monkeypatch.setattr(loop, "Interrupts", Interrupts)
        assert train(out=folder, resume=True).rows[-1]["step"] == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_last_step_loses_nothing(files, capsys, number):
    done = stopped(7, lambda: go(files, "r"), number)
    assert done.exit_code == 128 + number
    out, err = capsys.readouterr()
    assert "best model" in out
    assert "to continue" not in err
    go(files, "whole")
    assert state(Path("r")) == state(Path("whole"))


def test_interrupted_while_it_is_judged_the_rest_is_made_up_for(files, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    stopped(4, lambda: go(files, "r"))
    assert Path("r/report.html").exists()
    with monkeypatch.context() as patch:
        patch.setattr("unetcu.train.choose_rule", interrupted)
        assert train(out="r", resume=True).exit_code == 130
    assert capsys.readouterr().err.endswith("to go on: unetcu train -o r --resume\n")
    assert train(out="r", resume=True).exit_code == 0
    go(files, "whole")
    assert state(Path("r")) == state(Path("whole"))
    assert page_bytes("r") == page_bytes("whole")


def page_bytes(run):
    page = Path(run, "report.html").read_text()
    return page.replace(f"<h1>{run}</h1>", "").replace(f"<title>{run}:", "<title>")


def test_a_signal_when_patience_is_spent_stops_nothing(files, capsys, monkeypatch):
    validate, seen = loop.validate, []  # seen: 0, 1 of the first run, 3, 4 of the second

    def worse(net, examples, settings):
        seen.append(net)
        if len(seen) == 5:  # the second epoch of the second run
            signal.raise_signal(signal.SIGINT)
        return replace(validate(net, examples, settings), loss=(len(seen) - 1) % 3)

    monkeypatch.setattr(loop, "validate", worse)
    whole = go(files, "whole", patience=1)
    assert [r["step"] for r in whole.rows] == [3, 6], "stopped early"
    seen[:] = [None] * 3
    capsys.readouterr()
    assert go(files, "r", patience=1).exit_code == 130
    out, err = capsys.readouterr()
    assert "best model" in out
    assert "to continue" not in err
    assert state(Path("r")) == state(Path("whole"))


def test_a_finished_run_is_left_alone_in_one_line(files, capsys):
    done = go(files, "my run")
    before = {p: p.read_bytes() for p in Path("my run").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert cli.main(["train", "-o", "my run", "--resume"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "my run is finished, after step 7: nothing to continue; to train on, start a run with "
        "--init-from 'my run/best.safetensors'\n"
    )
    assert train(out="my run", resume=True).rows == done.rows
    assert {p: p.read_bytes() for p in Path("my run").rglob("*") if p.is_file()} == before


def test_time_goes_on_where_it_stopped(files, monkeypatch):
    clock = itertools.count(0, 1.0)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    whole = go(files, "whole").rows
    stopped(5, lambda: go(files, "r"))
    next(itertools.islice(clock, 10_000, None))  # the night between
    rows = train(out="r", resume=True).rows
    for a, b in zip(whole, rows, strict=True):
        assert abs(a["seconds"] - b["seconds"]) <= 2
        assert 0.6 < a["tiles_per_second"] / b["tiles_per_second"] < 1.7
    assert whole[-1]["seconds"] > 7
