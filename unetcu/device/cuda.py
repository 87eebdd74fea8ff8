"""The `cuda` device: kernels compiled by NVRTC, loaded and launched through CuPy.

CuPy is memory and launches here; no number comes from it. Whether the device can be used is found
out in steps, cheapest first, and CuPy is imported only if all before it holds: on a machine without
a GPU nobody waits for it.
"""

import ctypes
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DeviceError, KernelError
from ..kernel import needs, source, suffix
from . import nvrtc
from .boxes import Boxes, encoded
from .captured import Inputs
from .cpu import Fetched
from .cudastreams import Capture, OnTheWay, StagedInputs
from .gpu import Call, Gpu

PLAIN_SHARED = 48 * 1024  # bytes of shared memory that a kernel gets without asking
NO_GPU = 100  # CUDA_ERROR_NO_DEVICE


class Cuda(Gpu):
    """GPU number `index`; to be made only if problem(index) is None."""

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        import cupy

        self.name = f"cuda:{index}"
        self._cupy = cupy
        self._card = cupy.cuda.Device(index)
        if int(self._card.compute_capability) >= 80:
            self.usual = "bf16"
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        self.memory = int(properties["totalGlobalMem"])
        self._arch = nvrtc.architecture_for(int(self._card.compute_capability))
        self._capture: Capture | None = None  # that goes on
        self._modules: dict[str, Any] = {}
        self._functions: dict[tuple[str, str], Any] = {}

    def describe(self) -> str:
        """One line: the GPU's name and what kernels are compiled for."""
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._card.id)
        return f"{self.name} ({properties['name'].decode()}, {self._arch})"

    def _empty(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        """Whatever the memory held; with UNETCU_DEBUG every byte is 0xFF, as on simt."""
        try:
            with self._here():
                array = self._cupy.empty(shape, dtype)
                if self.debug:
                    array.data.memset_async(255, array.nbytes)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.name} has too little memory ({error}); choose a smaller tile or batch"
            ) from None
        return array

    def _place(
        self, block: Any, start: int, shape: Sequence[int], dtype: DTypeLike, owner: Any
    ) -> Any:
        cupy, first = self._cupy, block.data.ptr + start
        size = block.nbytes - start
        memory = cupy.cuda.UnownedMemory(first, size, owner, self._card.id)
        return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))

    def put(self, array: np.ndarray) -> Any:
        """A copy."""
        copied = self.empty(array.shape, array.dtype.newbyteorder("="))
        self.copy(array, copied)
        return copied

    def get(self, array: Any) -> np.ndarray:
        """A copy."""
        self._not_captured("reads an array: its values are not there yet")
        with self._here():
            return array.get()

    def fetch(self, array: Any) -> Fetched:
        """The values, copied to the host in turn; waiting for them waits for nothing after them."""
        self._not_captured("reads an array: its values are not there yet")
        with self._here():
            return OnTheWay(self._cupy.cuda, array, self._here)

    def synchronize(self) -> None:
        """Wait until all launches are done; KernelError if one of them failed."""
        with self._here():
            self._card.synchronize()

    def _not_captured(self, what: str) -> None:
        if self._capture:
            raise KernelError(f"a captured function {what}")

    def _copy(self, source: Any, target: Any) -> None:
        if not self.owns(source):
            self._not_captured("copies values of the host: they would be frozen")
        with self._here():
            if self.owns(source):
                target.data.copy_from_device_async(source.data, source.nbytes)
            else:
                target.set(source)

    def owns(self, array: Any) -> bool:
        """Whether it is in this GPU's memory."""
        return isinstance(array, self._cupy.ndarray) and array.device == self._card

    def admits(self, unit: str) -> bool:
        """Whether the GPU is as new as that, or of exactly that architecture if it must be."""
        (wanted, exactly), mine = needs(unit), int(self._card.compute_capability)
        return mine == wanted if exactly else mine >= wanted

    def address(self, array: Any) -> int:
        return array.data.ptr

    def _start(self, call: Call) -> None:
        with self._here():
            name = call.unit, call.entry
            function = self._functions.get(name) or self._load(*name)
            if call.shared > PLAIN_SHARED:
                function.max_dynamic_shared_size_bytes = call.shared
            args = tuple(
                encoded(a, self.address(a.array)) if isinstance(a, Boxes) else a for a in call.args
            )
            function(call.grid, call.block, args, shared_mem=call.shared)

    does_without_graphs = True  # what a driver cannot capture it can still run

    def _begin_capture(self) -> None:
        with self._here():
            self._capture = Capture(self._cupy.cuda)

    def _end_capture(self) -> Callable[[], None]:
        assert self._capture
        capture, self._capture = self._capture, None
        with self._here():
            graph = capture.end()

        def replay() -> None:
            with self._here():
                graph.launch()

        return replay

    def _abandon_capture(self) -> None:
        assert self._capture
        capture, self._capture = self._capture, None
        with suppress(KernelError), self._here():  # why it is abandoned is being said
            capture.end()

    def _fork(self) -> None:
        assert self._capture
        with self._here():
            self._capture.fork()

    def _back(self) -> Any:
        assert self._capture
        with self._here():
            return self._capture.back()

    def _merge(self, end: Any) -> None:
        assert self._capture
        with self._here():
            self._capture.merge(end)

    def _inputs(self, given: dict[str, Any]) -> Inputs:
        with self._here():
            return StagedInputs(self, given)

    def _trim(self) -> None:
        with self._here():
            self._cupy.get_default_memory_pool().free_all_blocks()

    def _load(self, unit: str, entry: str) -> Any:
        if unit not in self._modules:
            text = source(unit)
            path = nvrtc.cubin(text, f"kernels/{unit}.cu", self._arch + suffix(text))
            self._modules[unit] = self._cupy.RawModule(path=str(path))
        function = self._functions[unit, entry] = self._modules[unit].get_function(entry)
        return function

    @contextmanager
    def _here(self) -> Iterator[None]:
        """This GPU, and the stream of a capture, are the current ones; what the driver reports
        becomes an error for users."""
        cuda = self._cupy.cuda
        try:
            with self._card, self._capture.stream if self._capture else nullcontext():
                yield
        except (cuda.driver.CUDADriverError, cuda.runtime.CUDARuntimeError) as error:
            hint = "" if self.debug else "; UNETCU_DEBUG=1 tells which kernel it was"
            raise KernelError(f"a kernel failed on {self.name}: {error}{hint}") from None


