"""What the cuda device does in more than one stream: captures, and copies from and to the host.

Nothing but these uses a stream of its own. Everything else, replays included, goes to CuPy's
current stream, and is done in the order in which it was asked for.
"""

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import numpy as np

from .captured import Inputs
from .cpu import Fetched

APART = 256  # bytes: each input starts at a multiple of so many


class Capture:
    """A capture into a CUDA graph, with a second stream for what runs aside. `stream`: the one that
    work goes to now. What a stream is to wait for, an event in the other one, becomes an edge of
    the graph."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._main, self._side = (cuda.Stream(non_blocking=True) for _ in range(2))
        self._main.begin_capture()
        self.stream = self._main

    def _now(self, stream: Any) -> Any:
        event = self._cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def fork(self) -> None:
        """What follows goes aside, after all of the main line so far."""
        self._side.wait_event(self._now(self._main))
        self.stream = self._side

    def back(self) -> Any:
        """What follows goes on the main line; returns the end of what went aside."""
        self.stream = self._main
        return self._now(self._side)

    def merge(self, end: Any) -> None:
        """The main line waits for an end."""
        self._main.wait_event(end)

    def end(self) -> Any:
        """The graph."""
        return self._main.end_capture()


class Pinned:
    """Memory of the host that the GPU copies from and to by itself. `busy` is the event behind the
    last such copy: it is not given back before."""

    def __init__(self, cuda: Any, size: int) -> None:
        self._memory, self.busy = cuda.alloc_pinned_memory(size), cuda.Event(disable_timing=True)
        self.bytes = np.frombuffer(self._memory, np.uint8, size)
        self.pointer = ctypes.c_void_p(self.bytes.ctypes.data)

    def __del__(self) -> None:
        with suppress(Exception):  # whoever needs the copy is told of what went wrong
            self.busy.synchronize()


class OnTheWay(Fetched):
    """Values being copied to the host. within(): where the driver's errors become ours."""

    def __init__(
        self, cuda: Any, array: Any, within: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._within = within
        self._pinned = Pinned(cuda, array.nbytes)
        array.data.copy_to_host_async(self._pinned.pointer, array.nbytes)
        self._pinned.busy.record()
        self._kind = array.dtype, tuple(array.shape)

    def numpy(self) -> np.ndarray:
        """The values; waits until they are there."""
        with self._within():
            self._pinned.busy.synchronize()
        dtype, shape = self._kind
        return self._pinned.bytes.view(dtype).reshape(shape).copy()


class _Slot(NamedTuple):
    """pinned is copied to staged, and that, when its turn has come, to the fixed places."""

    pinned: Pinned
    staged: Any
    used: Any  # event: staged may be written to again


class StagedInputs(Inputs):
    """Inputs that come from the host on a stream of their own, while the GPU works on those before.

    There are two slots, used in turn. The fixed arrays lie behind each other, so that one copy
    brings them all. Inputs that are on the GPU already are copied there, in turn.
    """

    def __init__(self, where: Any, given: dict[str, Any]) -> None:
        cuda = where._cupy.cuda
        self._cuda, self._stream, self._turn = cuda, cuda.Stream(non_blocking=True), 0
        super().__init__(where, {name: a for name, a in given.items() if where.owns(a)})
        given = {name: a for name, a in given.items() if not where.owns(a)}
        starts = np.cumsum([0, *(-(-a.nbytes // APART) * APART for a in given.values())]).tolist()
        self._starts, size = dict(zip(given, starts, strict=False)), max(starts[-1], 1)
        self._fixed = where.empty((size,), np.uint8)
        for name, a in given.items():
            place = self._fixed, self._starts[name], a.shape, a.dtype.newbyteorder("=")
            self.arrays[name] = where._place(*place, self._fixed)
        self._slots = [
            _Slot(
                Pinned(cuda, size),
                where.empty((size,), np.uint8),
                cuda.Event(disable_timing=True),
            )
            for _ in range(2)
        ]
        for slot in self._slots:  # whoever had its memory before may still be at work
            slot.used.record()

    def fill(self, given: dict[str, Any]) -> None:
        """Does not wait for the GPU, unless it is two calls behind."""
        staged = {n: a for n, a in given.items() if n in self._starts and not self._where.owns(a)}
        if staged:
            with self._where._here():
                self._from_host(staged)
        super().fill({name: a for name, a in given.items() if name not in staged})

    def _from_host(self, given: dict[str, np.ndarray]) -> None:
        slot, self._turn = self._slots[self._turn], 1 - self._turn
        slot.pinned.busy.synchronize()
        for name, a in given.items():
            start = self._starts[name]
            there = slot.pinned.bytes[start : start + a.nbytes].view(self.arrays[name].dtype)
            np.copyto(there.reshape(a.shape), a)
        current, size = self._cuda.get_current_stream(), self._fixed.nbytes
        self._stream.wait_event(slot.used)
        slot.staged.data.copy_from_host_async(slot.pinned.pointer, size, self._stream)
        slot.pinned.busy.record(self._stream)
        current.wait_event(slot.pinned.busy)
        self._fixed.data.copy_from_device_async(slot.staged.data, size)
        slot.used.record(current)
