"""How much memory a piece of work takes, found out without doing it.

Ops ask their device for memory. So they run here on a device that hands out places as the real one
does (buffers.py), where nothing is written: the network, autograd and the optimizer are those that
will run, and what is found cannot drift away from what they do. Milliseconds, whatever the sizes.

Our compiled kernels also need working memory, of sizes that only they know. They do the first part
of each job, a small one, on address space with no memory behind it, and say what they asked for.
GPU kernels need none and are not launched. NumPy's copies are not seen: memory.py adds them.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import Device
from .buffers import HUGE, LEAST, Buffers, Spans
from .captured import Asides
from .cpu import Cpu
from .gpu import Gpu

ROOM = 1 << 38  # bytes of address space


def _nothing(*_: Any) -> float:
    return 0.0


class _Idle:
    """A module of kernels that do nothing."""

    def __getattr__(self, name: str) -> Any:
        return _nothing


class Piece(NamedTuple):
    """An array of the region: bytes, the op that asked for it, and its shape."""

    size: int
    op: str
    shape: tuple[int, ...]


class Rehearsal(Cpu):
    """Stands in for the device `of`; after work inside `with rehearsal.on():`, ask `needed`.

    by_numpy: it works without the compiled kernels. scratch: bytes of their working memory.
    most: bytes that were alive in the region at the worst moment, at which `moment` asked for more;
    alive: what they were. kept: what forward passes had left alive when the first backward began.
    """

    def __init__(self, of: Device) -> None:
        self.kind, self._of = of.kind, of
        self.scratch, self.most, self.moment = 0, 0, ""
        self.alive: list[Piece] = []
        self.kept = 0
        self._pieces: dict[int, Piece] = {}
        self._before: set[int] = set()
        self._asides = Asides()
        self._spans, self._lasting = Spans(ROOM), Spans(ROOM)
        self._native = of.native(np.float32) if isinstance(of, Cpu) else None
        self.by_numpy = self.kind == "cpu" and self._native is None
        if self._native is not None:
            try:
                self._spans, self._lasting = Buffers(ROOM, False), Buffers(ROOM, False)
            except (OSError, ValueError):  # no address space: then without the working memory
                self._native = None

    @contextmanager
    def on(self) -> Iterator[None]:
        """Work on this device is rehearsed inside; of this thread alone."""
        if self._native is None:
            yield
            return
        self._native.rehearse(True)
        try:
            yield
        finally:
            self.scratch = max(self.scratch, self._native.rehearse(False))

    @property
    def region(self) -> int:
        """Bytes of the region that are used: the `highest` of the real one."""
        return self._spans.highest

    @property
    def needed(self) -> int:
        """Bytes that all of it takes; a region's last large page counts as a whole."""
        return -(-self.region // HUGE) * HUGE + self._lasting.highest + self.scratch

    def native(self, dtype: DTypeLike) -> Any:  # noqa: ARG002
        """Without the compiled module, what takes its place does nothing at all."""
        return self._native or _Idle()

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array to ask for its shape: what is in it, nobody should care."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize * math.prod(shape)
        array = self._spans.empty(shape, dtype) if size >= LEAST else None
        if array is None:
            return np.zeros(shape, dtype)
        taken = self._spans.taken
        start, size = next(reversed(taken.items()))
        piece = self._pieces[start] = Piece(size, _asking(), tuple(shape))
        mine = [self._pieces[start] for start in taken if start not in self._before]
        now = sum(piece.size for piece in mine)
        if not self.kept and piece.op.endswith(", backward"):
            self.kept = now - size
        if now > self.most:
            self.most, self.moment, self.alive = now, piece.op, mine
        return array

    def begin(self) -> None:
        """What lies in the region now is not counted in `most`, `alive` and `kept`."""
        self._before, self.most = set(self._spans.taken), 0

    def zeros(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
        """Outside the region, as on a CPU: what lives as long as the network or the optimizer."""
        array = self._lasting.empty(shape, np.dtype(dtype))
        return np.zeros(shape, dtype) if array is None else array

    def put(self, array: np.ndarray) -> np.ndarray:
        """The place of a copy; so are labels and steps zeros, or anything."""
        return self.empty(array.shape, array.dtype)

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """Nothing."""

    def each(self, stem: str, entry: str, count: int, *args: Any) -> None:  # noqa: ARG002
        """Nothing, where ops would launch a kernel."""
        self._asides.use(args)

    def launch(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        """Nothing, where ops would launch a kernel."""
        self._asides.use(args)

    def admits(self, unit: str) -> bool:
        """As on the device."""
        return isinstance(self._of, Gpu) and self._of.admits(unit)

    def aside(self) -> AbstractContextManager[None]:
        """As on a GPU, which holds the arrays that are used inside."""
        return self._asides.aside()

    def join(self) -> None:
        """As on a GPU."""
        self._asides.join()


PHASES = ("forward_cpu", "backward_cpu", "forward_gpu", "backward_gpu")


def _asking() -> str:
    """The op that asks for memory, as "Conv3x3 up1.conv1, backward"; outside of ops, the batch."""
    frame, op, phase = sys._getframe(2), None, ""
    while frame is not None:
        if frame.f_code.co_name in (*PHASES, "again") and "self" in frame.f_locals:
            op = op or frame.f_locals["self"]
            phase = frame.f_code.co_name if frame.f_code.co_name in PHASES else phase
        frame = frame.f_back  # type: ignore[assignment]
    return f"{op.name} {_place(op)}, {phase[:-4]}" if op is not None else "the batch"


def _place(op: Any) -> str:
    """The layer that an op belongs to, or behind which it comes: what its weights are called."""
    sources, behind = getattr(op, "sources", ()), ""
    while sources:
        named = [getattr(s, "name", "") for s in sources[1:]]
        layer = next((name.removesuffix(".w") for name in named if name.endswith(".w")), None)
        if layer is not None:
            return behind + layer
        sources, behind = getattr(sources[0], "sources", ()), "behind "
    return "at the input"
