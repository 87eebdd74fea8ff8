"""The command line: `unetcu COMMAND ...`, the same as `python -m unetcu COMMAND ...` and
`python -m unetcu.COMMAND ...`.

A command is a module of that name with a docstring (its help), `add_arguments(parser)` and
`run(args) -> int`. It is imported only when it is asked for.

Results go to stdout, all else to stderr. Exit codes: 0 done; 1 a defect of unetcu itself (with
a traceback); 2 refused or not possible, in one line that says why; 130 interrupted; 141 nobody
reads the output any more.
"""

import argparse
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from .errors import UnetcuError, UsageError
from .files.paths import shown

COMMANDS = {
    "train": "train a network on your images and labels, or on built-in data",
    "predict": "segment images of any size with a trained network",
    "evaluate": "score predictions against the truth",
    "check": "tell what was read from a data set, and which flags fit it",
    "plan": "estimate memory and time of a training before it runs",
    "synth": "write the built-in data as TIFF stacks",
    "kernels": "list, prove and profile the CUDA kernels, without a GPU",
}

OVERVIEW = """\
unetcu: the U-Net of 2015, to segment microscope images, trained on your own examples.

usage: unetcu COMMAND [OPTIONS]

Type this first. It trains on built-in pictures of touching cells, in a few minutes on any
computer, and names the picture to open:
  unetcu train

Then with your own images, and labels of the same size drawn by hand:
  unetcu check images.tif labels.tif                  what was read, and which flags fit
  unetcu train images.tif labels.tif                  writes a new folder, runs/NAME-N
  unetcu predict -m runs/NAME-N/best.safetensors more.tif -o predicted
  unetcu evaluate predicted truth.tif                 how good is it?

Commands:
{commands}

  unetcu COMMAND --help    the options of a command, and examples
  unetcu --version         versions, the device found, and how unetcu was built
"""


def main(argv: Sequence[str] | str | None = None) -> int:
    """Runs one command and returns the exit code; never raises for what a user may do wrong.

    argv: the arguments after the program's name, by default those of this process. A
    command's name alone stands for that command with the arguments of this process: a
    command's module ends with `sys.exit(main("train"))` and so runs by `python -m` too.
    """
    if argv is None:
        argv = sys.argv[1:]
    elif isinstance(argv, str):
        argv = [argv, *sys.argv[1:]]
    program = f"unetcu {argv[0]}" if argv and argv[0] in COMMANDS else "unetcu"
    if hasattr(sys.stdout, "reconfigure"):
        # A file name need not be printable in the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _settle_stdout()
        return 141
    except KeyboardInterrupt:
        return _complain(program, "interrupted", 130)
    except UnetcuError as error:
        return _complain(program, str(error), 2)
    except MemoryError as error:
        return _complain(program, f"not enough memory: {str(error) or 'no more can be had'}", 2)
    except OSError as error:
        _settle_stdout()
        where = "" if error.filename is None else f"{error.filename}: "
        return _complain(program, f"{where}{error.strerror or error}", 2)


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(), end="")
        return 0
    name = argv[0]
    if name == "--version":
        print(_version())
        return 0
    if name.startswith("-"):
        raise UsageError(f"unknown option {name!r}: a command comes first (see unetcu --help)")
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}{_nearest(name, COMMANDS)} (see unetcu --help)")
    module = importlib.import_module(f"unetcu.{name}")
    parser = _Parser(name, module)
    words = _plain_names(argv[1:])
    parser.refuse_unknown(words)
    try:
        args = parser.parse_intermixed_args(words)  # files may stand between options
    except SystemExit:  # --help was printed; errors come as UsageError
        return 0
    return int(module.run(args))


def _plain_names(words: Sequence[str]) -> list[str]:
    """The words without a `--`; file names after it that start with a dash get `./` before.

    argparse cannot tell such names from options where files may stand between options.
    """
    if "--" not in words:
        return list(words)
    cut = words.index("--")
    names = (os.path.join(os.curdir, w) if w.startswith("-") else w for w in words[cut + 1 :])
    return [*words[:cut], *names]


def _overview() -> str:
    rows = (f"  {name:<10} {summary}" for name, summary in COMMANDS.items())
    return OVERVIEW.format(commands="\n".join(rows))


def _version() -> str:
    import platform

    import numpy as np

    from . import __version__, device

    native = device.native()
    if native is None:
        native = "not built, NumPy does the work (`pip install -v` tells why it was not)"
    return "\n".join(
        (
            f"unetcu {__version__}",
            f"Python {platform.python_version()}",
            f"NumPy {np.__version__}",
            f"device: {device.describe()}",
            f"compiled module: {native}",
        )
    )


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _complain(program: str, message: str, code: int) -> int:
    # Whoever read stderr may be gone as well; the exit code still tells.
    with contextlib.suppress(BrokenPipeError):
        print(f"{program}: {shown(message)}", file=sys.stderr, flush=True)
    return code


def _settle_stdout() -> None:
    """Writes out what is buffered or, where that fails, drops it: else Python fails at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):  # not a file: then there is no failure at exit
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of docstrings, and adds the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        said = "%(default)" in text or "(default" in text
        if said or action.nargs == 0 or action.default in (None, [], argparse.SUPPRESS):
            return text
        return f"{text} (default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """Raises UsageError for what it cannot parse, and names the nearest option."""

    def __init__(self, name: str, module: ModuleType) -> None:
        super().__init__(
            prog=f"unetcu {name}",
            description=module.__doc__,
            formatter_class=_Formatter,
        )
        module.add_arguments(self)

    def print_help(self, file: Any = None) -> None:
        """As in argparse, which however takes a pipe that nobody reads for a success."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def refuse_unknown(self, argv: Sequence[str]) -> None:
        """Raises UsageError for the first option that does not exist as it is written.

        argparse would take `--ep` for `--epochs`, and report a misspelt `--epohcs 3` as a
        surplus file name, 3.
        """
        for word in argv:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in self._option_string_actions:
                near = _nearest(flag, self._option_string_actions)
                raise UsageError(f"unknown option {flag!r}{near} (see {self.prog} --help)")
