"""Where arrays live and what does the arithmetic. The only module that may import CuPy or
our compiled module.

Ops never touch an array library directly for memory: they ask their device for it, so that
the same op can run where its arrays are. `cpu` is NumPy; its work is split by threads.py.
"""

import functools
import importlib.util
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from . import threads
from .errors import DeviceError


class Cpu:
    """NumPy arrays in main memory, float32 (float64 for proofs)."""

    name = "cpu"
    kind = "cpu"

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An uninitialised array, C-contiguous."""
        return np.empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of zeros, C-contiguous."""
        return np.zeros(shape, dtype)

    def put(self, array: np.ndarray) -> np.ndarray:
        """A copy on this device, in native byte order and C-contiguous."""
        array = np.asarray(array)
        return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)

    def get(self, array: np.ndarray) -> np.ndarray:
        """The array as a NumPy array (here: the array itself)."""
        return array

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """target[...] = source, converted to its dtype; the source may also be a NumPy array."""
        np.copyto(target, source, casting="same_kind")

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a + b: how gradients are summed where a tensor was used more than once."""
        return a + b


@functools.cache
def device(name: str = "auto") -> Cpu:
    """The device called `name`: "cpu", or "auto" for the best one here."""
    if name in ("auto", "cpu"):
        return Cpu()
    raise DeviceError(f"no device is called {name!r}; use 'auto' or 'cpu'")


@functools.cache
def native() -> str | None:
    """How the compiled module was built, in a few words, or None where it was not built."""
    if importlib.util.find_spec("unetcu._native") is None:
        return None
    from . import _native  # type: ignore[attr-defined, unused-ignore]

    return str(_native.describe())


def describe() -> str:
    """One line: the device that "auto" gives, and why."""
    blas = "" if threads.blas_control() else "; its BLAS cannot be held to one thread a part"
    return f"cpu (NumPy {np.__version__}, {threads.count()} threads{blas})"
