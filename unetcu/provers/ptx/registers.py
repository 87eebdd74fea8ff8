"""Operands of PTX: registers (an array with one number per thread), special registers, constants,
names. Registers have a width and no type; an instruction says what it takes the bits for."""

import functools
import re
import struct
from typing import Any

import numpy as np

from .memory import Fault
from .text import split

BOOL = np.dtype(bool)
FREE, TOUCHED, BUSY = range(3)  # sums of wgmma: fenced, accessed since, under way
_ADDRESS = re.compile(r"\[\s*([%$\w]+)\s*(?:\+\s*(-?\w+)\s*)?\]")


@functools.cache
def dtype_of(kind: str) -> np.dtype:
    """The NumPy type of a PTX type: "u32", "f16", "pred"."""
    if kind == "pred":
        return BOOL
    return np.dtype(f"{ {'b': 'u', 's': 'i'}.get(kind[0], kind[0]) }{int(kind[1:]) // 8}")


def bits(dtype: np.dtype) -> np.dtype:
    """The unsigned type of the same size."""
    return BOOL if dtype == BOOL else np.dtype(f"u{dtype.itemsize}")


@functools.cache
def constant(text: str, dtype: np.dtype) -> Any:
    """12, -1, 0x1F, 0f3F800000 (float32), 0d3FF0000000000000 (float64) as `dtype`."""
    if text[:2] in ("0f", "0F", "0d", "0D"):
        kind, size = ("f", 4) if text[1] in "fF" else ("d", 8)
        value = struct.unpack(kind, int(text[2:], 16).to_bytes(size, "little"))[0]
        if dtype.kind == "f":
            return dtype.type(value)
        return np.frombuffer(int(text[2:], 16).to_bytes(size, "little"), bits(dtype))[0]
    if dtype == BOOL:
        return np.bool_(int(text, 0))
    if dtype.kind == "f":
        return dtype.type(float(text))
    raw = int(text.rstrip("U"), 0) % (1 << 8 * dtype.itemsize)
    return np.array(raw, bits(dtype)).view(dtype)[()]


class Registers:
    """Reads and writes operands for the threads that act."""

    count: int  # threads
    acting: np.ndarray  # bool (threads)
    sums: dict[str, int]  # the registers that wgmma adds to: their rows in
    sums_are: np.ndarray  # FREE, TOUCHED or BUSY (registers, threads)

    def __init__(self, widths: dict[str, int], params: dict[str, bytes], symbols: dict[str, int]):
        self._widths, self.params, self._symbols = widths, params, symbols
        self._values: dict[str, np.ndarray] = {}
        self._special: dict[str, np.ndarray] = {}
        self.sums = {}

    def place(
        self, thread: np.ndarray, number: np.ndarray, block: tuple[int, ...], grid: tuple[int, ...]
    ) -> None:
        """The special registers: who each thread is."""
        thread, number = thread.astype(np.uint32), number.astype(np.uint32)
        self.lane = (thread % 32).astype(np.int64)
        special = {"%laneid": thread % 32, "%warpid": thread // 32, "%lanemask_lt": _below(thread)}
        for sizes, index, name, count in (
            (block, thread, "%tid", "%ntid"),
            (grid, number, "%ctaid", "%nctaid"),
        ):
            rest = index
            for axis, size in zip("xyz", sizes, strict=True):
                special[f"{name}.{axis}"] = rest % np.uint32(size)
                special[f"{count}.{axis}"] = np.full(index.shape, size, np.uint32)
                rest = rest // np.uint32(size)
        self._special = special

    def read(self, operand: str, dtype: np.dtype) -> np.ndarray:
        """An operand as `dtype`, for every thread (constants too: they broadcast)."""
        if operand in self.sums:
            self._touch(operand)
        found = self._values.get(operand)
        if found is None:
            found = self._special.get(operand)
        if found is None:
            if operand in self._widths:  # never set: whatever a GPU would find there
                wide = _wide(self._widths[operand])
                found = np.full(self.count, -1 if wide.kind == "u" else 0).astype(wide)
            elif operand in self._symbols:
                return np.asarray(dtype.type(self._symbols[operand]))
            elif re.match(r"-?\d", operand):
                return np.asarray(constant(operand, dtype))
            else:
                raise Fault(f"names {operand}, which this machine does not know")
        if dtype == BOOL or found.dtype == BOOL:
            if found.dtype != dtype:
                raise Fault(f"takes {operand} for what it is not")
            return found
        return found.astype(bits(dtype), copy=False).view(dtype)

    def write(self, operand: str, value: np.ndarray) -> None:
        """Set a register of the threads that act; widened as PTX does where it is wider."""
        if operand == "_":
            return
        if operand in self.sums:
            self._touch(operand)
        wide = _wide(self._widths[operand])
        value = np.asarray(value)
        if (value.dtype == BOOL) != (wide == BOOL):
            raise Fault(f"puts into {operand} what it cannot hold")
        if wide != BOOL:
            if value.dtype.kind == "i":
                value = value.astype(f"i{wide.itemsize}")
            value = value.view(bits(value.dtype)).astype(wide)
        value = np.broadcast_to(value, self.count)
        if not self.acting.all():
            old = self._values.get(operand)
            rest = np.zeros(1, bool) if wide == BOOL else ~np.zeros(1, wide)
            value = np.where(self.acting, value, rest if old is None else old)
        self._values[operand] = value

    def _touch(self, operand: str) -> None:
        """A register that wgmma adds to is accessed by another instruction."""
        state = self.sums_are[self.sums[operand]]
        if (busy := self.acting & (state == BUSY)).any():
            raise Fault(f"accesses {operand}, a sum of wgmma under way", int(np.argmax(busy)))
        state[self.acting] = TOUCHED

    def address(self, operand: str) -> tuple[str, int]:
        """(name, offset) of "[%rd1+16]"."""
        found = _ADDRESS.fullmatch(operand)
        if found is None:
            raise Fault(f"has an address that cannot be read, {operand}")
        return found[1], int(found[2] or "0", 0)

    def width(self, operand: str) -> int:
        """Bits of a register."""
        return self._widths[operand]


def vector(operand: str) -> list[str]:
    """The registers of "{%f1, %f2}", or the one."""
    return split(operand[1:-1]) if operand[0] == "{" else [operand]


def _wide(width: int) -> np.dtype:
    return BOOL if width == 1 else np.dtype(f"u{width // 8}")


def _below(thread: np.ndarray) -> np.ndarray:
    return (np.uint32(1) << (thread % np.uint32(32))) - np.uint32(1)
