"""The folder of a run: where it is made, what is refused, how names and tables are written."""

import os
import sys

import pytest
from made_up_runs import history

from unetcu.errors import DataError, UsageError
from unetcu.training.config import data_in
from unetcu.training.rundir import COLUMNS, RunFolder
from unetcu.training.settings import Settings, from_flags


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_are_numbered_and_no_old_one_is_used(here):
    names = [str(RunFolder.create(None, "cells").path) for _ in range(3)]
    assert names == [os.path.join("runs", f"cells-{n}") for n in (1, 2, 3)]
    assert RunFolder.create(None, "other").path.name == "other-1"
    (here / "runs/cells-4").write_text("a file")
    (here / "runs/cells-5").symlink_to("nowhere")
    (here / "runs/cells-2/samples").rmdir()
    (here / "runs/cells-2").rmdir()
    assert RunFolder.create(None, "cells").path.name == "cells-2"
    assert RunFolder.create(None, "cells").path.name == "cells-6"


def test_a_folder_of_ones_own_is_made_with_those_above_it(here):
    run = RunFolder.create(here / "a/b/c", "x")
    assert sorted(p.name for p in run.path.iterdir()) == ["samples"]
    for file in (run.config, run.log, run.best, run.last, run.history, run.progress, run.report):
        assert file.parent == here / "a/b/c"
    assert {run.validation.parent, run.weight_map.parent} == {run.samples}


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_refused(here, kind):
    out = here / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("x")
    else:
        out.symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"out is there already: .* --resume$"):
        RunFolder.create(out, "x")
    with pytest.raises(UsageError, match="there already"):
        RunFolder.refuse_existing(out)
    RunFolder.refuse_existing(here / "new")


def test_a_folder_that_cannot_be_made(here):
    (here / "runs").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot be made: Not a directory"):
        RunFolder.create(None, "x")
    with pytest.raises(DataError, match="cannot be made: Not a directory"):
        RunFolder.create(here / "runs/x", "x")


def test_only_a_run_with_its_state_can_be_resumed(here):
    with pytest.raises(UsageError, match="-o RUN --resume"):
        RunFolder.existing(None)
    run = RunFolder.create("r", "x")
    with pytest.raises(DataError, match=r"r cannot be resumed: config\.toml is not in it; start"):
        RunFolder.existing("r")
    with pytest.raises(DataError, match="cannot be resumed"):
        RunFolder.existing("none")
    run.config.write_text("")
    with pytest.raises(DataError, match=r"last\.safetensors is not in it"):
        RunFolder.existing("r")
    run.last.write_text("")
    run.samples.rmdir()
    assert RunFolder.existing("r").samples.is_dir()


def test_what_a_killed_run_left_is_removed(here):
    run = RunFolder.create("r", "x")
    run.config.write_text("")
    run.last.write_text("")
    for file in (run.best, run.last, run.history, run.report):

        class Killed(BaseException):
            pass

        def killed(*args):
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.unlink", lambda *a: None)
            patch.setattr("os.replace", killed)
            with pytest.raises(Killed):
                run.write(file, "half")
    assert len(list(run.path.glob(".*"))) == 4
    RunFolder.existing("r")
    assert list(run.path.glob(".*")) == []


ODD = ["a b.tif", "q\"uo'te", "back\\slash", "new\nline", "é😀", "\u202ertl", "\U000e0001tag", "#x"]
ODD += ["caf\udce9"] if sys.platform == "linux" else []


@pytest.mark.parametrize("name", ODD)
def test_config_holds_the_settings_and_any_name(here, name):
    run = RunFolder.create("r", "x")
    settings = Settings(lr=0.25, steps=3)
    run.write_config(settings.toml(), name, None)
    assert data_in(run.config) == (name, None, None)
    run.write_config(settings.toml(), name, "labels " + name)
    assert data_in(run.config) == (name, "labels " + name, None)
    from argparse import Namespace

    assert from_flags(Namespace(), run.config) == settings
    assert run.config.read_bytes().startswith(b"# unetcu train --config ")
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_the_history_is_written_anew(here):
    run = RunFolder.create("r", "x")
    rows = [{**dict.fromkeys(COLUMNS, ""), "epoch": n, "loss": n / 4, "best": "*"} for n in (1, 2)]
    run.write_history(rows[:1])
    run.write_history(rows)
    text = run.history.read_text()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert [(r["epoch"], r["loss"], r["iou"], r["best"]) for r in history(run.path)] == [
        ("1", "0.25", "", "*"),
        ("2", "0.5", "", "*"),
    ]
    run.write_history([])
    assert run.history.read_text() == ",".join(COLUMNS) + "\n"


def test_the_log_grows_and_takes_any_text(here):
    run = RunFolder.create("r", "x")
    run.note("one", "two")
    run.note()
    run.note("caf\udce9 é")
    assert run.log.read_text("utf-8").splitlines() == ["one", "two", "caf\\udce9 é"]