def problem(index: int = 0) -> str | None:
    """Why GPU number `index` cannot be used and what to do about it, or None."""
    try:
        driver, count = _driver()
        if index >= count:
            names = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
            return f"there is no GPU number {index} here; there is {names}"
        return _software(index, driver)
    except DeviceError as error:
        return str(error)


def _driver() -> tuple[int, int]:
    """(newest CUDA that the driver knows, such as 13, number of GPUs); asks the driver itself."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceError("no NVIDIA driver was found") from None
    code, version, count = cuda.cuInit(0), ctypes.c_int(), ctypes.c_int()
    if code == 0:
        code = cuda.cuDriverGetVersion(ctypes.byref(version)) or cuda.cuDeviceGetCount(
            ctypes.byref(count)
        )
    if code == NO_GPU or (code == 0 and count.value == 0):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        raise DeviceError(f"there is an NVIDIA driver, but it finds no GPU{why}")
    if code:
        raise DeviceError(
            f"the NVIDIA driver does not start (CUDA error {code}); nvidia-smi may tell why"
        )
    return version.value // 1000, count.value


def _software(index: int, driver: int) -> str | None:
    """The problem with what pip installs, or None; `driver` is the CUDA that the driver knows."""
    install = f'pip install "unetcu[cuda{min(max(driver, 12), 13)}]"'
    if driver < 12:
        return f"the NVIDIA driver is too old (CUDA {driver}); install one for CUDA 13"
    if importlib.util.find_spec("cupy") is None:
        return f"there is a GPU, but CuPy is not installed: {install}"
    try:
        compiler = nvrtc.version()[0]
    except DeviceError:
        return f"there are a GPU and CuPy, but NVRTC was not found: {install}"
    if driver < compiler:
        return (
            f"the NVIDIA driver is too old: it knows CUDA {driver}, and NVRTC here is of CUDA "
            f"{compiler}; install a newer driver, or {install}"
        )
    try:
        import cupy

        capability = cupy.cuda.Device(index).compute_capability
    except Exception as error:  # whatever CuPy finds wrong with itself or with the machine
        return f"CuPy cannot use the GPU ({error}): {install}"
    nvrtc.architecture_for(int(capability))
    return None
