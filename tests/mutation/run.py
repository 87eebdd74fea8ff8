"""Do the proofs notice? Plants one small fault at a time in kernels/*.cu and runs the cases.

    python tests/mutation/run.py                     every mutant of every file: about an hour
    python tests/mutation/run.py conv1x1 --share 10  one in ten mutants of one file
    python tests/mutation/run.py --write             also writes tests/mutation/RESULTS.md

A mutant is killed when a case gives a wrong number, an error or no end, in forward order with guard
pages behind the arrays, in reverse order with guard pages before them, or in checked mode. Of a
deleted barrier, or wait for a copy or a product, only checked mode is asked, which must flag each
(--barriers: only those). Kernels for tensor cores are run in bf16 and, if they have it, tf32x3.
equivalent.tsv lists mutants that change nothing one could see, each with its reason; they are not
counted.
"""

import argparse
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests")]

from mutants import Mutant, mutants  # noqa: E402
from proofs import files, proofs, stem_of, users  # noqa: E402
from step_cases import check_steps  # noqa: E402

from unetcu import kernel, simtbuild  # noqa: E402
from unetcu.device import simt  # noqa: E402
from unetcu.ops import _conv3x3_tma, _conv3x3_variants  # noqa: E402
from unetcu.ops._conv3x3_variants import VARIANTS  # noqa: E402
from unetcu.provers.judge import judge, run  # noqa: E402

ONE_AT_A_TIME = threading.Lock()
LIMIT = 40  # seconds for all cases of a mutant; the right kernel takes 1 to 9


def survives(unit: str, modes: list[str], modules: dict[str, Path], sources: Path) -> bool:
    """Runs every case of the stem on the module, in a process of its own, with a time limit."""
    with ONE_AT_A_TIME:
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(LIMIT)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            kernel.KERNELS = sources  # tile sizes are read from the mutant, too
            _forget()
            code = 0 if _passes(unit, modes, modules) else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _passes(unit: str, modes: list[str], modules: dict[str, Path]) -> bool:
    whole, stem = simt.load, stem_of(unit)
    simt.load = lambda u, build: (
        simt.load_file(str(modules[build])) if u == unit else whole(u, build)
    )
    _conv3x3_variants.BLOCKS = _conv3x3_variants.MULTIPROCESSORS = 1  # a block has several tiles
    _conv3x3_tma.MULTIPROCESSORS = 1
    rows = [v.name for v in VARIANTS if v.stem == stem and stem in _conv3x3_variants.QUICKEST]
    for mode, name in itertools.product(modes, dict.fromkeys(rows) or [stem]):
        where = simt.Simt(mode.split(","))
        try:
            if stem in ("optim", "fill", "warp"):
                check_steps(where)
            for case, arrays, dy, (exact, bounds) in proofs(unit):
                if "checked" in mode and sum(a.size for a in arrays) > 10000:
                    continue
                with _conv3x3_variants.studied(name):
                    judge(case, run(case, where, arrays, dy), exact, bounds)
        except Exception:
            return False
    return True


def build(text: str, mode: str, into: Path) -> bool:
    """Compiles a unit fast rather than well; False if it is not C++ any more."""
    flags = [f for f in simtbuild.flags(mode) if f != "-O2"]
    unit, made = into.with_suffix(".cpp"), into.with_suffix(".o")
    unit.write_text(text)
    include = f"-I{ROOT / 'kernels' / 'simt'}"
    steps = [
        ["g++", *flags, "-O1", "-w", include, "-c", unit, "-o", made],
        ["g++", "-shared", made, "-o", into],
    ]
    return all(subprocess.run(s, capture_output=True, timeout=120).returncode == 0 for s in steps)


def verdict(file: str, mutant: Mutant, folder: Path) -> str:
    """killed, survived, invalid (no C++), or unflagged: a barrier that checked mode overlooks."""
    text = (kernel.KERNELS / file).read_text("utf-8")
    outcome = "invalid"
    with ONE_AT_A_TIME:
        units = users(file)
    for unit in units:
        name = hashlib.sha256(f"{file}{mutant}{unit}".encode()).hexdigest()[:16]
        sources = folder / name
        made = unit_of(unit, file, mutant.of(text), sources)
        built = {"fast": folder / f"{name}-fast.so", "checked": folder / f"{name}-checked.so"}
        if not build(made, "fast", built["fast"]):
            shutil.rmtree(sources)
            break
        alive = survives(unit, ["guard", "reverse,guard-before"], built, sources)
        if alive or mutant.kind == "barrier":
            build(made, "checked", built["checked"])
            alive = survives(unit, ["checked"], built, sources)
        shutil.rmtree(sources)
        for left in folder.glob(f"{name}*.*"):
            left.unlink()
        if not alive:
            return "killed"
        outcome = "unflagged" if mutant.kind == "barrier" else "survived"
    return outcome


