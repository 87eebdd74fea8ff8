"""The CPU as a device: NumPy arrays, and what works on them.

That is our own compiled kernels (kernels/cpu) for float32, where they were built, and otherwise
NumPy, its work split over threads by threads.py.
"""

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import threads
from .buffers import LEAST, Buffers, region

_exact: ContextVar[bool] = ContextVar("exact", default=False)


class Fetched:
    """Values that are, or will be, on the host."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def numpy(self) -> np.ndarray:
        """The values; waits until they are there."""
        return self._values

    def item(self) -> float:
        """The value of an array of one element; waits until it is there."""
        return float(self.numpy().reshape(()))


class Cpu:
    """NumPy arrays in main memory, float32 (float64 for proofs)."""

    name = "cpu"
    kind = "cpu"
    usual = "fp32"  # the precision of a network that is not told one

    def describe(self) -> str:
        """One line: what does the work."""
        blas = "" if threads.blas_control() else "; its BLAS cannot be held to one thread a part"
        return f"cpu (NumPy {np.__version__}, {threads.count()} threads{blas})"

    def native(self, dtype: DTypeLike) -> Any:
        """The module of compiled kernels if it can do the work, else None: then NumPy does it.

        None for any dtype but float32, where the module was not built, and with UNETCU_NATIVE=0
        in the environment.
        """
        if dtype != np.float32 or os.environ.get("UNETCU_NATIVE") == "0":
            return None
        module = _module()
        if module is not None:
            module.set_threads(threads.count())
        return module

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An uninitialised array, C-contiguous; large ones in memory that is kept (buffers.py)."""
        dtype = np.dtype(dtype)
        if dtype.itemsize * math.prod(shape) >= LEAST:
            buffers = _region()
            if buffers is not None and (array := buffers.empty(shape, dtype)) is not None:
                return array
        return np.empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of zeros, C-contiguous."""
        return np.zeros(shape, dtype)

    def full(self, shape: Sequence[int], value: float, dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of one value."""
        return np.full(shape, value, dtype)

    def put(self, array: np.ndarray) -> np.ndarray:
        """A copy on this device, in native byte order and C-contiguous."""
        array = np.asarray(array)
        copy = self.empty(array.shape, array.dtype.newbyteorder("="))
        np.copyto(copy, array)
        return copy

    def get(self, array: np.ndarray) -> np.ndarray:
        """The array as a NumPy array (here: the array itself)."""
        return array

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """target[...] = source, converted to its dtype; the source may also be a NumPy array."""
        np.copyto(target, source, casting="same_kind")

    def captured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, of arrays given by name; only GPUs capture what it does."""
        return lambda **given: function(**{name: self.put(a) for name, a in given.items()})

    def join(self) -> None:
        """Nothing to wait for: only GPUs have work aside."""

    def fetch(self, array: np.ndarray) -> Fetched:
        """The values as they are now."""
        return Fetched(np.array(array))

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a + b, of one shape: how gradients are summed where a tensor was used more than once."""
        native = self.native(a.dtype)
        if native is None or b.dtype != a.dtype:
            return np.asarray(a + b)
        y = self.empty(a.shape, a.dtype)
        native.add(a, b, y)
        return y


def portable(array: Any) -> np.ndarray:
    """A copy as a plain NumPy array, in native byte order and C-contiguous."""
    array = np.asarray(array)
    return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)


@contextmanager
def exact() -> Iterator[None]:
    """Inside, every sum is added in one order, whatever its position: what tiles need to fit.

    Then whole numbers come out exactly, a NaN reaches only what sees it, and a tile has the bits
    of the whole image. Outside, convolutions may take a faster form with larger rounding errors.
    Like `no_grad`, it holds for this thread.
    """
    before = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(before)


def exact_wanted() -> bool:
    """Are we inside `exact()`?"""
    return _exact.get()


@functools.cache
def _region() -> Buffers | None:
    """The process's memory for arrays, made when it is first needed."""
    return None if os.environ.get("UNETCU_BUFFERS") == "0" else region()


@functools.cache
def _module() -> Any:
    try:
        from .. import _native  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        if os.environ.get("UNETCU_ISA"):  # a wrong name must not turn into a slow run
            raise
        return None
    return _native
