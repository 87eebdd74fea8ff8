"""The compile gate: every kernel, for every architecture, without a warning, without spills, and
within the registers and shared memory that kernels/budget.tsv grants it.

NVRTC has no option that makes warnings errors, so its log is read; what a kernel uses stands there
too (ptxas -v). Neither a GPU nor a driver is needed.
"""

import functools
import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .. import kernel
from ..cache import load_or_make
from ..device import nvrtc
from ..errors import KernelError
from . import budget
from .budget import Figures
from .ptx.calls import kernels

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)  # Turing, Ampere, ..., Blackwell for desks
FEW = (75, 90, 120)  # for a quick look; and of the formats beside fp32, ONE
ONE = (90,)
OPTIONS = ("--ptxas-options=-v",)
FORMAT = "figures 1"  # of what is kept in the cache: to be changed with what `make` gives
ANY_BLOCK = 64  # with so few registers a thread, a block of 1024 can always be launched

_ENTRY = re.compile(r"ptxas info +: Compiling entry function '(\w+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"ptxas info +: Used (\d+) registers(?:.*?(\d+) bytes smem)?")
_WARNING = re.compile(r"\(\d+\): warning|^ptxas warning")
# An info with a number counts as a warning: that wgmma wait for one another, "Potential Performance
# Loss", or that something was put before them because sums were touched behind wgmma_begin.
_INFO = re.compile(r"ptxas (info(?!.*(?:Performance Loss|\(C\d+\)))|  +\.)")


@dataclass
class Report:
    """What was found: figures of all kernels, what is wrong, and what could not be compared."""

    rows: list[Figures] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def admits(unit: str, arch: int) -> bool:
    """Whether a unit (kernel.py) is for this architecture."""
    least, letter = kernel.needs(unit)
    return arch == least if letter else arch >= least


def target(unit: str, arch: int) -> str:
    """What NVRTC is asked for: "sm_90", or "sm_90a" where the file needs that."""
    return f"sm_{arch}{kernel.needs(unit)[1]}"


def examine(source: str, name: str, arch: str) -> tuple[list[Figures], list[str]]:
    """(figures of the kernels in a text, what is wrong with it) for "sm_90" and the like.

    Compiled once; kept in the user's cache folder.
    """

    def make() -> bytes:
        found = nvrtc.compiled(source, name, arch, OPTIONS)
        entries = kernels(found.ptx)[0].values()
        about = {e.name: (e.local, e.most_threads * e.bounded) for e in entries}
        return json.dumps([found.log, about]).encode()

    try:
        key = nvrtc.cache_key(source, name, arch, (*OPTIONS, FORMAT))
        log, about = json.loads(load_or_make(key, ".json", make).read_text("utf-8"))
    except KernelError as error:
        return [], [str(error)]
    number = int(re.sub(r"\D", "", arch))
    rows = [_figures(text, number, about) for text in _sections(log)]
    return rows, [f"{w} ({arch})" for w in _warnings(log)] + [p for r in rows for p in _faults(r)]


def _sections(log: str) -> list[str]:
    """The part of ptxas's report about each kernel."""
    starts = [m.start() for m in _ENTRY.finditer(log)]
    return [log[a:b] for a, b in zip(starts, [*starts[1:], len(log)], strict=True)]


def _figures(text: str, arch: int, about: dict[str, Sequence[int]]) -> Figures:
    entry, used = _ENTRY.match(text), _USED.search(text)
    if entry is None or used is None:
        raise KernelError(f"what ptxas reports cannot be read: {text.splitlines()[0]}")
    frames = [tuple(map(int, f)) for f in _FRAME.findall(text)]  # of functions it calls, too
    local, threads = about[entry[1]]
    return Figures(
        entry=entry[1],
        arch=arch,
        registers=int(used[1]),
        shared=int(used[2] or 0),
        spills=sum(f[1] + f[2] for f in frames),
        stack=sum(f[0] for f in frames),
        local=local,
        threads=threads,
    )


def _warnings(log: str) -> list[str]:
    rest = [line for line in log.splitlines() if line.strip() and not _INFO.match(line)]
    warned = [line.strip() for line in rest if _WARNING.search(line)]
    return warned or [line.strip() for line in rest[:1]]


def _faults(row: Figures) -> list[str]:
    name, found = f"{row.entry} (sm_{row.arch})", []
    if row.spills:
        found.append(f"{name} spills registers: {row.spills} bytes of stores and loads")
    if row.stack or row.local:
        found.append(f"{name} uses {max(row.stack, row.local)} bytes of local memory a thread")
    if row.registers > ANY_BLOCK and not row.threads:
        found.append(
            f"{name} uses {row.registers} registers and has no __launch_bounds__: a large block of "
            "it could not be launched"
        )
    return found


def check(
    architectures: Iterable[int] = ARCHITECTURES,
    stems: Sequence[str] | None = None,
    grants: Path | None = None,
    further: Iterable[int] = ARCHITECTURES,
) -> Report:
    """Put kernel files (all of them) through the gate; nothing is raised for what is wrong.

    further: of the architectures, those that formats beside fp32 are compiled for."""
    chosen = [
        unit
        for stem in (kernel.stems() if stems is None else stems)
        for unit in kernel.formats(stem).values()
    ]
    numbers = tuple(architectures)
    others = set(numbers) & set(further)
    jobs = [(u, a) for u in chosen for a in (others if ":" in u else numbers) if admits(u, a)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda job: _file(*job), jobs)
        report = Report()
        for rows, problems in found:
            report.rows += rows
            report.problems += problems
    report.rows.sort()
    for unit in chosen:
        if not any(admits(unit, a) for a in ARCHITECTURES):
            report.problems.append(f"{unit} is for no architecture of {ARCHITECTURES}")
    _compare(report, grants or budget.file(), stems is None, numbers, others)
    return report


def _file(unit: str, arch: int) -> tuple[list[Figures], list[str]]:
    rows, problems = examine(kernel.source(unit), f"kernels/{unit}.cu", target(unit, arch))
    missing = set(kernel.entries(unit)) ^ {r.entry for r in rows}
    if missing and rows:
        problems.append(f"{unit}: read and compiled entry points differ: {sorted(missing)}")
    return [row._replace(entry=kernel.named(row.entry, unit)) for row in rows], problems


def _compare(
    report: Report, file: Path, everything: bool, numbers: Sequence[int], others: set[int]
) -> None:
    granted, version = budget.read(file)
    if version != nvrtc.version():
        theirs, ours = (".".join(map(str, v)) for v in (version, nvrtc.version()))
        report.notes.append(
            f"{file.name} holds what NVRTC {theirs} makes and was not compared: this is {ours}"
        )
        return
    compiled = {(row.entry, row.arch) for row in report.rows}
    report.problems += [p for row in report.rows for p in _excess(row, granted, file.name)]
    if everything:
        report.problems += [
            f"{file.name} has {entry} (sm_{arch}), which is not compiled"
            for entry, arch in sorted(granted.keys() - compiled)
            if arch in (others if ":" in entry else numbers)
        ]


def _excess(row: Figures, granted: budget.Budget, file: str) -> list[str]:
    name, most = f"{row.entry} (sm_{row.arch})", granted.get((row.entry, row.arch))
    if most is None:
        return [f"{name} is not in {file}"]
    used = {"registers": row.registers, "bytes of shared memory": row.shared}
    return [
        f"{name} uses {u} {what}; {file} grants {g}"
        for (what, u), g in zip(used.items(), most, strict=True)
        if u > g
    ]


def table(rows: Sequence[Figures]) -> str:
    """Kernels by architectures: registers, bytes of shared memory, bytes spilled if any."""

    def cell(row: Figures | None) -> str:
        if row is None:
            return "-"
        lost = row.spills + row.stack + row.local
        return f"{row.registers:3d} {row.shared:6d}" + (f" !{lost}" if lost else "")

    found = {(r.entry, r.arch): r for r in rows}
    numbers, names = sorted({r.arch for r in rows}), sorted({r.entry for r in rows})
    text = [["registers, shared memory", *(f"sm_{a}" for a in numbers)]]
    text += [[n, *(cell(found.get((n, a))) for a in numbers)] for n in names]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    shown = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in text]
    spilled = sum(r.spills for r in rows)
    return "\n".join([*shown, f"{len(names)} kernels, {spilled} bytes spilled"])


@functools.cache
def figures(unit: str, arch: int) -> dict[str, Figures]:
    """What the kernels of one unit use, by entry point."""
    found = examine(kernel.source(unit), f"kernels/{unit}.cu", target(unit, arch))
    return {row.entry: row for row in found[0]}
