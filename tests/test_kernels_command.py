"""unetcu kernels: kernels listed, faults found and counted, tables of what a line costs."""

import re
from functools import partial

import pytest

from unetcu import cli, kernel, kernels
from unetcu.device import nvrtc, simt
from unetcu.errors import DeviceError
from unetcu.provers import gate


def said(capsys, *words):
    code = cli.main(["kernels", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_names_every_kernel_with_its_figures(capsys):
    code, out, _ = said(capsys, "list")
    assert code == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:-1]}
    every = {
        kernel.named(e, unit): unit.partition(":")[0]
        for unit in kernel.units()
        for e in kernel.entries(unit)
    }
    assert set(rows) == set(every)
    for entry, (_, file, registers, shared, test) in rows.items():
        assert file == f"{every[entry]}.cu"
        assert int(registers) > 0
        assert int(shared) >= 0
        assert re.fullmatch(r"tests/(ops/)?test_\w+\.py", test)
    assert out.splitlines()[-1] == f"{len(every)} kernels in {len(kernel.stems())} files"


def test_check_of_one_file(capsys):
    code, out, _ = said(capsys, "check", "relu")
    assert code == 0, out
    provers = ["compile gate", "guard order", "reverse order", "shuffled order", "checked", "PTX"]
    for name in provers:
        (line,) = [line for line in out.splitlines() if line.startswith(name)]
        assert re.search(r"[1-9]\d* (cases|compilations), no faults", line) or "not run" in line
    assert out.endswith("all well\n")
    assert "relu_backward" in out


def test_check_says_which_files_it_only_compiles(capsys):
    code, out, _ = said(capsys, "check", "fill", "relu")
    assert code == 0, out
    assert out.endswith("only compiled, and run by tests: fill\nall well\n")


def test_check_of_a_tensor_core_file_runs_the_cases_of_its_op(capsys, monkeypatch):
    monkeypatch.setattr(gate, "check", partial(gate.check, (90,)))  # quicker
    code, out, _ = said(capsys, "check", "upconv2_mma")
    assert code == 0, out
    assert re.search(r"guard order +[1-9]\d* cases, no faults", out)
    assert "only compiled" not in out


def test_check_reports_a_kernel_that_is_wrong(capsys, monkeypatch):
    """A kernel that adds one is caught by every prover that runs it."""
    start = simt.Simt._start

    def wrong(self, call):
        start(self, call)
        if call.entry == "relu_forward":
            made = self.get(call.args[1])
            made[...] += made.dtype.type(1)

    monkeypatch.setattr(simt.Simt, "_start", wrong)
    code, out, _ = said(capsys, "check", "relu")
    assert code == 1
    assert len(re.findall(r"relu\(.*elements are wrong", out)) > 50
    assert re.search(r"guard order +\d+ cases, \d+ faults", out)
    assert re.search(r"\d+ faults\n$", out)


def test_what_this_machine_lacks_is_said_and_is_no_fault(capsys, monkeypatch):
    def missing():
        raise DeviceError("NVRTC was not found: pip install something")

    monkeypatch.setattr(nvrtc, "version", missing)
    code, out, _ = said(capsys, "check", "relu")
    assert code == 0
    assert "PTX machine    not run: NVRTC was not found: pip install something" in out
    assert re.search(r"checked +\d+ cases, no faults", out)


def test_profile_of_a_kernel(capsys):
    code, out, _ = said(capsys, "profile", "relu", "--shape", "1x8x8x16")
    assert code == 0
    assert "relu_forward: 4 blocks of 256 threads" in out
    assert re.search(r"global load x +32 +32\.0 +4\.00", out)  # 1024 floats: 32 warps, coalesced
    assert re.search(r"global store y +32 +32\.0 +4\.00", out)
    assert "relu_backward: 4 blocks" in out


def test_the_ladder_beside_each_other(capsys):
    code, out, _ = said(capsys, "profile", "ladder", "--shape", "1x10x10x16", "--channels", "16")
    assert code == 0
    cells = [[c.strip() for c in row.split("|")[1:-1]] for row in out.splitlines()]
    assert [row[0].split("_")[-1] for row in cells[2:]] == [
        "naive",
        "tiled",
        "registers",
        "mma",
        "wgmma",
        "conv3x3",
    ]
    requests = [int(row[1].replace(",", "")) for row in cells[2:]]
    moved = [float(row[3]) for row in cells[2:]]
    assert requests[0] > 5 * requests[1] > 5 * requests[2]
    assert moved[0] > 3 * moved[1] > 3 * moved[2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check", "conv9"], "there is no kernel file 'conv9'; there are cast, "),
        (["profile"], "profile takes one kernel file"),
        (["profile", "relu", "conv3x3"], "profile takes one kernel file"),
        (["profile", "relu", "--shape", "3x4"], "--shape '3x4' is no shape: give NxHxWxC"),
        (["profile", "relu", "--shape", "1x0x4x4"], "is no shape"),
        (["profile", "conv3x3", "--shape", "1x2x9x4"], "at least 3x3 pixels"),
        (["check", "relu", "--write-budget"], "give no FILE"),
        (["polish"], "invalid choice"),
    ],
)
def test_what_makes_no_sense_is_answered_in_one_line(capsys, words, says):
    code, _, err = said(capsys, *words)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def test_help_teaches(capsys):
    assert cli.main(["kernels", "--help"]) == 0
    out = capsys.readouterr().out
    for words in ("unetcu kernels list", "unetcu kernels profile ladder", "--write-budget"):
        assert words in out
    assert kernels.__doc__.splitlines()[0] in out
