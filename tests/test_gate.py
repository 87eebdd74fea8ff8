"""The compile gate: every kernel of the package passes it, and planted failures do not."""

import pytest

from unetcu import kernel
from unetcu.device import nvrtc
from unetcu.provers import budget, gate

CLEAN = """// A test.
extern "C" __global__ void clean_one(const float* __restrict__ x, float* __restrict__ y, int N) {
  __shared__ float tile[32];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  if (threadIdx.x < N) y[threadIdx.x] = tile[31 - threadIdx.x];
}
extern "C" __global__ void clean_two(float* __restrict__ y) { y[0] = 1; }
"""
# Sixty-four numbers live at once, and registers for half of them.
SPILL = """extern "C" __global__ void __launch_bounds__(1024, 2) spill_all(
    const float* __restrict__ x, float* __restrict__ y) {
  float a[64];
#pragma unroll
  for (int i = 0; i < 64; i++) a[i] = x[threadIdx.x + 1024 * i];
#pragma unroll
  for (int i = 0; i < 64; i++)
#pragma unroll
    for (int j = 0; j < 64; j++) a[i] = a[i] * a[j] + 1;
#pragma unroll
  for (int i = 0; i < 64; i++) y[threadIdx.x + 1024 * i] = a[i];
}"""
LOCAL = """extern "C" __global__ void local_all(const float* x, float* y, int n) {
  float a[9];
  for (int i = 0; i < 9; i++) a[i] = x[i];
  y[0] = a[n];
}"""


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path, monkeypatch):
    """Planted texts are compiled anew; only the package's kernels may come from the cache."""
    if not request.node.name.startswith("test_every_kernel"):
        monkeypatch.setenv("UNETCU_CACHE", str(tmp_path / "cache"))


def greedy(bounds: str) -> str:
    return SPILL.replace("__launch_bounds__(1024, 2)", bounds)


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Call it with the text of clean.cu: that is then the only kernel file."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    monkeypatch.setattr(kernel, "KERNELS", folder)
    cached = (kernel.source, kernel.entries)

    def write(text: str = CLEAN, **files: str):
        for name, content in {"clean": text, **files}.items():
            (folder / f"{name}.cu").write_text(content)
        for function in cached:
            function.cache_clear()
        return folder

    yield write
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


def test_every_kernel_passes_on_the_oldest_the_usual_and_the_newest_architecture():
    report = gate.check(gate.FEW, further=gate.ONE)
    assert report.problems == []
    assert report.notes == []
    assert {r.entry for r in report.rows} == {
        kernel.named(e, u) for u in kernel.units() for e in kernel.entries(u)
    }
    assert {r.arch for r in report.rows} <= set(gate.FEW)
    assert all(r.spills == r.stack == r.local == 0 for r in report.rows)


def test_budget_is_of_every_kernel_and_architecture():
    granted, version = budget.read(budget.file())
    assert version == (13, 0)  # pinned in pyproject.toml
    right = {
        (kernel.named(entry, unit), arch)
        for unit in kernel.units()
        for entry in kernel.entries(unit)
        for arch in gate.ARCHITECTURES
        if gate.admits(unit, arch)
    }
    assert set(granted) == right


def test_figures_are_what_the_compiler_says():
    rows, problems = gate.examine(CLEAN, "clean.cu", "sm_80")
    assert problems == []
    one, two = sorted(rows)
    assert (one.entry, one.arch, one.shared, one.threads) == ("clean_one", 80, 128, 0)
    assert (two.entry, two.arch, two.shared, two.threads) == ("clean_two", 80, 0, 0)
    log = nvrtc.compiled(CLEAN, "clean.cu", "sm_80", gate.OPTIONS).log
    for row in rows:
        part = log[log.index(f"'{row.entry}'") :]
        assert f"Used {row.registers} registers" in part.split("Compiling entry")[0]
    assert 4 <= two.registers <= one.registers <= 32


def test_spills_are_found():
    rows, problems = gate.examine(SPILL, "spill.cu", "sm_80")
    assert min(rows[0].spills, rows[0].stack) > 0
    assert (rows[0].registers, rows[0].threads) == (32, 1024)
    assert problems[0] == (
        f"spill_all (sm_80) spills registers: {rows[0].spills} bytes of stores and loads"
    )
    assert "bytes of local memory" in problems[1]


def test_local_memory_is_found():
    _, problems = gate.examine(LOCAL, "local.cu", "sm_80")
    assert problems == ["local_all (sm_80) uses 36 bytes of local memory a thread"]


def test_kernel_of_many_registers_must_say_its_largest_block():
    rows, problems = gate.examine(greedy(""), "greedy.cu", "sm_80")
    assert rows[0].registers > gate.ANY_BLOCK
    assert len(problems) == 1
    assert "has no __launch_bounds__" in problems[0]
    rows, problems = gate.examine(greedy("__launch_bounds__(256)"), "greedy.cu", "sm_80")
    assert rows[0].threads == 256
    assert problems == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            CLEAN.replace("y[0] = 1;", "int left; y[0] = 1;"),
            "clean.cu(8): warning #177-D: variable",
        ),
        (CLEAN.replace("y[0] = 1;", "y[0] = z;"), 'clean.cu:8: identifier "z" is undefined'),
        (CLEAN + "\n#warning careful", "clean.cu(10): warning"),
    ],
)
def test_warnings_and_errors_are_found(text, what):
    _, problems = gate.examine(text, "clean.cu", "sm_80")
    assert len(problems) == 1
    assert problems[0].startswith(what)
    assert "sm_80" in problems[0]


