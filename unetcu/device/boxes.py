"""How copies of boxes to shared memory (TMA; `copy_box` in kernels/ptx.cuh) see an array.

A kernel takes such a view as `const __grid_constant__ TensorMap`. On a GPU it is a CUtensorMap,
encoded by the driver, on simt the numbers themselves.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import KernelError

ROW = 64  # numbers in a row of a box: 128 bytes
PIECE = 8  # numbers in 16 bytes
MOST = 256  # of a box's sizes
# What cuTensorMapEncodeTiled calls them: 16-bit numbers, no interleaving, rows of 128 bytes
# swizzled, fetched to L2 by 256 bytes, zeros outside.
UINT16, PLAIN, SWIZZLED, BY_256, ZEROS = 1, 0, 3, 3, 0


class Boxes(NamedTuple):
    """A view of an array of 16-bit numbers; made by `boxes`."""

    array: Any
    start: int  # the first element
    sizes: tuple[int, ...]  # the fastest first
    strides: tuple[int, ...]  # in elements; the first is 1
    box: tuple[int, ...]  # what is copied at once


def boxes(
    array: Any, sizes: Sequence[int], strides: Sequence[int], box: Sequence[int], start: int = 0
) -> Boxes:
    """The view whose element (i, j, ...) is number start + i + j strides[1] + ... of the array.

    array: contiguous, of a GPU, 16-bit numbers. sizes, strides: two to four, the fastest first,
    in elements; box: as many, the first is 64. Raises KernelError for what TMA cannot do, and where
    an element within the sizes would lie outside the array.
    """
    view = Boxes(array, start, tuple(sizes), tuple(strides), tuple(box))
    if not (
        array.dtype.itemsize == 2
        and 2 <= len(sizes) == len(strides) == len(box) <= 4
        and strides[0] == 1
        and box[0] == ROW
        and all(1 <= n <= MOST for n in box)
        and min(sizes) >= 1
        and min(start, *strides) >= 0
        and not any(n % PIECE for n in (start, sizes[0], *strides[1:]))
        and start + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) < array.size
    ):
        raise KernelError(f"TMA cannot copy such boxes of {array.shape}: {view[1:]}")
    return view


def of_boxes(given: Any) -> Any:
    """The array behind an argument of a launch, or what else it is."""
    return given.array if isinstance(given, Boxes) else given


def replaced(given: Any, array: Any) -> Any:
    """The same argument with another array behind it."""
    return given._replace(array=array) if isinstance(given, Boxes) else array


def encoded(view: Boxes, address: int) -> np.ndarray:
    """The CUtensorMap of a view whose array lies at this address; KernelError if the driver cannot
    make it."""
    rank = len(view.sizes)
    wide, narrow = ctypes.c_uint64 * rank, ctypes.c_uint32 * rank
    room = np.zeros(128 + 64, np.uint8)
    first = -room.ctypes.data % 64  # the driver wants such an address
    code = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled(
        ctypes.c_void_p(room.ctypes.data + first),
        UINT16,
        ctypes.c_uint32(rank),
        ctypes.c_void_p(address + 2 * view.start),
        wide(*view.sizes),
        wide(*(2 * s for s in view.strides[1:])),
        narrow(*view.box),
        narrow(*[1] * rank),
        PLAIN,
        SWIZZLED,
        BY_256,
        ZEROS,
    )
    if code:
        raise KernelError(f"the driver makes no tensor map (CUDA error {code}) of {view[1:]}")
    return room[first : first + 128].copy().view("V128")  # CuPy passes one element by value
