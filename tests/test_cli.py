"""The command line's frame: help, version, suggestions, one-line errors, exit codes.

Most tests run a command made up here, so that they test the frame and not a real command.
"""

import argparse
import errno
import importlib
import os
import subprocess
import sys
import types

import pytest

import unetcu
from unetcu import cli, device
from unetcu.errors import DataError, UsageError

AS_SCRIPT = "import sys; from unetcu.cli import main; sys.exit(main())"  # what `unetcu` runs


@pytest.fixture
def probe(monkeypatch):
    """A command `probe` whose `run` is `module.work`, which a test may replace."""
    module = types.ModuleType("unetcu.probe", "Probes.\n\nExample:\n  unetcu probe 100 %")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("images", nargs="*", help="files to probe")
        parser.add_argument("-e", "--epochs", type=int, default=3, help="how often")
        parser.add_argument("--seed", type=int, default=0, help="of randomness")
        parser.add_argument("--lr", type=float, help="step size")
        parser.add_argument("--resume", action="store_true", help="go on")
        parser.add_argument("--skip", action="append", default=[], help="leave out")
        parser.add_argument("--tile", type=int, default=8, help="size (default: by itself)")

    module.add_arguments = add_arguments
    module.work = lambda args: 0
    module.run = lambda args: module.work(args)
    monkeypatch.setitem(sys.modules, "unetcu.probe", module)
    monkeypatch.setitem(cli.COMMANDS, "probe", "made up for these tests")
    return module


def call(*words: str, **options) -> subprocess.CompletedProcess:
    """A fresh Python in which every warning is an error."""
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-W", "error", *words]
    return subprocess.run(command, text=True, env=environment, **options)


def captured(*words: str) -> tuple[int, str, str]:
    done = call(*words, capture_output=True)
    return done.returncode, done.stdout, done.stderr


def test_help_names_every_command_and_what_to_type_first(capsys):
    for argv in ([], ["-h"], ["--help"]):
        assert cli.main(argv) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert all(f"\n  {name} " in out for name in cli.COMMANDS)
        assert out.index("unetcu train\n") < out.index("unetcu predict")
        assert max(map(len, out.splitlines())) <= 100


def test_help_and_version_import_only_what_they_need():
    code = "import sys; from unetcu.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    _, out, _ = captured("-c", code, "--help")
    assert not {"numpy", "scipy", "matplotlib"} & set(out.split())
    _, out, _ = captured("-c", code, "--version")
    assert not {"scipy", "matplotlib", "tifffile", "unetcu.train"} & set(out.split())


def test_version_names_python_numpy_device_and_compiled_module(capsys):
    import numpy

    assert cli.main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"unetcu {unetcu.__version__}"
    assert lines[1] == "Python " + ".".join(map(str, sys.version_info[:3]))
    assert lines[2] == f"NumPy {numpy.__version__}"
    assert lines[3] == f"device: {device.describe()}"
    assert lines[4].startswith("compiled module: ")
    assert ("not built" in lines[4]) == (device.native() is None)
    assert len(lines) == 5


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_shows_its_docstring_and_runs_as_a_module(name):
    code, out, err = captured("-m", f"unetcu.{name}", "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: unetcu {name} ")
    module = importlib.import_module(f"unetcu.{name}")
    assert module.__doc__.strip().splitlines()[0] in out


@pytest.mark.parametrize("words", [["--help"], ["--pagse", "3"], ["a", "b", "c", "d"]])
def test_the_three_ways_to_call_a_command_are_the_same(words):
    script = captured("-c", AS_SCRIPT, "synth", *words)
    assert script == captured("-m", "unetcu", "synth", *words)
    assert script == captured("-m", "unetcu.synth", *words)
    assert script[0] == (0 if words == ["--help"] else 2)


