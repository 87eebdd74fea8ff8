"""The cuda device on machines that lack something: one sentence for each thing."""

import sys

import pytest
from fakecuda import Current, Driver, FakeCudaError

from unetcu.device import cuda, nvrtc
from unetcu.device.cuda import Cuda, problem
from unetcu.errors import DeviceError

PIP13 = 'pip install "unetcu[cuda13]"'
PIP12 = 'pip install "unetcu[cuda12]"'


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
