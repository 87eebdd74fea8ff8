"""The CPU's worker threads, arranged so that their number can never change a result.

A library that splits one matrix product over its own threads splits it by their number, and
then one and two threads round differently. So we take the splitting over: an op cuts its work
into parts by its *shape* alone, the parts run on our threads with one BLAS thread each, and
sums over parts are added up in the order of the parts.
"""

import ctypes
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

import numpy as np

from .errors import UsageError

T = TypeVar("T")

_local = threading.local()
_count: int | None = None
_blas_lock = threading.Lock()
_blas_users = 0  # how many are inside one_blas_thread
_blas_before = 1

# The setter and getter of the thread count in the BLAS libraries that NumPy is built with.
_BLAS_CONTROLS = [
    ("scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"),
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads"),
    ("openblas_set_num_threads64_", "openblas_get_num_threads64_"),
    ("openblas_set_num_threads", "openblas_get_num_threads"),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
]


def count() -> int:
    """Threads of the CPU path and of simt: of set_count, else UNETCU_THREADS, else all cores."""
    if _count is not None:
        return _count
    asked = os.environ.get("UNETCU_THREADS")
    if asked is not None:
        return _checked(asked)
    if hasattr(os, "sched_getaffinity"):  # Linux: respects taskset and most containers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_count(threads: int) -> None:
    """Use this many threads from now on. Results do not depend on it, only time does."""
    global _count
    _count = _checked(threads)


def _checked(threads: int | str) -> int:
    try:
        n = int(threads)
    except ValueError:
        n = 0
    if not 1 <= n <= 1024:
        raise UsageError(f"the number of threads must be from 1 to 1024, got {threads!r}")
    return n


@functools.cache
def blas_control() -> tuple[Callable[[int], object], Callable[[], int]] | None:
    """(set, get) of the thread count of NumPy's BLAS, or None where it has no such switch."""
    module = getattr(np, "_core", None) or np.core
    try:  # looking a symbol up in NumPy's own module also searches the BLAS it is linked with
        library = ctypes.CDLL(module._multiarray_umath.__file__)
    except OSError:
        return None
    for setter, getter in _BLAS_CONTROLS:
        if hasattr(library, setter) and hasattr(library, getter):
            return getattr(library, setter), getattr(library, getter)
    return None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, a matrix product runs on the calling thread alone; afterwards as before.

    The switch is one for the whole process: the last to leave turns it back, so that two threads
    of a program that use the network at the same time cannot change each other's bits.
    """
    global _blas_users, _blas_before
    control = blas_control()
    if control is None:
        yield
        return
    with _blas_lock:
        if _blas_users == 0:
            _blas_before = control[1]()
            control[0](1)
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                control[0](_blas_before)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="unetcu")


def in_order(work: Callable[[int], T], parts: int) -> Iterator[T]:
    """work(0), work(1), ... of `parts` parts, computed side by side, handed out in order.

    At most threads + 1 results wait at a time, so memory stays bounded. A part must not call
    `in_order` itself.
    """
    threads = min(count(), parts)
    with one_blas_thread():
        if threads <= 1:
            yield from map(work, range(parts))
            return
        pool, waiting = _pool(threads), deque[Future[T]]()
        try:
            for part in range(parts):
                # In a copy of the caller's context: np.errstate reaches into the parts.
                waiting.append(pool.submit(copy_context().run, work, part))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an error in one part: no part may still be writing when we leave
            for future in waiting:
                if not future.cancel():
                    future.exception()


def each(work: Callable[[int], object], parts: int) -> None:
    """Call work(0) ... work(parts - 1) side by side and wait for all of them."""
    for _ in in_order(work, parts):
        pass


def scratch(key: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that this thread reuses for every call with the same key."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffers = _local.__dict__.setdefault("buffers", {})
    if key not in buffers or buffers[key].nbytes < size:
        buffers[key] = np.empty(size, np.uint8)
    return buffers[key][:size].view(dtype).reshape(shape)
