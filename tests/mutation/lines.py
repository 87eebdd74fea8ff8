"""Which lines of kernels/*.cu do the cases run? Compiles them with gcov's counters.

python tests/mutation/lines.py            a table; lists the lines that never ran
"""

import functools
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from step_cases import check_steps  # noqa: E402

from unetcu import kernel, simtbuild  # noqa: E402
from unetcu.device import simt  # noqa: E402
from unetcu.provers.cases import cases  # noqa: E402
from unetcu.provers.judge import judge, right, run  # noqa: E402


def build(stem: str, folder: Path) -> Path:
    """The stem's module with counters; the object beside it is what gcov reads."""
    flags = [f for f in simtbuild.flags("fast") if f != "-O2"]
    unit, made = folder / f"{stem}.cpp", folder / f"{stem}.o"
    unit.write_text(kernel.simt_unit(stem))
    counters = ["-O0", "--coverage", "-fprofile-update=atomic"]
    include = f"-I{kernel.KERNELS / 'simt'}"
    subprocess.run(
        ["g++", *flags, *counters, include, "-c", unit.name, "-o", made.name],
        check=True,
        cwd=folder,
    )
    library = folder / f"{stem}.so"
    subprocess.run(["g++", "-shared", "--coverage", made, "-o", library], check=True, cwd=folder)
    return library


def run_all(folder: Path) -> None:
    """Every case on the counting modules."""

    @functools.cache
    def load(stem: str, build: str) -> object:
        assert build == "fast"
        return simt.load_file(str(folder / f"{stem}.so"))

    simt.load = load
    where = simt.Simt()
    for case in cases():
        arrays, dy = case.draw()
        with np.errstate(all="ignore"):
            judge(case, run(case, where, arrays, dy), *right(case, arrays, dy))
    check_steps(where)


def counts(folder: Path, stem: str) -> dict[str, dict[int, int]]:
    """file -> line -> how often it ran."""
    done = subprocess.run(
        ["gcov", "--json-format", "--stdout", f"{stem}.o"],
        capture_output=True,
        check=True,
        cwd=folder,
    )
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for file in json.loads(done.stdout.splitlines()[0])["files"]:
        if file["file"].startswith("kernels/"):
            for line in file["lines"]:
                lines = found[file["file"]]
                lines[line["line_number"]] = lines.get(line["line_number"], 0) + line["count"]
    return found


def main() -> int:
    stems = [s for s in kernel.stems() if "/" not in s]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for stem in stems:
            build(stem, folder)
        # In a process of its own: the counters are written when it ends.
        code = "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]; import lines; "
        code += "lines.run_all(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, scratch, str(HERE), str(ROOT)], check=True)
        total: dict[str, dict[int, int]] = defaultdict(dict)
        for stem in stems:
            for file, lines in counts(folder, stem).items():
                for line, n in lines.items():
                    total[file][line] = total[file].get(line, 0) + n
    ran = {file: sum(n > 0 for n in lines.values()) for file, lines in total.items()}
    for file, lines in sorted(total.items()):
        missed = [str(line) for line, n in sorted(lines.items()) if n == 0]
        note = f"   never: {', '.join(missed)}" if missed else ""
        print(f"{file:28} {ran[file]:4} of {len(lines):4} lines{note}")
    share = sum(ran.values()) / max(1, sum(len(lines) for lines in total.values()))
    print(f"{'all':28} {share:.1%}")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