def test_what_the_log_holds_beside_its_usual_lines_is_a_problem():
    usual = "ptxas info    : 0 bytes gmem\nptxas         .     0 bytes stack frame\n\n"
    assert gate._warnings(usual) == []
    assert gate._warnings(usual + "ptxas warning : x\n    text") == ["ptxas warning : x"]
    assert gate._warnings(usual + "something new\nmore") == ["something new"]
    slow = "ptxas info : (C7515) Potential Performance Loss: wgmma are serialized"
    assert gate._warnings(usual + slow) == [slow]
    late = "ptxas info    : (C7519) warpgroup.arrive is injected to allow use of registers in GMMA"
    assert gate._warnings(usual + late) == [late]


def test_spills_of_called_functions_count():
    text = (
        "ptxas info    : Compiling entry function 'k' for 'sm_80'\n"
        "ptxas info    : Function properties for k\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Function properties for helper\n"
        "ptxas         .     8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 18 registers, used 1 barriers, 1024 bytes smem, 8 bytes cmem[2]\n"
    )
    row = gate._figures(text, 80, {"k": (0, 0)})
    assert row == budget.Figures("k", 80, 18, 1024, 16, 8, 0, 0)


def test_budget_is_kept(kernels):
    kernels()
    report = gate.check(gate.FEW)
    assert len(report.rows) == 6
    assert gate.figures("clean", 90)["clean_one"].shared == 128
    gate.figures.cache_clear()
    assert report.problems[0] == "clean_one (sm_75) is not in budget.tsv"
    assert len(report.problems) == 6
    budget.write(report.rows)
    assert gate.check(gate.FEW).problems == []
    lines = budget.file().read_text().splitlines()
    assert lines[1] == "kernel\tsm_75\tsm_90\tsm_120"
    assert [line.split("\t")[0] for line in lines[2:]] == ["clean_one", "clean_two"]
    assert all(cell.endswith("+128") for cell in lines[2].split("\t")[1:])


def test_more_than_the_budget_is_a_problem_and_less_is_not(kernels):
    folder = kernels()
    rows = gate.check([80]).rows
    for name, change, what in (
        ("registers", lambda r: r._replace(registers=r.registers - 1), "registers"),
        ("shared", lambda r: r._replace(shared=r.shared - 4), "bytes of shared memory"),
        ("generous", lambda r: r._replace(registers=255, shared=9999), None),
    ):
        file = folder / f"{name}.tsv"
        budget.write([change(rows[0]), rows[1]], file)
        problems = gate.check([80], grants=file).problems
        if what is None:
            assert problems == []
            continue
        used = getattr(rows[0], name)
        least = used - (1 if name == "registers" else 4)
        assert problems == [f"clean_one (sm_80) uses {used} {what}; {name}.tsv grants {least}"]


def test_what_is_gone_from_the_kernels_goes_from_the_budget(kernels):
    kernels()
    budget.write(gate.check([80]).rows)
    kernels(CLEAN[: CLEAN.rindex("extern")])
    assert gate.check([80]).problems == ["budget.tsv has clean_two (sm_80), which is not compiled"]
    assert gate.check([80], ["clean"]).problems == []  # a part says nothing of the rest
    assert gate.check([90], ["clean"]).problems == ["clean_one (sm_90) is not in budget.tsv"]


def test_budget_of_another_compiler_is_not_compared(kernels):
    kernels()
    budget.write(gate.check([80]).rows)
    text = budget.file().read_text()
    budget.file().write_text(text.replace("NVRTC 13.0", "NVRTC 12.4").replace("+128", "+4"))
    report = gate.check([80])
    assert report.problems == []
    assert report.notes == [
        "budget.tsv holds what NVRTC 12.4 makes and was not compared: this is "
        + ".".join(map(str, nvrtc.version()))
    ]


def test_kernel_may_restrict_itself(kernels):
    for name, needs in (("ampere", "sm_80 for mma"), ("hopper", "sm_90a"), ("future", "sm_130")):
        kernels(**{name: f"// Needs: {needs}\n" + CLEAN.replace("clean", name)})
    assert [gate.admits("ampere", a) for a in (75, 80, 90, 120)] == [False, True, True, True]
    assert [gate.admits("hopper", a) for a in (80, 90, 100)] == [False, True, False]
    assert all(gate.admits("clean", a) for a in gate.ARCHITECTURES)
    assert gate.target("hopper", 90) == "sm_90a"
    assert gate.target("ampere", 90) == "sm_90"
    report = gate.check([75, 90])
    found = {(r.entry, r.arch) for r in report.rows if r.entry.endswith("one")}
    assert found == {("clean_one", 75), *((f"{s}_one", 90) for s in ("clean", "ampere", "hopper"))}
    assert any("future is for no architecture" in p for p in report.problems)


def test_table_shows_kernels_by_architectures():
    rows = [
        budget.Figures("b", 80, 168, 25344, 0, 0, 0, 128),
        budget.Figures("a_long_name", 80, 8, 0, 12, 4, 0, 0),
        budget.Figures("b", 90, 9, 0, 0, 0, 0, 0),
    ]
    lines = gate.table(rows).splitlines()
    assert lines[0].split() == ["registers,", "shared", "memory", "sm_80", "sm_90"]
    assert lines[1].split() == ["a_long_name", "8", "0", "!16", "-"]
    assert lines[2].split() == ["b", "168", "25344", "9", "0"]
    assert lines[3] == "2 kernels, 12 bytes spilled"
    assert len({line.index(c) for line, c in ((lines[0], "sm_90"), (lines[1], "-"))}) == 1
