"""Where arrays live and what does the arithmetic: `cpu`, `cuda`, or `simt`.

Ops never touch an array library directly for memory: they ask their device for it, so that the
same op can run where its arrays are. `cpu` is NumPy. `cuda` and `simt` are of one kind, "gpu":
they run the same .cu files with the same launches, on a GPU or, slowly, on the CPU. This package
is the only place that may import CuPy or our compiled modules.
"""

import functools
import importlib.util
import re

from ..errors import DeviceError
from .cpu import Cpu, Fetched
from .gpu import Gpu

__all__ = ["DEVICE_HELP", "Cpu", "Device", "Fetched", "Gpu", "describe", "device", "native"]

Device = Cpu | Gpu
KNOWN = "'auto', 'cpu', 'cuda', 'cuda:N' (the GPU number N) or 'simt'"
DEVICE_HELP = "auto, cpu, cuda, cuda:N or simt (the CUDA kernels run on the CPU, which is slow)"


@functools.cache
def device(name: str = "auto") -> Device:
    """The device of this name; "auto" is the first GPU if it can be used, else the CPU.

    Raises DeviceError: no such name, or not usable here and what to do about it.
    """
    if name == "cpu":
        return Cpu()
    if name == "auto":
        from .cuda import problem

        return device("cpu" if problem() else "cuda")
    what, _, rest = name.partition(":")
    if what == "simt":
        from .simt import Simt

        return Simt(rest.split(",") if rest else ())
    if name == "cuda":
        return device("cuda:0")
    if re.fullmatch(r"cuda:\d{1,4}", name):
        from .cuda import Cuda, problem

        trouble = problem(int(rest))
        if trouble:
            raise DeviceError(f"{name} cannot be used: {trouble}")
        return Cuda(int(rest))
    raise DeviceError(f"no device is called {name!r}; use {KNOWN}")


@functools.cache
def native() -> str | None:
    """How the compiled module was built, in a few words, or None where it was not built."""
    if importlib.util.find_spec("unetcu._native") is None:
        return None
    from .. import _native  # type: ignore[attr-defined, unused-ignore]

    return str(_native.describe())


def describe(name: str = "auto") -> str:
    """One line on the device of this name; for "auto" also why it is not a GPU."""
    line = device(name).describe()
    if name == "auto" and device(name).kind == "cpu":
        from .cuda import problem

        line += f"; no GPU: {problem()}"
    return line
