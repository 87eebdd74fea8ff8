"""What the devices of kind "gpu" share: `cuda` and `simt` run the same kernels with the same
launches, so a machine without a GPU tests the launch code too.

Every launch is checked against the signature in the .cu file. With UNETCU_DEBUG=1 each launch is
waited for and looked over for NaN; an error then names the op and the line that called it.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..errors import KernelError
from ..kernel import MAP
from .arguments import (
    BLOCK_LIMITS,
    GRID_LIMITS,
    check_array,
    dimensions,
    number,
    signature,
    unit_for,
)
from .boxes import of_boxes
from .captured import Captured, Inputs, Work
from .cpu import Fetched, portable
from .nan import look

BLOCK = 256  # threads a block where each element has one thread
SHARED_LIMIT = 227 * 1024  # bytes a block; what a card really has is less on older ones


class Call(NamedTuple):
    """One launch that has been checked: the unit (kernel.py) and its entry point, blocks, threads a
    block, arguments as the C function wants them, and bytes of dynamic shared memory."""

    unit: str
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: list[Any]
    shared: int


class Gpu:
    """Allocation and launching; a subclass says where arrays live and how a kernel is started."""

    kind = "gpu"
    name: str
    does_without_graphs = False  # where a capture fails, a note is enough
    usual = "fp32"  # the precision (precision.py) of a network that is not told one
    memory: int | None = None  # bytes of the GPU's memory, used or not; None: not known

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()  # entry point -> how often
        self.debug = os.environ.get("UNETCU_DEBUG", "") not in ("", "0")
        self.graphs = os.environ.get("UNETCU_GRAPH") != "0"  # captured functions are replayed
        self.work: Work | None = None  # the run of a captured function that goes on
        self._block: Any = None  # the memory of captures
        self.blocks = 0  # how many of these there have been

    # What a subclass provides.
    def describe(self) -> str:
        """One line: what does the work."""
        raise NotImplementedError

    def put(self, array: np.ndarray) -> Any:
        """A copy on this device of a NumPy array or of an array already here."""
        raise NotImplementedError

    def get(self, array: Any) -> np.ndarray:
        """A NumPy array of the values; waits for the device."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until all launches are done."""
        raise NotImplementedError

    def _empty(self, shape: Sequence[int], dtype: DTypeLike) -> Any:
        """An uninitialised array in memory of its own."""
        raise NotImplementedError

    def _place(
        self, block: Any, start: int, shape: Sequence[int], dtype: DTypeLike, owner: Any
    ) -> Any:
        """An array in the memory of `block`, from byte `start` on; it keeps `owner` alive."""
        raise NotImplementedError

    def _copy(self, source: Any, target: Any) -> None:
        """target[...] = source: alike, contiguous; source is NumPy's or lives here."""
        raise NotImplementedError

    def owns(self, array: Any) -> bool:
        """Whether this is an array of this device."""
        raise NotImplementedError

    def address(self, array: Any) -> int:
        """Of its first byte."""
        raise NotImplementedError

    def admits(self, unit: str) -> bool:  # noqa: ARG002
        """Whether there are the instructions that a unit needs (kernel.needs)."""
        return True

    def _start(self, call: Call) -> None:
        raise NotImplementedError

    def _submit(self, call: Call) -> None:
        """Start it, or take it into the capture that goes on."""
        self._start(call)

    # What captures need of a subclass, which says more about each.
    def _begin_capture(self) -> None:
        raise NotImplementedError

    def _end_capture(self) -> Callable[[], None]:
        raise NotImplementedError

    def _abandon_capture(self) -> None:
        raise NotImplementedError

    def _fork(self) -> None:
        raise NotImplementedError

    def _back(self) -> Any:
        raise NotImplementedError

    def _merge(self, end: Any) -> None:
        raise NotImplementedError

    def _inputs(self, given: dict[str, Any]) -> Inputs:
        return Inputs(self, given)

    def _trim(self) -> None:
        """Before much memory is asked for: give back what nobody uses."""

    # What the rest of the package uses.
    def captured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, of arrays given by name, captured when it is called again (captured.py)."""
        return Captured(self, function)

    def reserve(self, size: int) -> Any:
        """The memory of captures, of `size` bytes at least; a new one makes `blocks` grow."""
        if self._block is None or self._block.nbytes < size:
            self._block = None
            self._trim()
            self._block, self.blocks = self.empty((size,), np.uint8), self.blocks + 1
        return self._block

    def aside(self) -> AbstractContextManager[None]:
        """Launches inside may run beside those that follow, up to `join`: no one may use what they
        write before that."""
        return nullcontext() if self.work is None else self.work.asides.aside()

    def join(self) -> None:
        """What follows comes after all that was launched aside."""
        if self.work is not None:
            self.work.asides.join()

    def fetch(self, array: Any) -> Fetched:
        """The values, on their way to the host while the device works on."""
        return Fetched(np.array(self.get(array)))

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> Any:
        """An uninitialised array, C-contiguous."""
        return (self.work.empty if self.work else self._empty)(shape, dtype)

    def full(self, shape: Sequence[int], value: float, dtype: DTypeLike = np.float32) -> Any:
        """An array of one value (float32, float64, int32, uint32 or uint8)."""
        array = self.empty(shape, dtype)
        self.each("fill", f"fill_{np.dtype(dtype).name}", array.size, array, value, array.size)
        return array

    def zeros(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> Any:
        """An array of zeros."""
        return self.full(shape, 0, dtype)

    def copy(self, source: Any, target: Any) -> None:
        """target[...] = source: of this device and alike, or NumPy's, which is converted."""
        if not target.flags.c_contiguous:
            raise KernelError("only contiguous arrays are copied to")
        if self.owns(source):
            alike = source.shape == target.shape and source.dtype == target.dtype
            if not alike or not source.flags.c_contiguous:
                raise KernelError(
                    f"{source.dtype} {source.shape} is copied to {target.dtype} {target.shape}: "
                    "on a GPU both must be alike, and contiguous"
                )
        elif not isinstance(source, np.ndarray | np.generic):
            raise KernelError(f"{type(source).__name__} is no array of {self.name} nor of NumPy")
        elif not np.can_cast(source.dtype, target.dtype, "same_kind"):
            raise KernelError(f"{source.dtype} cannot be copied to {target.dtype}")
        else:
            source = portable(np.broadcast_to(source, target.shape).astype(target.dtype))
        if self.work is not None:
            self.work.use(a for a in (source, target) if self.owns(a))
        self._copy(source, target)

    def add(self, a: Any, b: Any) -> Any:
        """a + b: how gradients are summed where a tensor was used more than once."""
        y = self.empty(a.shape, a.dtype)
        self.each("elementwise", "elementwise_add", y.size, a, b, y, y.size, b.size)
        return y

    def each(self, stem: str, entry: str, count: int, *args: Any) -> None:
        """Launch with one thread for each of `count` elements; nothing to do for none."""
        if count:
            self.launch(stem, entry, -(-count // BLOCK), BLOCK, *args)

    def launch(
        self,
        stem: str,
        entry: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        *args: Any,
        shared: int = 0,
    ) -> None:
        """Run the entry point `entry` of kernels/<stem>.cu; does not wait for it.

        stem: or "STEM:FORMAT"; otherwise the format is that of the arrays. grid: blocks, block:
        threads a block, each of up to three dimensions. args: arrays of this device and Python
        numbers, as the C signature says. shared: bytes of dynamic shared memory.
        Raises KernelError for whatever does not fit.
        """
        grids = dimensions(entry, "grid", grid, GRID_LIMITS)
        blocks = dimensions(entry, "block", block, BLOCK_LIMITS, 1024)
        if not 0 <= shared <= SHARED_LIMIT:
            raise KernelError(f"{entry}: {shared} bytes of shared memory; at most {SHARED_LIMIT}")
        unit = stem if ":" in stem else unit_for(stem, entry, args)
        parameters = signature(unit, entry)
        ready = self._checked(unit, entry, args)
        self.launches[entry] += 1
        if self.debug:
            look(self, entry, parameters, ready, before=True)
        if self.work is not None:
            self.work.use(of_boxes(a) for a in ready)
        self._submit(Call(unit, entry, grids, blocks, ready, shared))
        if self.debug:
            self.synchronize()
            look(self, entry, parameters, ready, before=False)

    def _checked(self, unit: str, entry: str, args: tuple) -> list[Any]:
        """The arguments as the C function wants them."""
        parameters = signature(unit, entry)
        if len(args) != len(parameters):
            takes = f"{len(parameters)} arguments ({', '.join(p.name for p in parameters)})"
            raise KernelError(f"{entry} takes {takes}, got {len(args)}")
        ready = []
        for p, a in zip(parameters, args, strict=True):
            if p.pointer or p.dtype == MAP:
                check_array(self, unit, f"{entry}: {p.name}", p, a)
                ready.append(a)
            else:
                ready.append(number(entry, p, a))
        return ready