def unit_of(unit: str, file: str, changed: str, scratch: Path) -> str:
    """The translation unit of `unit` as if `file` read `changed`."""
    scratch.mkdir()
    with ONE_AT_A_TIME:  # also when a process is forked: it must find the right files
        real = kernel.KERNELS
        for p in real.iterdir():
            if p.suffix in (".cu", ".cuh"):
                (scratch / p.name).write_text(changed if p.name == file else p.read_text("utf-8"))
        try:
            kernel.KERNELS = scratch
            _forget()
            return kernel.simt_unit(unit)
        finally:
            kernel.KERNELS = real
            _forget()


def _forget() -> None:
    for function in (kernel.source, kernel.entries, kernel.constants):
        function.cache_clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="files without ending; default: all")
    parser.add_argument("--share", type=int, default=1, help="try one in so many mutants")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--barriers", action="store_true", help="only deleted barriers")
    parser.add_argument("--minutes", type=float, default=600, help="stop after so long")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    args = parser.parse_args()
    declared = equivalents()
    work, skipped = [], Counter()
    for file in files():
        if args.stems and file.rpartition(".")[0] not in args.stems:
            continue
        text = (kernel.KERNELS / file).read_text("utf-8")
        lines = text.splitlines()
        for m in mutants(text):
            if args.barriers and m.kind != "barrier":
                continue
            if (file, lines[m.line(text) - 1].strip(), m.what) in declared:
                skipped[file] += 1
            else:
                work.append((file, m))
    random.Random(args.seed).shuffle(work)
    work = work[: -(-len(work) // args.share)]
    start, outcomes, notes = time.monotonic(), Counter(), []
    with tempfile.TemporaryDirectory() as scratch:

        def one(job: tuple[str, Mutant]) -> tuple[str, Mutant, str]:
            if time.monotonic() - start > 60 * args.minutes:
                return *job, "not tried"
            return *job, verdict(*job, Path(scratch))

        with ThreadPoolExecutor(args.jobs) as pool:
            for n, (file, m, outcome) in enumerate(pool.map(one, work), 1):
                outcomes[file, outcome] += 1
                if outcome in ("survived", "unflagged"):
                    text = (kernel.KERNELS / file).read_text("utf-8")
                    code = text.splitlines()[m.line(text) - 1].strip()
                    notes.append((file, m.line(text), m.kind, m.what, outcome, code))
                    print(*notes[-1], sep="\t", flush=True)
                if n % 50 == 0:
                    took = time.monotonic() - start
                    print(f"{n} of {len(work)}, {took / n:.2f} s each", file=sys.stderr, flush=True)
    table = report(outcomes, skipped, notes, args)
    print(table)
    if args.write:
        (HERE / "RESULTS.md").write_text(table)
    return 0


def equivalents() -> set[tuple[str, str, str]]:
    """(file, line, what) of the mutants that are declared to change nothing visible."""
    rows = (HERE / "equivalent.tsv").read_text("utf-8").splitlines()[1:]
    return {tuple(row.split("\t")[:3]) for row in rows}  # type: ignore[misc]


def report(outcomes: Counter, skipped: Counter, notes: list, args: argparse.Namespace) -> str:
    """RESULTS.md."""
    kinds = ("killed", "survived", "unflagged", "invalid", "not tried")
    names = sorted({file for file, _ in outcomes})
    share = "" if args.share == 1 else f", one in {args.share} (seed {args.seed})"
    lines = [f"# Mutants of the kernels{share}", "", "Made by `python tests/mutation/run.py`.", ""]
    lines += [
        "| file | killed | survived | share killed | declared equivalent | not C++ | not tried |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name in [*names, "all"]:
        of = {k: sum(outcomes[f, k] for f in names if name in (f, "all")) for k in kinds}
        alive = of["survived"] + of["unflagged"]
        part = of["killed"] / max(1, of["killed"] + alive)
        same = skipped[name] if name != "all" else sum(skipped.values())
        numbers = f"{of['killed']} | {alive} | {part:.1%} | {same}"
        lines += [f"| {name} | {numbers} | {of['invalid']} | {of['not tried']} |"]
    if notes:
        lines += ["", "Survivors:", "", "| where | fault | line |", "| --- | --- | --- |"]
        for file, line, kind, what, outcome, code in sorted(notes):
            mark = " (not flagged in checked mode)" if outcome == "unflagged" else ""
            cells = (f"{file}:{line}", f"{kind}: {what}{mark}", f"`{code}`")
            lines += ["| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
