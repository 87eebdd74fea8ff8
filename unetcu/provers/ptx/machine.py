"""A machine that runs PTX, what NVRTC makes of a kernel, with NumPy: for tiny shapes.

The SIMT runtime runs the .cu files themselves and has a C++ body for every instruction of ptx.cuh,
so it cannot see a wrong operand in inline assembly, nor what the compiler made of the rest. This
does. A register is an array with one number per thread of the whole grid. Threads step by the
lowest program counter, so that diverged ones meet again; barriers and instructions of warps and
warpgroups hold threads until those that they wait for have come. What works in the background does
so as late as it may.

Refused: local memory, calls, atomics, and whatever our kernels have no use for. Reported, with the
line of the PTX and of the .cu: accesses outside an array, misaligned, or of bytes that nobody
wrote; barriers that not all threads reach; whatever is needed by copies or products under way.
"""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from ...device.boxes import Boxes
from . import hopper
from .calls import kernels
from .memory import SHARED, Fault, Global, Memory, Shared
from .ops import OPS
from .registers import Registers
from .text import Entry, Instruction, PtxError
from .tma import MAPS
from .warp import WARP_OPS

__all__ = ["PtxError", "PtxModule"]

AT_ONCE = 1 << 15  # threads that run together; more blocks than that come one group after another
MOST_STEPS = 2_000_000  # instructions; then a kernel is taken not to end
HANDLERS = {**OPS, **WARP_OPS, **hopper.HOPPER_OPS}


