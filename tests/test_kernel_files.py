"""The invariants of ARCHITECTURE.md that can be read off the kernels' text."""

import re
from pathlib import Path

import pytest

from unetcu.kernel import KERNELS, entries, stems

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Shapes", "Threads", "Cost", "Launched by", "Tested by")  # of every file's header
LONGEST = 300
# General ops whose work another stem's kernels do, or that move no numbers.
NO_KERNEL = {"reshape"}
NO_OP = {"fill", "optim", "warp"}
FASTER = ("_mma", "_mma_w", "_wgmma", "_wgmma_w")  # files of further kernels for an op end so


def sources():
    """Every .cu and .cuh, by its path below kernels/."""
    files = [p for p in sorted(KERNELS.rglob("*")) if p.suffix in (".cu", ".cuh")]
    return {p.relative_to(KERNELS).as_posix(): p.read_text("utf-8") for p in files}


def code(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def faults(name, text):
    """What a kernel file does that it must not."""
    plain, found = code(text), []
    for include in re.findall(r"#\s*include\s*(\S+)", plain):
        if not re.fullmatch(r'"\w+\.cuh"', include):
            found.append(f"includes {include}: kernels need nothing but our own .cuh")
    if re.search(r"\basm\b", plain) and name != "ptx.cuh":
        found.append("inline assembly belongs in ptx.cuh")
    if re.search(r"\batomic\w*", plain):
        found.append("an atomic: the order of additions must not depend on the schedule")
    if len(text.splitlines()) > LONGEST:
        found.append(f"has more than {LONGEST} lines")
    for line in text.splitlines():
        if re.search(r"__syncthreads\(\)|__syncwarp\(", code(line)) and "//" not in line:
            found.append(f"a barrier that does not say what it waits for: {line.strip()}")
    header = text.split("\n\nconstexpr")[0].split("\n#include")[0]
    if name.endswith(".cu"):
        found += [f"the header lacks: {part}" for part in PARTS if part not in header]
    return found


@pytest.mark.parametrize("name", sources())
def test_a_kernel_file_keeps_the_rules(name):
    assert faults(name, sources()[name]) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("#include <cuda_fp16.h>\n", "includes"),
        ('asm volatile("bar.sync 0;");\n', "inline assembly"),
        ("atomicAdd(y, 1.0f);\n", "atomic"),
        ("__syncthreads();\n", "does not say"),
        ("int i;\n" * 301, "more than 300"),
        ("// Shapes x\n// Threads\n// Cost\n// Tested by me\n", "lacks: Launched by"),
    ],
)
def test_the_rules_find_planted_faults(text, says):
    clean = "\n".join(f"// {part} ..." for part in PARTS) + '\n#include "common.cuh"\n'
    assert faults("a.cu", clean) == []
    found = faults("a.cu", text if "Tested" in text else clean + text)
    assert len(found) == 1
    assert says in found[0]


def test_an_op_is_a_stem():
    """NAME.cu, ops/NAME.py, its tests and its benchmark: one missing is an unfinished op."""
    ops = {p.stem for p in (ROOT / "unetcu/ops").glob("[a-z]*.py")}
    plain = {s for s in stems() if "/" not in s}
    faster = {s for s in plain if s.endswith(FASTER)}
    assert plain - faster == (ops - NO_KERNEL) | NO_OP
    assert {re.sub(r"_w?g?mma(_w)?$", "", s) for s in faster} <= ops
    assert ops <= {p.stem.removeprefix("test_") for p in (ROOT / "tests/ops").glob("test_*.py")}
    benched = {p.stem.removeprefix("bench_") for p in (ROOT / "bench").glob("bench_*.py")}
    assert ops - {"reshape"} <= benched
    for stem in stems():
        for entry in entries(stem):
            assert entry.startswith(stem.rpartition("/")[2]), f"{entry} in {stem}.cu"


def test_headers_tell_the_truth_about_files():
    for name, text in sources().items():
        for told in re.findall(
            r"\b((?:unetcu|tests|kernels|bench)/[\w/]+\.(?:py|cu|cuh|cpp|md))", text
        ):
            assert (ROOT / told).exists(), f"{name} names {told}, which is not there"


def test_no_cuda_text_in_python():
    for path in (ROOT / "unetcu").rglob("*.py"):
        text = path.read_text("utf-8")
        assert "__global__" not in text or path.name in ("kernel.py",), path
