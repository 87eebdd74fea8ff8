"""How to make a run again: its command, its settings, its data and what it ran on."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from .. import __version__, device
from ..files.paths import for_shell
from ..training.loop import Loop
from ..training.prepare import Prepared
from ..training.settings import Settings
from .page import Markup, el, join, section, table


class Asked(NamedTuple):
    """What the user named: the files (None: the built-in data), the device, and a model to start
    from."""

    images: Any = None
    labels: Any = None
    on: str = "auto"
    init_from: Any = None


def command(settings: Settings, asked: Asked) -> str:
    """The command that makes the run again, in a folder of its own. A file that was named by its
    whole path appears without its folders, which tell more about a machine than about a run."""
    words = ["unetcu train", *(_name(f) for f in (asked.images, asked.labels) if f is not None)]
    given = set() if asked.images is not None else {"classes", "instances", "ignore"}
    if settings.instances:
        given.add("classes")
    for f in fields(Settings):
        value, flag = getattr(settings, f.name), "--" + f.name.replace("_", "-")
        if value == f.default or f.name in given:
            continue
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        else:
            words.append(f"{flag} {for_shell(value) if isinstance(value, str) else value}")
    if asked.on != "auto":
        words.append(f"--device {for_shell(asked.on)}")
    if asked.init_from is not None:
        words.append(f"--init-from {_name(asked.init_from)}")
    return " ".join(words)


def _name(file: Any) -> str:
    return for_shell(os.path.basename(file) if os.path.isabs(file) else file)


def again(loop: Loop, prepared: Prepared, asked: Asked) -> list[Markup]:
    """The sections about the command, the settings, the data, and the environment."""
    named = [f for f in (asked.images, asked.labels, asked.init_from) if f is not None]
    told = "It makes the same model, bit for bit, from the same files, with any number of threads. "
    more = " with this folder's config.toml."
    if any(map(os.path.isabs, named)):
        more += " Of files named by their whole path, only the last part is shown."
    paragraph = el("p", told, "So does ", el("code", "unetcu train --config"), more)
    return [
        section("To repeat it", el("pre", command(loop.settings, asked)), paragraph),
        section("Settings", el("p", "In bold what differs from the default."),
                table(["setting", "value", "what it says"], _rows(loop.settings), class_="plain")),
        section("Data", el("ul", *(el("li", line) for line in prepared.lines
                                   if not line.startswith("warning: ")))),
        section("Environment", table(["", ""], _environment(loop), class_="plain")),
    ]  # fmt: skip


def _rows(settings: Settings) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = []
    for f in fields(Settings):
        value = getattr(settings, f.name)
        cells = [f.name.replace("_", " "), _said(value)]
        if value != f.default:
            usual = "" if f.default is None else f"; default: {_said(f.default)}"
            rows.append((el("b", cells[0]), join([el("b", cells[1]), usual]), f.metadata["help"]))
        else:
            rows.append((*cells, f.metadata["help"]))
    return rows


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _environment(loop: Loop) -> list[Sequence[object]]:
    where = loop.trainer.net.device
    on = re.sub(r", \d+ threads", "", where.describe())  # their number changes no result
    compiled = device.native() or "not built: NumPy did the work"
    versions = {"unetcu": __version__, "Python": platform.python_version(), "NumPy": np.__version__}
    rows: list[Sequence[object]] = [*versions.items(), ("device", on)]
    return [*rows, ("compiled module", compiled)] if where.kind == "cpu" else rows
