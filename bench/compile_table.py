"""What the compiler makes of the tensor-core kernels: registers, memory, the mix of their hot loop.

    python -m bench.compile_table                         all of them, some 10 minutes on 2 cores
    python -m bench.compile_table conv3x3_mma cast --arch 90 --out /tmp/table

writes bench/results/compile_table.md. Neither a GPU nor a driver is needed: NVRTC compiles, and
nvdisasm (pip install nvidia-cuda-nvdisasm, or a CUDA toolkit) takes the machine code apart.

Registers are of a thread; shared memory is of a block, static + dynamic, the latter as a network's
launches ask for it. `mma` is the share of instructions that multiply on tensor cores, in that
innermost loop that has most of them. (One wgmma does the work of 16 or more mma: its share says
less.) Bytes spilled, or kept on a stack, would be named in the cells.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m bench.compile_table`

from gpu_nets import Case, ours
from gpu_sides import tried, variants
from launches import made_by
from turns import head, line

from unetcu import kernel
from unetcu.device import nvrtc
from unetcu.errors import UnetcuError
from unetcu.files.atomic import atomic_path
from unetcu.precision import FORMS
from unetcu.progress import progress
from unetcu.provers import budget, gate
from unetcu.provers.ladder import convolve, rungs

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
OUT = Path(__file__).resolve().parent / "results" / "compile_table.md"
MMA = re.compile(r"(HMMA|HGMMA|IMMA|DMMA|UTC\w*MMA)\b")
_LABEL = re.compile(r"\s*(\.L\w+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*)")
_KERNEL = re.compile(r"^\s*\.section\s+\.text\.(\w+)", re.M)


class Loop(NamedTuple):
    """The innermost loop with most products of tensor cores: instructions by their kind."""

    mix: Counter[str]

    @property
    def share(self) -> float:
        """Of the instructions, those that multiply on tensor cores."""
        return sum(n for op, n in self.mix.items() if MMA.match(op)) / sum(self.mix.values())


def disassembler(given: str | None = None) -> str | None:
    """nvdisasm: as given, on the PATH, or in its wheel."""
    if given:
        return given
    if found := shutil.which("nvdisasm"):
        return found
    spec = importlib.util.find_spec("nvidia")
    places = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return next((str(f) for p in places for f in sorted(p.glob("cu*/bin/nvdisasm"))), None)


def loops(text: str) -> dict[str, Loop]:
    """Kernel -> its hot loop, by what nvdisasm prints; only those with tensor-core products."""
    parts = _KERNEL.split(text)[1:]  # name, text, name, text ...
    found = {name: _hot(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}
    return {name: loop for name, loop in found.items() if loop is not None}


def _hot(text: str) -> Loop | None:
    labels: dict[str, int] = {}
    code: list[tuple[str, str]] = []
    for row in text.splitlines():
        if label := _LABEL.match(row):
            labels[label[1]] = len(code)
        elif instruction := _INSTRUCTION.match(row):
            code.append((instruction[1], instruction[2]))
    spans = []
    for i, (op, rest) in enumerate(code):
        target = re.search(r"\.L\w+", rest) if op.startswith("BRA") else None
        start = labels.get(target[0], i + 1) if target else i + 1
        if start <= i and any(MMA.match(o) for o, _ in code[start : i + 1]):
            spans.append((start, i + 1))
    inner = [s for s in spans if not any(s != t and s[0] <= t[0] and t[1] <= s[1] for t in spans)]
    mixes = [Counter(op.split(".")[0] for op, _ in code[a:b]) for a, b in inner]
    return max(map(Loop, mixes), key=lambda p: p.share * p.mix.total(), default=None)


def taken_apart(unit: str, arch: int, tool: str) -> dict[str, Loop]:
    """Kernel -> hot loop, of one unit."""
    text = kernel.source(unit)
    cubin = nvrtc.cubin(text, f"kernels/{unit}.cu", gate.target(unit, arch))
    found = subprocess.run([tool, "-c", str(cubin)], capture_output=True, text=True, check=True)
    return loops(found.stdout)


def dynamic() -> dict[tuple[str, str], tuple[int, int]]:
    """(unit, entry) -> (threads, bytes of dynamic shared memory), as a network launches it, or the
    ladder."""
    case, found = Case("training step", 60, 1, 1, 128), {}
    for precision in FORMS:
        for variant in variants(precision, 90, tiles=True):
            for base in (64, 128):
                with tried(variant):
                    made = made_by(lambda where, b=base, p=precision: ours(
                        case._replace(base=b), where, p).work)  # fmt: skip
                    found |= {(m.unit, m.entry): (m.threads, m.shared) for m in made}
    for rung in rungs():
        made = made_by(lambda where, r=rung: lambda: convolve(
            where, r, *map(where.empty, [(1, 3, 3, 8), (3, 3, 8, 8), (8,)])))  # fmt: skip
        found |= {(m.unit, m.entry): (m.threads, m.shared) for m in made}
    return found


def report(units: list[str], archs: list[int], tool: str | None) -> Iterator[str]:
    """The page."""
    rows: dict[str, dict[int, budget.Figures]] = {}
    hot: dict[str, dict[int, Loop]] = {}
    launched, asked = dynamic(), {}
    todo = [(u, a) for u in units for a in archs if gate.admits(u, a)]
    problems: list[str] = []
    for unit, arch in progress(todo, "compiled"):
        name = f"kernels/{unit}.cu"
        figures, faults = gate.examine(kernel.source(unit), name, gate.target(unit, arch))
        problems += faults
        apart = taken_apart(unit, arch, tool) if tool and figures else {}
        for row in figures:
            called = kernel.named(row.entry, unit)
            rows.setdefault(called, {})[arch] = row
            asked[called] = launched.get((unit, row.entry), (row.threads, 0))
            if row.entry in apart:
                hot.setdefault(called, {})[arch] = apart[row.entry]
    yield "# What the compiler makes of the tensor-core kernels\n"
    yield f"NVRTC {'.'.join(map(str, nvrtc.version()))}; {' '.join(_tools(tool))}\n"
    yield (__doc__ or "").split("\n\n")[3]
    lost = sum(r.spills + r.stack + r.local for a in rows.values() for r in a.values())
    count = sum(map(len, rows.values()))
    yield f"{count} kernels compiled, {lost} bytes spilled or on a stack, {len(problems)} faults.\n"
    yield from (f"- {p}" for p in problems)
    yield head("kernel", "threads", "shared", *(f"sm_{a}: registers, mma" for a in archs))
    for called, found in rows.items():
        static = max(r.shared for r in found.values())
        threads, more = asked[called]
        cells = (_cell(found.get(a), hot.get(called, {}).get(a)) for a in archs)
        yield line(called, str(threads or ""), f"{static} + {more}", *cells)
    if hot:
        arch = 90 if 90 in archs else archs[0]
        yield f"\n## Instructions of the hot loop, sm_{arch}\n"
        yield head("kernel", "instructions", "mma", "which")
        for called, loop in ((c, h[arch]) for c, h in hot.items() if arch in h):
            which = ", ".join(f"{n} {op}" for op, n in loop.mix.most_common(8))
            yield line(called, str(loop.mix.total()), f"{loop.share:.0%}", which)


def _tools(tool: str | None) -> Iterator[str]:
    if tool is None:
        yield "nvdisasm was not found (pip install nvidia-cuda-nvdisasm): no shares of mma."
        return
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"release ([\d.]+)", said)
    yield f"nvdisasm {version[1] if version else ''}."


def _cell(row: budget.Figures | None, loop: Loop | None) -> str:
    if row is None:
        return ""
    lost = row.spills + row.stack + row.local
    share = f", {loop.share:.0%}" if loop else ""
    return f"{row.registers}{share}" + (f" ({lost} B lost)" if lost else "")


def main() -> int:
    """Compile, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("stems", nargs="*", metavar="FILE", help="kernel files by their stem (default: *mma*)")
    add("--arch", nargs="+", type=int, default=list(ARCHITECTURES), metavar="N")
    add("--nvdisasm", metavar="PATH", help="where it is, if not on the PATH nor installed by pip")
    add("--out", type=Path, default=OUT, metavar="FILE")
    add("--overwrite", action="store_true", help="replace a table that is there already")
    args = parser.parse_args()
    stems = args.stems or [s for s in kernel.stems() if "mma" in s]
    tool = disassembler(args.nvdisasm)
    if tool is None:
        print(*_tools(None), file=sys.stderr)
    try:
        units = [unit for stem in stems for unit in kernel.formats(stem).values()]
        with atomic_path(args.out, overwrite=args.overwrite) as path:
            path.write_text("\n".join(report(units, args.arch, tool)) + "\n", "utf-8")
    except (UnetcuError, FileNotFoundError) as error:
        print(f"bench.compile_table: {error}", file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