def test_help_shows_defaults_that_say_something(probe, capsys):
    assert cli.main(["probe", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Probes." in lines
    assert "  unetcu probe 100 %" in lines  # the docstring's lines are kept
    text = " ".join(word for line in lines for word in line.split())
    assert "how often (default: 3) --seed" in text
    assert "of randomness (default: 0) --lr" in text
    assert "step size --resume go on --skip SKIP leave out --tile" in text
    assert text.endswith("size (default: by itself)")
    assert "files to probe options:" in text


def test_arguments_and_exit_code_pass_through(probe):
    seen = []
    probe.work = lambda args: seen.append(vars(args)) or 7
    expected = {"images": ["a", os.path.join(".", "--b")], "lr": 0.5, "epochs": 4, "resume": False}
    for argv in (
        ["a", "--lr=0.5", "-e4", "--", "--b"],
        ["--lr", "0.5", "--epochs", "4", "--", "a", "--b"],
        ["--lr", "0.5", "a", "--epochs=4", "--", "--b"],
    ):
        assert cli.main(["probe", *argv]) == 7
        assert {key: seen[-1][key] for key in expected} == expected


def test_a_name_alone_takes_the_arguments_of_the_process(probe, monkeypatch):
    seen = []
    probe.work = lambda args: seen.append(args.images) or 0
    monkeypatch.setattr(sys, "argv", ["probe.py", "x", "y"])
    assert cli.main("probe") == 0
    monkeypatch.setattr(sys, "argv", ["unetcu", "probe", "z"])
    assert cli.main() == 0
    assert seen == [["x", "y"], ["z"]]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["trian"], "unetcu: unknown command 'trian'; did you mean 'train'? (see unetcu --help)"),
        (["evalute"], "did you mean 'evaluate'?"),
        (["qqq"], "unetcu: unknown command 'qqq' (see unetcu --help)"),
        (["--epochs", "train"], "unetcu: unknown option '--epochs': a command comes first"),
        (["probe", "--epoch", "3"], "unetcu probe: unknown option '--epoch'; did you mean '--e"),
        (["probe", "--epoch=3"], "unknown option '--epoch'; did you mean '--epochs'?"),
        (["probe", "--zzzzzz"], "unknown option '--zzzzzz' (see unetcu probe --help)"),
        (["probe", "-z"], "unetcu probe: unrecognized arguments: -z (see unetcu probe --help)"),
        (["probe", "--epochs", "1.5"], "argument -e/--epochs: invalid int value: '1.5'"),
        (["probe", "--epochs"], "argument -e/--epochs: expected one argument"),
        (["probe", "--res"], "unknown option '--res'; did you mean '--resume'?"),
        (["tr\nain\x1b[2J"], "unknown command 'tr\\nain\\x1b[2J'"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(probe, capsys, argv, line):
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1
    assert err.endswith("\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("cells.tif: cut short"), 2, "cells.tif: cut short"),
        (UsageError("lr 0 is not above 0"), 2, "lr 0 is not above 0"),
        (DataError("a\nb\r\tc\x1b[31m\x85\u2028\udcff: bad"), 2, None),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(errno.EACCES, "Permission denied", "out.tif"), 2, "out.tif: Permission"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
        (OSError("odd\nimage"), 2, "odd\\nimage"),
        (MemoryError("Unable to allocate 9 GiB"), 2, "not enough memory: Unable to allocate"),
        (MemoryError(), 2, "not enough memory: no more"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(probe, capsys, error, code, line):
    def work(args):
        print("result")
        raise error

    probe.work = work
    assert cli.main(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == "result\n"
    assert err.startswith("unetcu probe: ")
    assert err.splitlines() == [err[:-1]]
    assert err[:-1].isprintable()
    if line is not None:
        assert err.startswith(f"unetcu probe: {line}")


def test_a_defect_keeps_its_traceback(probe):
    def work(args):
        raise ZeroDivisionError

    probe.work = work
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["synth", "--help"]])
def test_nobody_reads_the_output(words, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    os.close(read)
    try:
        done = call("-m", "unetcu", *words, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_names_that_the_terminal_cannot_print_do_not_stop_a_result():
    code = (
        "import sys, types; from unetcu import cli\n"
        "m = types.ModuleType('unetcu.probe', 'Probes.'); m.add_arguments = lambda parser: None\n"
        "m.run = lambda args: print('caf\\xe9 \\udcff') or 0\n"
        "sys.modules[m.__name__] = m; cli.COMMANDS['probe'] = ''\n"
        "sys.stdout.reconfigure(encoding='ascii'); sys.exit(cli.main(['probe']))"
    )
    assert captured("-c", code) == (0, "caf\\xe9 \\udcff\n", "")
