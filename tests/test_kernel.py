"""Reading kernel files: pasting, signatures, constants; launches that do not fit."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from unetcu import kernel, simtbuild
from unetcu.device import device
from unetcu.device.gpu import Gpu
from unetcu.errors import DeviceError, KernelError

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
        ("x", "float32", True, True),
        ("y", "float32", True, False),
        ("arg", "uint8", True, False),
        ("when", "uint32", True, True),
        ("count", "int64", False, False),
        ("rate", "float64", False, False),
        ("N", "int32", False, False),
    )
    assert found["tiles_backward"] == (
        ("h", "uint16", True, True),
        ("k", "uint32", False, False),
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


class Recorder(Gpu):
    """A device that only notes what would be started."""

    name = "recorder"

    def _owns(self, array):
        return isinstance(array, np.ndarray)

    def _address(self, array):
        return array.ctypes.data

    def _start(self, *launch):
        self.started = launch


@pytest.fixture
def launch(folder):
    recorder = Recorder()

    def go(*args, grid=1, block=32, shared=0, entry="tiles_backward"):
        recorder.launch("tiles", entry, grid, block, *args, shared=shared)
        return recorder

    return go


H = np.zeros(8, np.uint16)


def test_a_launch_hands_over_c_types(launch):
    recorder = launch(H, 7, grid=(2, 3), block=(4, 5, 6), shared=64)
    stem, entry, grid, block, (h, k), shared = recorder.started
    assert (stem, entry, grid, block, shared) == (
        *("tiles", "tiles_backward", (2, 3, 1), (4, 5, 6)),
        64,
    )
    assert h is H
    assert type(k) is np.uint32
    assert k == 7
    assert recorder.launches == {"tiles_backward": 1}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((H,), r"takes 2 arguments \(h, k\), got 1"),
        ((H, 1, 2), r"takes 2 arguments \(h, k\), got 3"),
        ((H.astype(np.int16), 1), "h must be a contiguous uint16 array, got int16"),
        ((H[::2], 1), "h must be a contiguous uint16 array"),
        ((H[1:], 1), "h does not start at a multiple of 16 bytes"),
        (([0] * 8, 1), "h must be an array on recorder, got list"),
        ((H, H), "k must be a number, got ndarray"),
        ((H, -1), "k = -1 is no uint32"),
        ((H, 2**32), "k = 4294967296 is no uint32"),
        ((H, 1.5), r"k = 1\.5 is no uint32"),
        ((H, "1"), "k must be a number, got str"),
    ],
)
def test_arguments_that_do_not_fit(launch, args, says):
    with pytest.raises(KernelError, match=f"tiles_backward.*{says}"):
        launch(*args)


@pytest.mark.parametrize(
    "how",
    [
        {"grid": 0},
        {"grid": (1, 65536)},
        {"grid": (1, 1, 1, 1)},
        {"grid": 2**31},
        {"block": 0},
        {"block": 1025},
        {"block": (64, 32)},
        {"block": (1, 1, 65)},
        {"shared": -1},
        {"shared": 228 * 1024},
    ],
)
def test_launches_that_no_gpu_could_make(launch, how):
    with pytest.raises(KernelError, match="tiles_backward: "):
        launch(H, 1, **how)


def test_a_kernel_that_is_not_there(launch):
    with pytest.raises(KernelError, match=r"no kernel tiles_sideways; it has tiles_forward, til"):
        launch(H, 1, entry="tiles_sideways")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cudas", "simt:fast", "CPU", ""])
def test_devices_that_are_not_there(name):
    with pytest.raises(DeviceError):
        device(name)


def test_no_arithmetic_outside_kernels():
    """Every number on simt is made by a kernel: NumPy refuses, whatever way it is asked."""
    simt = device("simt")
    a, b = simt.put(np.ones(4, np.float32)), simt.put(np.ones(4, np.float32))
    for compute in (
        lambda: a + b,
        lambda: 2 * a,
        lambda: np.add(a, b),
        lambda: np.exp(a),
        lambda: a.sum(),
        lambda: np.concatenate([a, b]),
        lambda: np.add.reduce(a),
        lambda: np.where(a, a, b),
        lambda: a @ b,
    ):
        with pytest.raises(KernelError, match="only kernels may compute"):
            compute()
    with pytest.raises(KernelError, match="only kernels may compute"):
        a += b
    assert simt.get(a).tolist() == [1, 1, 1, 1]


def test_a_changed_kernel_is_compiled_anew(tmp_path, monkeypatch):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    shutil.copytree(kernel.KERNELS, tmp_path / "kernels")
    code = """
import numpy as np
from unetcu.device import device
simt = device("simt")
y = simt.empty((3,))
simt.launch("mine", "mine_value", 1, 3, y)
print(*simt.get(y).tolist())
"""
    said = []
    for value in (1, 1, 2):
        text = f'extern "C" __global__ void mine_value(float* y) {{ y[threadIdx.x] = {value}; }}'
        (tmp_path / "kernels" / "mine.cu").write_text(text)
        here = "from pathlib import Path\nimport unetcu.kernel as k, unetcu.simtbuild as s\n"
        here += f"k.KERNELS = s.KERNELS = Path({str(tmp_path / 'kernels')!r})\n"
        env = {"UNETCU_CACHE": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", here + code], capture_output=True, text=True, env=env
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["1.0"] * 3, ["1.0"] * 3, ["2.0"] * 3]
    made = list((tmp_path / "cache").glob("mine-fast-*.so"))
    assert len(made) == 2
    assert simtbuild.name_of("text", "mine", "fast") != simtbuild.name_of("text", "mine", "checked")
