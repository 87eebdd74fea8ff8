"""The CUDA kernels: which there are, whether they are right, and what each source line costs.
None of it needs a GPU.

  unetcu kernels list                       every kernel: registers, shared memory, its tests
  unetcu kernels check                      every prover of this machine, on every kernel
  unetcu kernels check conv3x3 relu         ... on these files
  unetcu kernels profile conv3x3            sectors, bank conflicts, FLOPs of each source line
  unetcu kernels profile ladder/conv3x3_1_naive --shape 1x34x34x16 --channels 32
  unetcu kernels profile ladder             the rungs of kernels/ladder beside each other

check compiles each kernel for seven architectures with NVRTC (no warning, no spilled register, no
more registers and shared memory than kernels/budget.tsv grants), runs it on the SIMT runtime in
three orders of threads with pages that fault around every array, again in checked mode (races,
reads of what nobody wrote), and lets the PTX machine run what NVRTC made of it, at a few sizes.
Files that belong to no op (fill, optim, the ladder), or to few GPUs (wgmma), are compiled only:
their tests run them.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from . import kernel
from .device import Device, device, nvrtc
from .errors import DeviceError, KernelError, UnetcuError, UsageError
from .progress import progress

ORDERS = ("simt:guard", "simt:reverse,guard-before", "simt:shuffled,guard")
SMALL, TINY = 2500, 700  # numbers in a case's inputs, for slow provers
SHOWN = 90  # sm_90: the architecture whose registers `list` shows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares this command's options."""
    add = parser.add_argument
    add("what", choices=("list", "check", "profile"), help="see above")
    add("files", nargs="*", metavar="FILE", help="kernel files by their stem (default: all)")
    add("--write-budget", action="store_true", help="check: grant each kernel what it uses now")
    add("--shape", default="1x34x34x16", help="profile: the input, NxHxWxC")
    add("--channels", type=int, default=32, help="profile: channels that come out, or classes")


def run(args: argparse.Namespace) -> int:
    """The command; 1 if a kernel is not right."""
    known = kernel.stems()
    if args.what == "profile" and args.files == ["ladder"]:
        from .provers.compare import compare

        print(compare(_shape(args.shape), args.channels))
        return 0
    for name in args.files:
        if name not in known:
            raise UsageError(f"there is no kernel file {name!r}; there are {', '.join(known)}")
    stems = args.files or known
    if args.what == "list":
        print(listing(stems))
        return 0
    if args.what == "profile":
        from .provers.profile import profile

        if len(args.files) != 1:
            raise UsageError("profile takes one kernel file, such as conv3x3")
        print(profile(args.files[0], _shape(args.shape), args.channels))
        return 0
    return check(stems, args.write_budget)


def _shape(text: str) -> tuple[int, int, int, int]:
    parts = text.split("x")
    if len(parts) != 4 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UsageError(f"--shape {text!r} is no shape: give NxHxWxC, such as 1x34x34x16")
    n, h, w, c = (int(p) for p in parts)
    return n, h, w, c


def listing(stems: list[str]) -> str:
    """A row for each kernel."""
    from .provers import budget

    granted = budget.read(budget.file())[0]
    rows = [("kernel", "file", f"registers (sm_{SHOWN})", "shared bytes", "tested by")]
    for stem, unit in ((s, u) for s in stems for u in kernel.formats(s).values()):
        for entry in kernel.entries(unit):
            name = kernel.named(entry, unit)
            registers, shared = map(str, granted.get((name, SHOWN), ("?", "?")))
            rows.append((name, f"{stem}.cu", registers, shared, kernel.tests(stem)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join(c.rjust(n) if i in (2, 3) else c.ljust(n) for i, (c, n) in cells).rstrip()
        for row in rows
        for cells in [list(enumerate(zip(row, widths, strict=True)))]
    ]
    return "\n".join([*lines, f"{len(rows) - 1} kernels in {len(stems)} files"])


def check(stems: list[str], write_budget: bool = False) -> int:
    """Runs the provers, prints a line for each and whatever they found; 1 if they found faults."""
    from .provers.cases import cases

    faults, proved = 0, {case.stem for case in cases(1)}
    for name, prove in _provers(stems, write_budget):
        start = time.perf_counter()
        try:
            done, found = prove()
        except DeviceError as error:  # not a fault of a kernel: this machine lacks something
            print(f"{name:14} not run: {error}")
            continue
        faults += len(found)
        print("\n".join(f"  {line}" for line in found), end="\n" if found else "")
        seconds = time.perf_counter() - start
        print(f"{name:14} {done}, {len(found) or 'no'} faults, {seconds:.1f} s", flush=True)
    if compiled := [stem for stem in stems if _op(stem) not in proved]:
        print(f"only compiled, and run by tests: {', '.join(compiled)}")
    print("all well" if not faults else f"{faults} faults")
    return 1 if faults else 0


Prover = Callable[[], tuple[str, list[str]]]


def _provers(stems: list[str], write_budget: bool) -> Iterator[tuple[str, Prover]]:
    yield "compile gate", lambda: _gate(stems, write_budget)
    for mode in ORDERS:
        yield mode.partition(":")[2].partition(",")[0] + " order", _on(mode, stems, None)
    yield "checked", _on("simt:checked", stems, SMALL)
    yield "PTX machine", lambda: _cases(_ptx(), stems, TINY)


def _ptx() -> Device:
    from .provers.ptx.device import PtxDevice

    nvrtc.version()  # DeviceError if there is none
    return PtxDevice()


def _on(mode: str, stems: list[str], limit: int | None) -> Prover:
    return lambda: _cases(device(mode), stems, limit)


def _gate(stems: list[str], write_budget: bool) -> tuple[str, list[str]]:
    from .provers import budget, gate

    everything = len(stems) == len(kernel.stems())
    if write_budget and not everything:
        raise UsageError("--write-budget writes all kernels down: give no FILE")
    report = gate.check(stems=None if everything else stems)
    print(gate.table(report.rows))
    if write_budget:
        budget.write(report.rows)
        report.problems = gate.check().problems
    for note in report.notes:
        print(note, file=sys.stderr)
    return f"{len(report.rows)} compilations", report.problems


def _op(stem: str) -> str:
    """The op whose cases run a file: conv3x3 for conv3x3_mma_w."""
    return stem.partition("_mma")[0]


def _cases(where: Device, stems: list[str], limit: int | None) -> tuple[str, list[str]]:
    from .provers.cases import cases
    from .provers.judge import judge, right
    from .provers.judge import run as run_case

    ops = {_op(stem) for stem in stems}
    chosen = [c for c in cases() if c.stem in ops]
    if limit is not None:
        chosen = [c for c in chosen if sum(np.prod(s, initial=1) for s in c.shapes) <= limit]
    found = []
    for case in progress(chosen, where.name):
        arrays, dy = case.draw()
        try:
            with np.errstate(all="ignore"):
                exact, bounds = right(case, arrays, dy)
            judge(case, run_case(case, where, arrays, dy), exact, bounds)
        except DeviceError:
            raise
        except (KernelError, UnetcuError, RuntimeError) as error:
            found.append(f"{case.name}: {error}")
    return f"{len(chosen)} cases", found


if __name__ == "__main__":
    from .cli import main

    sys.exit(main("kernels"))
