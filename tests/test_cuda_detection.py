"""The cuda device on machines that lack something, and its calls to CuPy: with stand-ins for the
driver and for CuPy, so that every case is tried on any machine."""

import ctypes
import sys
import types
from typing import ClassVar

import numpy as np
import pytest

from unetcu.device import cuda, nvrtc
from unetcu.device.cuda import Cuda, problem
from unetcu.errors import DeviceError, KernelError

PIP13 = 'pip install "unetcu[cuda13]"'
PIP12 = 'pip install "unetcu[cuda12]"'


class Driver:
    """libcuda, as far as it is asked."""

    def __init__(self, version=13000, count=1, init=0):
        self.version, self.count, self.init = version, count, init

    def cuInit(self, flags):
        assert flags == 0
        return self.init

    def cuDriverGetVersion(self, place):
        place._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, place):
        place._obj.value = self.count
        return 0


class FakeArray(np.ndarray):
    """A cupy.ndarray over main memory."""

    device = 0

    @property
    def data(self):
        return FakeMemory(self.view(np.ndarray))

    def get(self):
        return np.array(self.view(np.ndarray))

    def set(self, values):
        assert type(values) is np.ndarray
        assert values.dtype == self.dtype
        assert values.shape == self.shape
        assert values.flags.c_contiguous
        self.view(np.ndarray)[...] = values


class FakeMemory:
    def __init__(self, array):
        self.array, self.ptr = array, array.ctypes.data

    def memset_async(self, value, size):
        self.array.reshape(-1).view(np.uint8)[:size] = value

    def copy_from_device_async(self, source, size):
        self.array.reshape(-1).view(np.uint8)[:size] = source.array.reshape(-1).view(np.uint8)


class Current:
    """cupy.cuda.Device"""

    now: ClassVar = [0]
    compute_capability = "90"

    def __init__(self, index):
        self.id = index

    def __enter__(self):
        self.now.append(self.id)

    def __exit__(self, *_):
        self.now.pop()

    def __eq__(self, other):
        return self.id == other

    __hash__ = None

    def synchronize(self):
        assert self.now[-1] == self.id


class FakeCudaError(RuntimeError):
    pass


def fake_cupy(launched):
    """A module with what the cuda device uses of CuPy; launches are put into a list."""

    class Function:
        max_dynamic_shared_size_bytes = None

        def __init__(self, path, entry):
            self.path, self.entry = path, entry

        def __call__(self, grid, block, args, *, shared_mem):
            room = self.max_dynamic_shared_size_bytes
            launched.append((self, grid, block, args, shared_mem, room, Current.now[-1]))
            if grid[0] == 666:
                raise FakeCudaError("CUDA_ERROR_INVALID_VALUE: no")

    class RawModule:
        def __init__(self, *, path):
            self.path = path

        def get_function(self, entry):
            return Function(self.path, entry)

    def empty(shape, dtype):
        if np.prod(shape) > 10**9:
            raise MemoryError("out of memory allocating 4,000 bytes")
        array = np.zeros(shape, dtype).view(FakeArray)
        array.device = Current.now[-1]
        return array

    module = types.ModuleType("cupy")
    module.__spec__ = types.SimpleNamespace()
    names = {"Device": Current, "memory": types.SimpleNamespace(OutOfMemoryError=MemoryError)}
    names["driver"] = types.SimpleNamespace(CUDADriverError=FakeCudaError)
    properties = {"name": b"Test Card"}
    names["runtime"] = types.SimpleNamespace(
        CUDARuntimeError=FakeCudaError, getDeviceProperties=lambda index: properties
    )
    module.cuda = types.SimpleNamespace(**names)
    module.ndarray, module.empty, module.RawModule = FakeArray, empty, RawModule
    return module


@pytest.fixture
def driver(monkeypatch):
    """Call it with what the driver says; None for a machine that has none."""

    def install(found):
        real = ctypes.CDLL

        def load(name, *rest):
            if name != "libcuda.so.1":
                return real(name, *rest)
            if found is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return found

        monkeypatch.setattr(ctypes, "CDLL", load)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    return install


@pytest.fixture
def launched(driver, monkeypatch):
    """Launches on a machine with two GPUs and everything installed."""
    found = []
    driver(Driver(count=2))
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(found))
    return found


def without(monkeypatch, *names):
    """A machine where these packages are not installed."""
    real = cuda.importlib.util.find_spec
    monkeypatch.setattr(
        cuda.importlib.util, "find_spec", lambda n, *r: None if n in names else real(n, *r)
    )


def test_no_driver(driver, monkeypatch):
    driver(None)
    monkeypatch.setitem(sys.modules, "cupy", None)  # to import it is an error
    assert problem() == "no NVIDIA driver was found"


@pytest.mark.parametrize("found", [Driver(count=0), Driver(init=100)])
def test_driver_without_a_gpu(driver, monkeypatch, found):
    driver(found)
    assert problem() == "there is an NVIDIA driver, but it finds no GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert problem().endswith("finds no GPU (CUDA_VISIBLE_DEVICES is '')")


def test_driver_that_does_not_start(driver):
    driver(Driver(init=803))
    assert problem() == (
        "the NVIDIA driver does not start (CUDA error 803); nvidia-smi may tell why"
    )


def test_number_of_a_gpu_that_is_not_there(driver):
    driver(Driver(count=1))
    assert problem(3) == "there is no GPU number 3 here; there is cuda:0"
    driver(Driver(count=4))
    assert problem(4) == "there is no GPU number 4 here; there is cuda:0 to cuda:3"


