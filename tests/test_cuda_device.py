"""What the cuda device asks of CuPy: launches, copies, errors in one line."""

import numpy as np
import pytest
from fakecuda import Current, FakeArray

from unetcu.device import cuda
from unetcu.device.cuda import Cuda
from unetcu.device.gpu import Call
from unetcu.errors import DeviceError, KernelError


@pytest.fixture
def text(monkeypatch, tmp_path):
    """One kernel file, scale.cu, in place of the package's own."""
    monkeypatch.setenv("UNETCU_CACHE", str(tmp_path))
    code = 'extern "C" __global__ void scale_all(float* y, float a) { y[threadIdx.x] *= a; }'
    monkeypatch.setattr(cuda, "source", {"scale": code}.__getitem__)


def start(device, *args, grid=(1, 1, 1), shared=0):
    device._start(Call("scale", "scale_all", grid, (64, 1, 1), list(args), shared))


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
    assert device.owns(there)
    assert not device.owns(values)
    assert not Cuda(0).owns(there)
    back = device.get(there)
    assert type(back) is np.ndarray
    assert np.array_equal(back, values)
    again = device.put(there)
    there.view(np.ndarray)[...] = 0
    assert np.array_equal(device.get(again), values)
    assert device.address(there) == there.ctypes.data


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


def test_a_gpu_admits_what_its_architecture_has(launched):
    where = Cuda(0)  # of capability 9.0
    assert where.admits("conv3x3_wgmma:bf16")
    assert where.admits("conv3x3_mma:bf16")
    for capability, mma, wgmma in (("75", False, False), ("80", True, False), ("120", True, False)):
        where._card.compute_capability = capability  # as CuPy has it: a string
        assert where.admits("conv3x3_mma:bf16") is mma
        assert where.admits("conv3x3_wgmma:bf16") is wgmma
        assert where.admits("conv3x3")
