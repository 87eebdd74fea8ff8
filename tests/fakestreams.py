"""A stand-in for CuPy whose work is done as late as CUDA allows: streams, events and graphs.

Nothing runs when it is asked for. Waiting for an event runs what must come before it, and nothing
else; so work that was not ordered after what it needs, or whose memory is written to too early,
gives wrong numbers. Kernels are run by the SIMT runtime.
"""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from fakecuda import Current, Driver, FakeArray, FakeCudaError, fake_cupy

from unetcu.device import cuda
from unetcu.device.gpu import Call
from unetcu.device.simt import Simt, SimtArray


class World:
    """What has happened on the card. refuses: "begin" or "end", and captures fail there."""

    def __init__(self):
        self.log, self.capture, self.refuses = [], [], None
        self.memory = []  # all that was ever allocated: addresses stay valid
        self.streams = {}
        self.null = Stream(self, "null")
        self.current, self.count = [self.null], 0

    def now(self):
        return self.current[-1]


class Stream:
    """Work waits in a list; `done` pieces of it have been run."""

    def __init__(self, world, name):
        self.world, self.name, self.work, self.done = world, name, [], 0
        world.streams[name] = self

    def __enter__(self):
        self.world.current.append(self)

    def __exit__(self, *_):
        self.world.current.pop()

    def add(self, what, piece):
        self.world.log.append(f"{self.name}: {what}")
        self.work.append(piece)

    def reach(self, count):
        while self.done < count:
            self.done += 1
            self.work[self.done - 1]()

    def synchronize(self):
        if self in self.world.capture:
            raise FakeCudaError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: it is captured")
        self.reach(len(self.work))

    def wait_event(self, event):
        if event.place is None:
            return
        stream, count = event.place
        if stream in self.world.capture and self not in self.world.capture:
            self.world.capture.append(self)
        self.add(f"wait for {stream.name}", lambda: stream.reach(count))

    def begin_capture(self):
        if self.world.refuses == "begin":
            raise FakeCudaError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: no")
        assert not self.work
        self.world.log.append(f"{self.name}: begin capture")
        self.world.capture = [self]

    def end_capture(self):
        self.world.log.append(f"{self.name}: end capture")
        streams, self.world.capture = self.world.capture, []
        if self.world.refuses == "end":
            raise FakeCudaError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: no")
        return Graph(self.world, streams)


class Graph:
    def __init__(self, world, streams):
        self.world, self.streams = world, streams

    def launch(self):
        self.world.now().add("graph", self._run)

    def _run(self):
        for stream in self.streams:
            stream.done = 0
        self.streams[0].reach(len(self.streams[0].work))
        assert all(s.done == len(s.work) for s in self.streams), "work that nobody waited for"


class Event:
    def __init__(self, world):
        self.world, self.place = world, None

    def record(self, stream=None):
        stream = stream or self.world.now()
        self.place = stream, len(stream.work)

    def synchronize(self):
        if self.place:
            stream, count = self.place
            self.world.log.append(f"host: wait for {stream.name}")
            assert stream not in self.world.capture
            stream.reach(count)


class Raw:
    """Memory at an address; `held` lives as long as an array in it."""

    def __init__(self, address, shape, dtype, held=None):
        self.held = held
        self.__array_interface__ = {
            "data": (address, False), "shape": tuple(shape), "typestr": np.dtype(dtype).str,
            "version": 3,
        }  # fmt: skip


def raw(address, shape, dtype=np.uint8):
    return np.asarray(Raw(address, shape, dtype))


class Pointer:
    """cupy.cuda.MemoryPointer; work on it goes to a stream."""

    def __init__(self, memory, offset):
        self.memory, self.ptr, self.world = memory, memory.ptr + offset, memory.world

    def _copy(self, what, stream, to, of, size):
        (stream or self.world.now()).add(
            what, lambda: np.copyto(raw(to, (size,)), raw(of, (size,)))
        )

    def copy_from_device_async(self, source, size, stream=None):
        self._copy("device to device", stream, self.ptr, source.ptr, size)

    def copy_from_host_async(self, pointer, size, stream=None):
        self._copy("host to device", stream, self.ptr, pointer.value, size)

    def copy_to_host_async(self, pointer, size, stream=None):
        self._copy("device to host", stream, pointer.value, self.ptr, size)


class Array(FakeArray):
    """cupy.ndarray"""

    world = None

    def __new__(cls, shape, dtype, memptr):
        return np.asarray(Raw(memptr.ptr, shape, dtype, memptr)).view(cls)

    @property
    def data(self):
        memory = types.SimpleNamespace(ptr=self.ctypes.data, world=self.world)
        return Pointer(memory, 0)

    def get(self):
        self.world.now().synchronize()
        return np.array(self.view(np.ndarray))

    def set(self, values):
        if self.world.now() in self.world.capture:
            raise FakeCudaError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: it is captured")
        values, to = values.copy(), raw(self.ctypes.data, self.shape, self.dtype)
        self.world.now().add("host to device", lambda: np.copyto(to, values))


def late_cupy(world):
    """A module with what the cuda device uses of CuPy."""
    simt = Simt()

    class Function:
        max_dynamic_shared_size_bytes = None

        def __init__(self, unit, entry):
            self.unit, self.entry = unit, entry

        def __call__(self, grid, block, args, *, shared_mem):
            given = [
                raw(a.ctypes.data, a.shape, a.dtype).view(SimtArray) if isinstance(a, Array) else a
                for a in args
            ]
            call = Call(self.unit, self.entry, grid, block, given, shared_mem)
            world.now().add(self.entry, lambda: simt._start(call))

    class RawModule:
        def __init__(self, *, path):
            self.unit = Path(path).name.removesuffix(".cu")

        def get_function(self, entry):
            return Function(self.unit, entry)

    class Unowned:
        def __init__(self, ptr, size, owner, device):
            assert device == 0
            self.ptr, self.size, self.owner, self.world = ptr, size, owner, world

    def stream(non_blocking):
        assert non_blocking  # others would wait for the null stream
        world.count += 1
        return Stream(world, f"stream {world.count}")

    def event(disable_timing):
        assert disable_timing
        return Event(world)

    def empty(shape, dtype):
        memory = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize + 1, 255, np.uint8)
        world.memory.append(memory)
        place = types.SimpleNamespace(ptr=memory.ctypes.data, world=world)
        return Array(shape, dtype, Pointer(place, 0))

    def pinned(size):
        world.memory.append(np.full(size, 255, np.uint8))
        return world.memory[-1]

    module = fake_cupy([])
    Array.world, module.ndarray, module.empty, module.RawModule = world, Array, empty, RawModule
    pool = types.SimpleNamespace(free_all_blocks=lambda: world.log.append("host: trim"))
    module.get_default_memory_pool = lambda: pool
    made = {"Stream": stream, "Event": event, "UnownedMemory": Unowned, "MemoryPointer": Pointer}
    made |= {"alloc_pinned_memory": pinned, "get_current_stream": world.now}
    vars(module.cuda).update(made)
    return module


@pytest.fixture
def world(driver, monkeypatch):
    """A machine with one such GPU; Cuda() is it."""
    driver(Driver())
    made = World()
    monkeypatch.setitem(sys.modules, "cupy", late_cupy(made))
    monkeypatch.setattr(Current, "now", [0])
    monkeypatch.setattr(Current, "synchronize", lambda self: made.null.synchronize())
    monkeypatch.setattr(cuda.nvrtc, "architecture_for", lambda capability: "sm_90")
    monkeypatch.setattr(cuda.nvrtc, "cubin", lambda text, name, arch: Path(name))
    return made
