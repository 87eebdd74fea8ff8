"""Compiles the kernels in tests/simt/ for the SIMT runtime, all of a file in one go."""

import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

from unetcu import kernel, simtbuild
from unetcu.device.simt import load_file

FOLDER = Path(__file__).parent / "simt"
ENTRY = re.compile(r'^extern "C" __global__ void (\w+)\(([^)]*)\)', re.M)


class Unit(NamedTuple):
    """A file of kernels, compiled."""

    module: Any
    names: dict[str, list[str]]  # of each kernel's parameters
    here: dict[str, set[int]]  # of each kernel: the lines that are marked "// here"

    def launch(self, entry: str, grid: Any, block: Any, *args: Any, **how: Any) -> Any:
        """grid and block: up to three numbers; args: NumPy arrays and scalars."""
        sizes = [(s,) if isinstance(s, int) else tuple(s) for s in (grid, block)]
        grid, block = [(*s, 1, 1)[:3] for s in sizes]
        return self.module.launch(entry, grid, block, args, names=self.names[entry], **how)


@functools.cache
def unit(name: str, mode: str) -> Unit:
    """tests/simt/<name>.cu in a mode of simtbuild.

    Its lines are reported as those of kernels/<name>.cu.
    """
    text = (FOLDER / f"{name}.cu").read_text("utf-8")
    found = {m[1]: m for m in ENTRY.finditer(text)}
    headers = [
        f'#line 1 "kernels/{h}"\n{(kernel.KERNELS / h).read_text("utf-8")}'
        for h in re.findall(r'^#include "(\w+\.cuh)"$', text, re.M)
    ]
    body = re.sub(r"^#include.*$", "", text, flags=re.M)
    table = ", ".join(f"SIMT_KERNEL({entry})" for entry in found)
    whole = "\n".join(
        ['#include "simt.h"', *headers, f'#line 1 "kernels/{name}.cu"', body]
    ).replace("#pragma once\n", "\n")
    path = simtbuild.module(name, mode, f"{whole}\nSIMT_MODULE({table})\n")
    names = {e: [p.split()[-1].lstrip("*") for p in m[2].split(",")] for e, m in found.items()}
    starts = [*(text.count("\n", 0, m.start()) + 1 for m in found.values()), 10**9]
    marks = [i for i, line in enumerate(text.splitlines(), 1) if line.endswith("// here")]
    here = {
        entry: {mark for mark in marks if first <= mark < last}
        for entry, first, last in zip(found, starts, starts[1:], strict=False)
    }
    return Unit(load_file(str(path)), names, here)
