"""The CPU as a device: NumPy arrays; its work is split over threads by threads.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import threads


class Cpu:
    """NumPy arrays in main memory, float32 (float64 for proofs)."""

    name = "cpu"
    kind = "cpu"

    def describe(self) -> str:
        """One line: what does the work."""
        blas = "" if threads.blas_control() else "; its BLAS cannot be held to one thread a part"
        return f"cpu (NumPy {np.__version__}, {threads.count()} threads{blas})"

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An uninitialised array, C-contiguous."""
        return np.empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of zeros, C-contiguous."""
        return np.zeros(shape, dtype)

    def put(self, array: np.ndarray) -> np.ndarray:
        """A copy on this device, in native byte order and C-contiguous."""
        return portable(array)

    def get(self, array: np.ndarray) -> np.ndarray:
        """The array as a NumPy array (here: the array itself)."""
        return array

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """target[...] = source, converted to its dtype; the source may also be a NumPy array."""
        np.copyto(target, source, casting="same_kind")

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a + b: how gradients are summed where a tensor was used more than once."""
        return a + b


def portable(array: Any) -> np.ndarray:
    """A copy as a plain NumPy array, in native byte order and C-contiguous."""
    array = np.asarray(array)
    return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)