@pytest.mark.parametrize(("version", "pip"), [(13020, PIP13), (12040, PIP12), (14000, PIP13)])
def test_no_cupy(driver, monkeypatch, version, pip):
    driver(Driver(version))
    without(monkeypatch, "cupy")
    assert problem() == f"there is a GPU, but CuPy is not installed: {pip}"


def test_cupy_but_no_nvrtc(launched, monkeypatch):
    def nothing():
        raise DeviceError("none")

    monkeypatch.setattr(nvrtc, "version", nothing)
    assert problem() == f"there are a GPU and CuPy, but NVRTC was not found: {PIP13}"


def test_driver_older_than_nvrtc(launched, driver, monkeypatch):
    monkeypatch.setattr(nvrtc, "version", lambda: (13, 0))
    driver(Driver(12080))
    assert problem() == (
        "the NVIDIA driver is too old: it knows CUDA 12, and NVRTC here is of CUDA 13; "
        f"install a newer driver, or {PIP12}"
    )
    driver(Driver(11080))
    assert problem() == "the NVIDIA driver is too old (CUDA 11); install one for CUDA 13"
    driver(Driver(13000))
    assert problem() is None


def test_cupy_that_fails(launched, monkeypatch):
    def fail(index):
        raise FakeCudaError("cudaErrorInsufficientDriver")

    monkeypatch.setattr(sys.modules["cupy"].cuda, "Device", fail)
    assert problem() == f"CuPy cannot use the GPU (cudaErrorInsufficientDriver): {PIP13}"


def test_gpu_older_than_the_compiler(launched, monkeypatch):
    monkeypatch.setattr(Current, "compute_capability", "52")
    assert problem().startswith("this GPU (compute capability 5.2) is too old for NVRTC")


def test_every_gpu_that_is_there_can_be_used(launched):
    assert problem() is None
    assert problem(1) is None
    assert Cuda(1).describe() == "cuda:1 (Test Card, sm_90)"
    assert Cuda(1).name == "cuda:1"


@pytest.fixture
def text(monkeypatch, tmp_path):
    """One kernel file, scale.cu, in place of the package's own."""
    monkeypatch.setenv("UNETCU_CACHE", str(tmp_path))
    code = 'extern "C" __global__ void scale_all(float* y, float a) { y[threadIdx.x] *= a; }'
    monkeypatch.setattr(cuda, "source", {"scale": code}.__getitem__)


def start(device, *args, grid=(1, 1, 1), shared=0):
    device._start("scale", "scale_all", grid, (64, 1, 1), list(args), shared)


def test_launch_reaches_the_right_gpu_with_its_own_machine_code(launched, text):
    device = Cuda(1)
    y, a = device.empty((64,)), np.float32(2)
    start(device, y, a, grid=(3, 2, 1), shared=512)
    function, grid, block, args, shared, room, on = launched[0]
    assert (grid, block, shared, room, on) == ((3, 2, 1), (64, 1, 1), 512, None, 1)
    assert function.entry == "scale_all"
    assert args[0] is y
    assert args[1] is a
    with open(function.path, "rb") as file:
        assert file.read(4) == b"\x7fELF"
    assert "-sm_90-" in function.path
    start(device, y, a)
    assert launched[1][0] is function  # compiled and loaded once
    assert Current.now == [0]


def test_large_shared_memory_is_asked_for(launched, text):
    start(Cuda(), shared=48 * 1024)
    start(Cuda(), shared=48 * 1024 + 16)
    assert [call[5] for call in launched] == [None, 48 * 1024 + 16]


def test_driver_errors_are_said_in_one_line(launched, text):
    with pytest.raises(KernelError, match=r"failed on cuda:0: CUDA_ERROR_INVALID_VALUE.*UNETCU_D"):
        start(Cuda(), grid=(666, 1, 1))
    with pytest.raises(DeviceError, match=r"cuda:0 has too little memory .*4,000 bytes.*smaller"):
        Cuda().empty((10**5, 10**5))


def test_arrays_go_there_and_back(launched, rng):
    device = Cuda(1)
    values = rng.standard_normal((3, 5)).astype(">f4")[:, ::2]
    there = device.put(values)
    assert isinstance(there, FakeArray)
    assert there.device == 1
    assert there.flags.c_contiguous
    assert device._owns(there)
    assert not device._owns(values)
    assert not Cuda(0)._owns(there)
    back = device.get(there)
    assert type(back) is np.ndarray
    assert np.array_equal(back, values)
    again = device.put(there)
    there.view(np.ndarray)[...] = 0
    assert np.array_equal(device.get(again), values)
    assert device._address(there) == there.ctypes.data


def test_copy_converts_from_numpy_only(launched):
    device = Cuda()
    target = device.put(np.zeros((2, 3), np.float32))
    device.copy(np.arange(3.0), target)
    assert device.get(target).tolist() == [[0, 1, 2]] * 2
    device.copy(device.put(np.float32([[5, 6, 7]])), target[1:])
    assert device.get(target).tolist() == [[0, 1, 2], [5, 6, 7]]
    for source in (np.ones(3, complex), device.put(np.ones((2, 3)))):
        with pytest.raises(KernelError, match="copied to"):
            device.copy(source, target)
    for source, to in ((np.ones((2, 2), np.float32), target[:, :2]), (target[:, :2], target)):
        with pytest.raises(KernelError, match=r"contiguous"):
            device.copy(source, to)


def test_debug_fills_new_memory_with_nan(launched, monkeypatch):
    assert not np.isnan(Cuda().empty((4,)).get()).any()
    monkeypatch.setenv("UNETCU_DEBUG", "1")
    assert np.isnan(Cuda().empty((4,)).get()).all()
    assert Cuda().empty((4,), np.int32).get().tolist() == [-1] * 4
