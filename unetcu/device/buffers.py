"""Memory for the CPU's arrays, handed out again and again.

A training step makes and drops a hundred arrays of many megabytes. The system's allocator gives
such pieces back to the kernel at once, which clears them page by page when they are next touched:
a tenth of a step. Here they lie in one region of memory that the process keeps. An array takes the
smallest hole it fits in, and its piece becomes a hole again when the last view of it is gone; holes
that touch are one. The network's ops allocate in the same order in every step, mostly last in,
first out, so that the region grows to little more than what is alive at the worst moment.

All of this follows from sizes alone, so it can be done without the memory: `Spans` (rehearsal.py).
"""

import math
import mmap
import os
import sys
import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

PAGE = 4096
HUGE = 1 << 21  # bytes of a large page: where the system has them, memory is taken by so many
LEAST = 1 << 16  # bytes: smaller arrays cost the system's allocator nothing


class Piece:
    """What an array of the region is a view of. When it dies, its memory is free again."""

    __slots__ = ("__array_interface__", "_given_back", "_span")

    def __init__(
        self, interface: dict[str, Any], span: tuple[int, int], given_back: deque[tuple[int, int]]
    ) -> None:
        self.__array_interface__, self._span, self._given_back = interface, span, given_back

    def __del__(self) -> None:
        self._given_back.append(self._span)  # no lock: this may run anywhere, at any time


class Spans:
    """What lies where in a region of `size` bytes: the book-keeping, without the memory.

    The numbers of its arrays are all the same one: they are for asking for their shapes."""

    _real = False

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self.given_back: deque[tuple[int, int]] = deque()  # of spans: they are holes again
        self._size = size
        self._holes = [(0, size)]  # (start, end), by start; no two touch
        self._number = np.zeros(1, np.float64)
        self._address = self._number.ctypes.data
        self.highest = 0  # bytes of the region ever used
        self.taken: dict[int, int] = {}  # start -> bytes of each piece, the newest last

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
        """An uninitialised array (of more than nothing), or None where no hole is large enough."""
        span = self.take(math.prod(shape) * dtype.itemsize)
        if span is None:
            return None
        interface = {
            "data": (self._address + span[0] * self._real, False),
            "strides": None if self._real else (0,) * len(shape),
            "shape": tuple(shape),
            "typestr": dtype.str,
            "version": 3,
        }
        return np.asarray(Piece(interface, span, self.given_back))

    def take(self, size: int) -> tuple[int, int] | None:
        """(start, end) of the smallest hole of so many bytes, in whole pages; None if all are
        smaller. The last hole is taken last: so places do not depend on how large the region is.
        Whoever has it appends it to `given_back`."""
        size = -(-size // PAGE) * PAGE
        with self._lock:
            while self.given_back:
                self._put_back(*self.given_back.popleft())
            holes = ((end == self._size, end - start, start) for start, end in self._holes)
            fitting = [hole for hole in holes if hole[1] >= size]
            if not fitting:
                return None
            _, room, start = min(fitting)
            at = bisect_left(self._holes, (start, 0))
            end = start + size
            self._holes[at : at + 1] = [(end, start + room)] if room > size else []
            self.highest = max(self.highest, end)
            self.taken[start] = size
            return start, end

    def _put_back(self, start: int, end: int) -> None:
        del self.taken[start]
        at = bisect_left(self._holes, (start, end))
        if at < len(self._holes) and self._holes[at][0] == end:
            end = self._holes.pop(at)[1]
        if at and self._holes[at - 1][1] == start:
            start = self._holes.pop(at - 1)[0]
        insort(self._holes, (start, end))


class Buffers(Spans):
    """A region of at most `size` bytes of address space; memory only where it was used."""

    _real = True

    def __init__(self, size: int, used: bool = True) -> None:
        """Raises OSError or ValueError where the system refuses the address space.

        used: will most of it be written to? Then it gets fewer, larger pages, as NumPy's does."""
        super().__init__(size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self._map = mmap.mmap(-1, size + HUGE, flags=flags)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE if used else mmap.MADV_NOHUGEPAGE)
        self._address = -(-np.frombuffer(self._map, np.uint8).ctypes.data // HUGE) * HUGE


def region() -> Buffers | None:
    """A region as large as the machine's memory, or None where there can be none."""
    if sys.platform == "win32":  # there, address space must be backed by the page file
        return None
    try:
        return Buffers(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // PAGE * PAGE)
    except (OSError, ValueError):
        return None
