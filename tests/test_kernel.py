"""Reading kernel files: pasting, signatures, constants."""

import re
import subprocess
import sys

import pytest

from unetcu import kernel
from unetcu.errors import KernelError

TILES = """// tiles.cu: what is read from a file. extern "C" __global__ void not_this(int a) {}
#include "common.cuh"
#include "more.cuh"
constexpr int ROWS = 8;
constexpr int COLUMNS = ROWS * (2 + 2) - 1;  // 31
constexpr int HALF = COLUMNS / 2;
constexpr unsigned SEED = 0x10;

extern "C" __global__ void __launch_bounds__(ROWS * COLUMNS) tiles_forward(
    const float* __restrict__ x,  // a comment, with a comma
    float* __restrict__ y, unsigned char* arg, const unsigned* when,
    long long count, double rate, int N) {}
extern "C" __global__ void tiles_backward(const unsigned short* const h, unsigned int k) {}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of kernels of our own; nothing read there is remembered."""
    (tmp_path / "tiles.cu").write_text(TILES)
    (tmp_path / "common.cuh").write_text("#pragma once\nint common;\n")
    (tmp_path / "more.cuh").write_text('#pragma once\n#include "common.cuh"\nint more;\n')
    monkeypatch.setattr(kernel, "KERNELS", tmp_path)
    cached = (kernel.source, kernel.entries, kernel.constants)
    for function in cached:
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()


def test_signatures(folder):
    found = kernel.entries("tiles")
    assert list(found) == ["tiles_forward", "tiles_backward"]
    assert found["tiles_forward"] == (
        ("x", "float32", True, True, False),
        ("y", "float32", True, False, False),
        ("arg", "uint8", True, False, False),
        ("when", "uint32", True, True, False),
        ("count", "int64", False, False, False),
        ("rate", "float64", False, False, False),
        ("N", "int32", False, False, False),
    )
    assert found["tiles_backward"] == (
        ("h", "uint16", True, True, False),
        ("k", "uint32", False, False, False),
    )


@pytest.mark.parametrize("declared", ["float** x", "half* x", "std::size_t n", "struct S s"])
def test_parameters_that_nobody_could_check(folder, declared):
    (folder / "odd.cu").write_text(f'extern "C" __global__ void odd_one(int n, {declared}) {{}}')
    with pytest.raises(KernelError, match=r"odd\.cu, odd_one: cannot read the parameter"):
        kernel.entries("odd")


def test_constants(folder):
    assert kernel.constants("tiles") == {"ROWS": 8, "COLUMNS": 31, "HALF": 15, "SEED": 16}
    for value in ("sizeof(float)", "OTHER * 2", "8 +", "f(3)", "1.5"):
        (folder / "odd.cu").write_text(f"constexpr int N = {value};")
        kernel.constants.cache_clear()
        with pytest.raises(KernelError, match=r"odd\.cu: cannot read constexpr int N = "):
            kernel.constants("odd")


def test_a_pasted_source_is_whole_and_says_where_each_line_is_from(folder):
    text = kernel.source("tiles")
    assert "#include" not in text
    assert "#pragma once" not in text
    assert text.count("int common;") == text.count("int more;") == 1
    file, line = "", 0
    places = {}
    for row in text.splitlines():
        if told := re.fullmatch(r'#line (\d+) "(.*)"', row):
            line, file = int(told[1]), told[2]
            continue
        places.setdefault(row, f"{file}:{line}")
        line += 1
    assert places["int common;"] == "kernels/common.cuh:2"
    assert places["int more;"] == "kernels/more.cuh:3"
    for number, row in enumerate(TILES.splitlines(), 1):
        if row and not row.startswith("#include"):
            assert places[row] == f"kernels/tiles.cu:{number}"


def test_a_file_that_is_not_there(folder):
    with pytest.raises(KernelError, match=r"there is no kernel file missing\.cu"):
        kernel.source("missing")


def test_every_kernel_file_can_be_read():
    stems = kernel.stems()
    assert {"conv3x3", "maxpool2", "upconv2", "crop_concat", "softmax_loss"} <= set(stems)
    for stem in stems:
        found = kernel.entries(stem)
        assert found, stem
        text = (kernel.KERNELS / f"{stem}.cu").read_text("utf-8")
        assert len(found) == text.count("__global__"), f"{stem}: an entry point is not read"
        assert all(name.startswith(stem.split("/")[-1]) for name in found)
        kernel.constants(stem)


def test_needs_nothing_but_python():
    """The package's build uses it before any dependency is there."""
    code = "import sys, unetcu.simtbuild; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
