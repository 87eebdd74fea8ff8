"""kernels/budget.tsv: the registers and the shared memory that each kernel may use.

A row a kernel, a column an architecture, both sorted, so that a change of a kernel shows as a
change of its row.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .. import kernel
from ..device import nvrtc

Budget = dict[tuple[str, int], tuple[int, int]]  # (entry, arch) -> (registers, shared)


class Figures(NamedTuple):
    """What one kernel uses on one architecture; bytes, of shared memory per block, of the rest per
    thread. threads: the most a block may have (__launch_bounds__), or 0 where it does not say."""

    entry: str
    arch: int
    registers: int
    shared: int
    spills: int
    stack: int
    local: int
    threads: int


def file() -> Path:
    """kernels/budget.tsv."""
    return kernel.KERNELS / "budget.tsv"


def read(place: Path) -> tuple[Budget, tuple[int, ...]]:
    """What each kernel may use, and the version of NVRTC that the figures are of."""
    if not place.is_file():
        return {}, nvrtc.version()
    lines = place.read_text("utf-8").splitlines()
    version = re.search(r"NVRTC (\d+)\.(\d+)", lines[0])
    names = [int(n.removeprefix("sm_")) for n in lines[1].split("\t")[1:]]
    budget = {}
    for line in lines[2:]:
        entry, *cells = line.split("\t")
        for arch, cell in zip(names, cells, strict=True):
            if cell != "-":
                registers, shared = cell.split("+")
                budget[entry, arch] = (int(registers), int(shared))
    return budget, tuple(map(int, version.groups())) if version else ()


def write(rows: Sequence[Figures], place: Path | None = None) -> None:
    """Grant every kernel what it uses now. A row a kernel, a column an architecture."""
    used = {(r.entry, r.arch): f"{r.registers}+{r.shared}" for r in rows}
    numbers = sorted({r.arch for r in rows})
    lines = [
        "# registers a thread + bytes of shared memory a block, as compiled by NVRTC "
        + ".".join(map(str, nvrtc.version())),
        "\t".join(["kernel", *(f"sm_{a}" for a in numbers)]),
    ]
    for entry in sorted({r.entry for r in rows}):
        lines.append("\t".join([entry, *(used.get((entry, a), "-") for a in numbers)]))
    (place or file()).write_text("\n".join(lines) + "\n", "utf-8")