class PtxModule:
    """The kernels of one PTX text (as compiled with -lineinfo), ready to be run."""

    def __init__(self, text: str) -> None:
        self.kernels, self._tables = kernels(text)

    def launch(
        self,
        entry: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        shared: int = 0,
    ) -> None:
        """Run a kernel, as the SIMT runtime would: arrays are written to in place.

        grid, block: up to three sizes; args: C-contiguous NumPy arrays for pointers, Boxes for
        tensor maps, NumPy scalars for the rest; shared: bytes of dynamic shared memory. A read-only
        array may not be written to. In arrays of floats, elements with all bits set count as never
        written: so does `empty` of the simt device leave them. Raises PtxError.
        """
        kernel = self.kernels.get(entry)
        if kernel is None:
            raise PtxError(f"the PTX has no kernel {entry}; it has {', '.join(self.kernels)}")
        grids, blocks = (tuple(map(int, (*sizes, 1, 1)[:3])) for sizes in (grid, block))
        _check(kernel, blocks, args)
        given = [a.array if isinstance(a, Boxes) else a for a in args]
        arrays = _distinct([a for a in given if isinstance(a, np.ndarray)], entry)
        memory = Global(arrays, [t.values for t in self._tables])
        params: dict[str, bytes] = {}
        maps: dict[int, Boxes] = {}
        symbols = {n: SHARED + at for n, at in kernel.shared.items()}
        for (name, size), a, b in zip(kernel.params, args, given, strict=True):
            if not isinstance(b, np.ndarray):
                params[name] = a.tobytes()
                continue
            same = (i for i, c in enumerate(arrays) if _place(b) == _place(c))
            address = memory.address(next(same))
            if isinstance(a, Boxes):
                symbols[name] = MAPS + size * len(maps)
                maps[symbols[name]] = a._replace(array=address)
            else:
                params[name] = address.to_bytes(8, "little")
        symbols |= {t.name: memory.address(len(arrays) + i) for i, t in enumerate(self._tables)}
        count, threads = math.prod(grids), math.prod(blocks)
        group = max(1, AT_ONCE // threads)
        try:
            with np.errstate(all="ignore"):
                for first in range(0, count, group):
                    machine = Machine(kernel, params, symbols, memory, grids, blocks)
                    machine.maps = maps
                    machine.run(np.arange(first, min(first + group, count)), shared)
        finally:
            memory.give_back()


class Machine(Registers):
    """The threads of some blocks of one launch."""

    maps: dict[int, Boxes]  # by their addresses; `array` is the address of the array
    give_way: bool

    def __init__(
        self,
        kernel: Entry,
        params: dict[str, bytes],
        symbols: dict[str, int],
        memory: Global,
        grid: tuple[int, ...],
        block: tuple[int, ...],
    ) -> None:
        super().__init__(kernel.bits, params, symbols)
        self.kernel, self.grid, self.block = kernel, grid, block
        self.spaces: dict[str, Memory] = {"global": memory, "const": memory}

    def run(self, blocks: np.ndarray, dynamic: int) -> None:
        """All threads of these blocks, to their ends."""
        self.threads = math.prod(self.block)
        self.count = self.threads * blocks.size
        self.owner = np.repeat(np.arange(blocks.size), self.threads)
        self.thread = np.tile(np.arange(self.threads), blocks.size)
        self.number = np.repeat(blocks, self.threads)
        self.spaces["shared"] = Shared(blocks.size, self.kernel.static + dynamic)
        self.place(self.thread, self.number, self.block, self.grid)
        self.pc = np.zeros(self.count, np.int64)
        self.copies: list[list[np.ndarray]] = []  # cp.async: lanes, groups, indices, bytes
        self.groups = np.zeros(self.count, np.int64)
        hopper.begin(self)
        self._steps = self._moves = 0
        self._parked = np.zeros(self.count, bool)
        end, tried = len(self.kernel.code), -1
        while (alive := self.alive).any():
            free = alive & ~self._parked
            if not free.any():  # all may ask once more, and again if one could go on
                if self._moves == tried:
                    self._stuck()
                free, tried = alive, self._moves
                self._parked[:] = False
            now = int(self.pc[free].min())
            lanes = alive & (self.pc == now)  # with those that waited here for the others
            self._parked &= ~lanes
            self._parked |= self._forward(now, lanes, end)
        try:
            hopper.end(self)
        except Fault as fault:
            self.fail(0, fault.what)

    @property
    def alive(self) -> np.ndarray:
        """Which threads have not ended."""
        return self.pc < len(self.kernel.code)

    def _forward(self, now: int, lanes: np.ndarray, end: int) -> np.ndarray:
        """Run `lanes` on from `now` until a branch, or until others are met; who must wait."""
        code, waiting = self.kernel.code, np.zeros(self.count, bool)
        others = self.pc[~lanes]
        stop = int(min(others[others > now], default=end))
        while True:
            self.instruction = step = code[now]
            self._steps += 1
            if self._steps > MOST_STEPS:
                self.fail(int(np.argmax(lanes)), "the kernel does not end")
            acting = lanes
            if step.guard:
                guard = self.read(step.guard, np.dtype(bool))
                acting = lanes & (~guard if step.negated else guard)
            if step.op[0] in ("bra", "ret", "exit"):
                self.pc[lanes] = now + 1
                self.pc[acting] = end if step.op[0] != "bra" else self._target(step)
                self._moves += 1
                return waiting
            if acting.any():
                self.acting = acting
                held = self._execute(step)
                if held is not None and held.any():
                    self.pc[held] = now
                    waiting |= held
                    lanes = lanes & ~held
                    if not lanes.any():
                        return waiting
            self._moves += 1
            now += 1
            if self.give_way:
                self.give_way = self._parked[:] = False
                self.pc[lanes] = now
                return waiting | lanes
            if now >= stop:
                self.pc[lanes] = now
                return waiting

    def _execute(self, step: Instruction) -> np.ndarray | None:
        handler = HANDLERS.get(step.op[0])
        try:
            if handler is None:
                raise Fault("an instruction that this machine does not have")
            return handler(self, step.op, step.operands)
        except Fault as fault:
            first = int(np.argmax(self.acting))
            self.fail(first if fault.which is None else fault.which, fault.what)
        except (KeyError, IndexError, ValueError, NotImplementedError) as error:
            what = f"an instruction that cannot be read ({error})"
            self.fail(int(np.argmax(self.acting)), what)

    def _target(self, step: Instruction) -> int:
        return self.kernel.labels[step.operands[0]]

    def fail(self, lane: int, what: str) -> NoReturn:
        """PtxError at the current instruction, for a thread."""
        name = self.kernel.name
        raise PtxError(f"{name}: {self._who(lane)}: {self.instruction.about(what)}")

    def _who(self, lane: int) -> str:
        block = np.unravel_index(self.number[lane], self.grid[::-1])[::-1]
        thread = np.unravel_index(self.thread[lane], self.block[::-1])[::-1]
        shown = (",".join(str(int(i)) for i in at) for at in (block, thread))
        return "block ({}) thread ({})".format(*shown)

    def _stuck(self) -> NoReturn:
        lane = int(np.flatnonzero(self.alive)[0])
        self.instruction = self.kernel.code[self.pc[lane]]
        others = self.alive & (self.owner == self.owner[lane]) & (self.pc != self.pc[lane])
        if not others.any():
            self.fail(lane, "waits for what nobody will do")
        other = self.kernel.code[self.pc[np.argmax(others)]]
        self.fail(
            lane, f"waits for others of its block, which wait at {other.source or other.text}"
        )


def _check(kernel: Entry, block: tuple[int, ...], args: Sequence[Any]) -> None:
    if kernel.local:
        raise PtxError(f"{kernel.name} uses {kernel.local} bytes of local memory a thread")
    if math.prod(block) > kernel.most_threads:
        raise PtxError(f"{kernel.name}: a block of {block}; __launch_bounds__ says at most "
                       f"{kernel.most_threads} threads")  # fmt: skip
    if len(args) != len(kernel.params):
        raise PtxError(f"{kernel.name} takes {len(kernel.params)} arguments, got {len(args)}")
    for i, (a, (_, size)) in enumerate(zip(args, kernel.params, strict=True)):
        given = 128 if isinstance(a, Boxes) else 8
        given = given if isinstance(a, Boxes | np.ndarray) else getattr(a, "nbytes", 0)
        if given != size or (isinstance(a, np.ndarray) and not a.flags.c_contiguous):
            raise PtxError(f"{kernel.name}: argument {i} has {size} bytes, got {a!r:.80}")


def _place(array: np.ndarray) -> tuple[int, int]:
    return array.__array_interface__["data"][0], array.nbytes


def _distinct(arrays: list[np.ndarray], entry: str) -> list[np.ndarray]:
    """The arrays as plain NumPy, each once; two that overlap in part have no place here."""
    found: dict[tuple[int, int], np.ndarray] = {}
    for array in arrays:
        plain = array.view(np.ndarray)
        known = found.get(_place(plain))
        if known is None or not known.flags.writeable:  # who may write decides
            found[_place(plain)] = plain
    distinct = list(found.values())
    for i, a in enumerate(distinct):
        if any(np.may_share_memory(a, b) for b in distinct[:i]):
            raise PtxError(f"{entry}: two arguments overlap in part")
    return distinct
