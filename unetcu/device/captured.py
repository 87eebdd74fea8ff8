"""A function of arrays whose launches are captured once and replayed from then on.

On `cuda` a capture is a CUDA graph: one launch for a whole training step. On `simt` it is the list
of launches and copies, run in order, so that what is replayed is proved on any machine. Either
holds addresses and numbers as they were: so the arrays made in a capture lie in a block of memory
that lasts as long as it does, inputs are copied to fixed places, and what changes from call to call
is read from them, never from the host. A device has one block for all captures, as one runs at a
time; when one needs a larger block, the others are captured again when they are next called.

`aside` forks: launches inside may run at any time between there and the `join` (or the fork but
one after it), beside those of the main line. An array that they use keeps its place until the main
line has waited for them: they hold it, and memory is given to another array only when nobody does.
"""

import math
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DeviceError, KernelError
from .buffers import Spans

ROOM = 1 << 46  # bytes of address space: where nothing is placed, only measured
MOST = 8  # shapes of inputs whose captures are kept: those used last
BESIDE = 2  # forks that may be open at once: more would overlap little and hold much memory


def _nothing(*_: Any) -> None:
    """In place of a fork where nothing is captured."""


class Asides:
    """The book-keeping of `aside` and `join`. fork() and back() say that what follows is aside or
    on the main line again; back's result stands for the end of the fork, and merge(it) makes the
    main line wait for that."""

    def __init__(
        self,
        fork: Callable[[], None] = _nothing,
        back: Callable[[], Any] = _nothing,
        merge: Callable[[Any], None] = _nothing,
    ) -> None:
        self._fork, self._back, self._merge = fork, back, merge
        self._open: deque[tuple[Any, list[Any]]] = deque()
        self._held: list[Any] | None = None  # by the fork that we are inside

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is launched inside may run beside what follows."""
        self._join(BESIDE - 1)
        self._fork()
        held: list[Any] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            self._open.append((self._back(), held))

    def join(self) -> None:
        """What follows comes after all that runs aside."""
        self._join(0)

    def use(self, given: Iterable[Any]) -> None:
        """Something was launched with these: if aside, the arrays are held until the join."""
        if self._held is not None:
            self._held += given

    def _join(self, left: int) -> None:
        while len(self._open) > left:
            end, held = self._open.popleft()
            self._merge(end)
            held.clear()  # only now may their memory be used again


class Held:
    """Who has a place in the block; it is free again when the last view of the array is gone."""

    __slots__ = ("_given_back", "_span", "block")

    def __init__(self, block: Any, span: tuple[int, int], given_back: deque) -> None:
        self.block, self._span, self._given_back = block, span, given_back

    def __del__(self) -> None:
        self._given_back.append(self._span)


class Work:
    """One run of a captured function: where its arrays lie, and what it does aside.

    Without a block each array has memory of its own and it is only measured how large a block must
    be (`needs`), by the same rules: the next run will take the same places."""

    def __init__(self, where: Any, block: Any = None) -> None:
        self._where, self._block = where, block
        self._spans = Spans(ROOM if block is None else block.nbytes)
        captures = block is not None
        self.asides = Asides(where._fork, where._back, where._merge) if captures else Asides()
        self.outside: dict[int, Any] = {}  # arrays used that lie elsewhere: a replay needs them

    @property
    def needs(self) -> int:
        """Bytes of the block."""
        return max(self._spans.highest, 1)

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        """An array in the block."""
        size = max(math.prod(shape) * np.dtype(dtype).itemsize, 1)
        span = self._spans.take(size)
        if span is None:
            raise DeviceError(
                f"a capture needs more memory on {self._where.name} than the same work did before"
            )
        block, start = self._block, span[0]
        if block is None:
            block, start = self._where._empty((size,), np.uint8), 0
        held = Held(block, span, self._spans.given_back)
        return self._where._place(block, start, shape, dtype, held)

    def use(self, given: Iterable[Any]) -> None:
        """Something was launched with these."""
        arrays = [a for a in given if not isinstance(a, int | float | np.generic)]
        self.asides.use(arrays)
        if self._block is not None:
            first = self._where.address(self._block)
            for a in arrays:
                if not 0 <= self._where.address(a) - first < self._block.nbytes:
                    self.outside[id(a)] = a


class Inputs:
    """Arrays at fixed places, filled anew for each call."""

    def __init__(self, where: Any, given: dict[str, Any]) -> None:
        self._where = where
        self.arrays = {
            name: where.empty(a.shape, a.dtype.newbyteorder("=")) for name, a in given.items()
        }

    def fill(self, given: dict[str, Any]) -> None:
        """Copy arrays of the same names and shapes, of NumPy or of the device."""
        for name, a in given.items():
            self._where.copy(a, self.arrays[name])


class _Shape:
    """What there is for inputs of certain shapes: first how much memory they need, then inputs, a
    replay, and the array that it writes the result to."""

    needs = 0
    made: tuple[tuple[int, ...], Any]  # shape and type of the result
    block = 0  # the number of the block that was captured with
    inputs: Inputs | None = None
    result: Any
    replay: Callable[[], None]
    outside: dict[int, Any]
    launches: Counter[str]


class Captured:
    """function(**arrays) -> array, replayed. The arrays given are NumPy's or the device's.

    The first call with inputs of some shapes runs as if nothing were captured, and measures; the
    second captures; each further one copies the inputs and replays. So `function` must do the same
    launches each time, whatever the values. The result holds until the next call.
    """

    def __init__(self, where: Any, function: Callable[..., Any]) -> None:
        self._where, self._function = where, function
        self._shapes: dict[tuple, _Shape] = {}

    def __call__(self, **given: Any) -> Any:
        """The function's result, an array of the device."""
        where = self._where
        if not where.graphs or where.debug or where.work is not None:
            return self._plainly(given)
        key = tuple((name, tuple(a.shape), a.dtype.str) for name, a in given.items())
        shape = self._shapes.setdefault(key, _Shape())
        self._shapes[key] = self._shapes.pop(key)  # the newest is the last
        if len(self._shapes) > MOST:
            del self._shapes[next(iter(self._shapes))]
        if not shape.needs:
            work = Work(where)
            result = self._run(work, {name: where.put(a) for name, a in given.items()})
            shape.needs, shape.made = work.needs, (tuple(result.shape), result.dtype)
            return result
        if shape.inputs is None or shape.block != where.blocks:
            try:
                self._capture(shape, given)
            except (KernelError, DeviceError) as error:
                if not where.does_without_graphs:
                    raise
                self._shapes, where.graphs = {}, False
                print(f"note: {where.name} works without CUDA graphs: {error}", file=sys.stderr)
                return self._plainly(given)
        assert shape.inputs
        shape.inputs.fill(given)
        shape.replay()
        where.launches += shape.launches
        return shape.result

    def _plainly(self, given: dict[str, Any]) -> Any:
        return self._function(**{name: self._where.put(a) for name, a in given.items()})

    def _run(self, work: Work, arrays: dict[str, Any], to: Any = None) -> Any:
        self._where.work = work
        try:
            result = self._function(**arrays)
            work.asides.join()
            if to is not None:
                self._where.copy(result, to)
        finally:
            self._where.work = None
        return result

    def _capture(self, shape: _Shape, given: dict[str, Any]) -> None:
        where = self._where
        block = where.reserve(shape.needs)
        if shape.inputs is None:
            shape.inputs, shape.result = where._inputs(given), where.empty(*shape.made)
        work, before = Work(where, block), where.launches.copy()
        where._begin_capture()
        try:
            self._run(work, shape.inputs.arrays, to=shape.result)
        except BaseException:
            where._abandon_capture()
            raise
        finally:
            shape.launches = where.launches - before
            where.launches = before
        shape.replay, shape.outside, shape.block = where._end_capture(), work.outside, where.blocks
