"""Stand-ins for the NVIDIA driver and for CuPy, so that every case is tried on any machine."""

import ctypes
import sys
import types
from typing import ClassVar

import numpy as np
import pytest


class Driver:
    """libcuda, as far as it is asked."""

    def __init__(self, version=13000, count=1, init=0, encode=0):
        self.version, self.count, self.init = version, count, init
        self.encode, self.maps = encode, []  # what is said about tensor maps; those asked for

    def cuInit(self, flags):
        assert flags == 0
        return self.init

    def cuDriverGetVersion(self, place):
        place._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, place):
        place._obj.value = self.count
        return 0

    def cuTensorMapEncodeTiled(self, place, *asked):
        """Its arguments, C types unwrapped, and where the map is wanted; the map is 0, 1, 2, ..."""
        self.maps.append([place.value, *(getattr(a, "value", a) for a in asked)])
        ctypes.memmove(place.value, bytes(range(128)), 128)
        return self.encode


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
    properties = {"name": b"Test Card", "totalGlobalMem": 8 * 2**30}
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
