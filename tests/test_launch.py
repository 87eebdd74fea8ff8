"""Launches that do not fit are refused; simt computes by kernels only, as they are now."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from unetcu import kernel, simtbuild, threads
from unetcu.device import device
from unetcu.device import simt as simt_module
from unetcu.device.gpu import Gpu
from unetcu.device.simt import load_file
from unetcu.errors import DeviceError, KernelError

TILES = """extern "C" __global__ void tiles_forward(float* y) {}
extern "C" __global__ void tiles_backward(const unsigned short* h, unsigned k) {}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one kernel file of ours."""
    (tmp_path / "tiles.cu").write_text(TILES)
    monkeypatch.setattr(kernel, "KERNELS", tmp_path)
    kernel.entries.cache_clear()
    yield tmp_path
    kernel.entries.cache_clear()


class Recorder(Gpu):
    """A device that only notes what would be started."""

    name = "recorder"

    def owns(self, array):
        return isinstance(array, np.ndarray)

    def address(self, array):
        return array.ctypes.data

    def _start(self, call):
        self.started = call


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
        ((H, float("nan")), "k = nan is no uint32"),
        ((H, float("inf")), "k = inf is no uint32"),
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


@pytest.mark.parametrize("pair", ["reverse,shuffled", "guard,guard-before", "checked,profile"])
def test_modes_that_exclude_each_other(pair):
    with pytest.raises(DeviceError, match="at once: choose one"):
        device(f"simt:{pair}")


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


def test_copies_are_as_strict_as_on_a_gpu():
    simt = device("simt")
    target = simt.put(np.zeros((2, 3), np.float32))
    simt.copy(np.arange(3.0), target)
    simt.copy(simt.put(np.float32([[5, 6, 7]])), target[1:])
    assert simt.get(target).tolist() == [[0, 1, 2], [5, 6, 7]]
    for source in (simt.put(np.ones((2, 3))), simt.put(np.ones(3, np.float32)), target[:, ::-1]):
        with pytest.raises(KernelError, match="both must be alike, and contiguous"):
            simt.copy(source, target)
    with pytest.raises(KernelError, match="complex128 cannot be copied to float32"):
        simt.copy(np.ones(3, complex), target)
    with pytest.raises(KernelError, match="only contiguous arrays"):
        simt.copy(np.ones((2, 2), np.float32), target[:, :2])
    with pytest.raises(KernelError, match=r"list is no array of simt nor of NumPy"):
        simt.copy([1, 2, 3], target)


def test_blocks_are_shared_by_as_many_threads_as_are_asked_for(monkeypatch):
    started = []
    spy = SimpleNamespace(launch=lambda *_, **how: started.append(how["workers"]))
    monkeypatch.setattr(simt_module, "load", lambda *_: spy)
    monkeypatch.setattr(threads, "count", lambda: 3)
    device("simt").zeros((4,))
    assert started == [3]


def test_a_file_that_is_no_kernel_module(tmp_path):
    (tmp_path / "x.so").write_bytes(b"not machine code")
    with pytest.raises(DeviceError, match=r"cannot load a kernel: .*x\.so"):
        load_file(str(tmp_path / "x.so"))


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
