"""The instructions of PTX that work on bits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .registers import dtype_of

Op = tuple[str, ...]
Operands = tuple[str, ...]


def _logic(m: Any, op: Op, operands: Operands) -> None:
    combine = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[op[0]]
    a, b = (m.read(o, dtype_of(op[-1])) for o in operands[1:])
    m.write(operands[0], combine(a, b))


def _not(m: Any, op: Op, operands: Operands) -> None:
    m.write(operands[0], ~m.read(operands[1], dtype_of(op[-1])))


def _shift(m: Any, op: Op, operands: Operands) -> None:
    """By the width or more: no bit is left, or only the sign's."""
    dtype = dtype_of(op[-1])
    x, by = m.read(operands[1], dtype), m.read(operands[2], np.dtype(np.uint32))
    width = 8 * dtype.itemsize
    inside = np.minimum(by, width - 1).astype(dtype)
    y = x << inside if op[0] == "shl" else x >> inside
    gone = np.where(x < 0, dtype.type(-1), dtype.type(0)) if dtype.kind == "i" else dtype.type(0)
    m.write(operands[0], np.where(by < width, y, dtype.type(0) if op[0] == "shl" else gone))


def _funnel(m: Any, op: Op, operands: Operands) -> None:
    """shf: 32 of the 64 bits b:a, shifted."""
    a, b, by = (m.read(o, np.dtype(np.uint32)).astype(np.uint64) for o in operands[1:])
    by = by & np.uint64(31) if "wrap" in op else np.minimum(by, 32)
    both = b << np.uint64(32) | a
    y = both >> by if op[1] == "r" else both >> (np.uint64(32) - by)
    m.write(operands[0], y.astype(np.uint32))


def _extract(m: Any, op: Op, operands: Operands) -> None:
    """bfe: some bits of a number; signed ones take the sign of the last."""
    dtype = dtype_of(op[-1])
    width = 8 * dtype.itemsize
    x = m.read(operands[1], dtype)
    start, size = (m.read(o, np.dtype(np.uint32)).astype(np.int64) & 255 for o in operands[2:])
    start, size = np.broadcast_arrays(start, size)
    taken = x.astype(np.int64 if dtype.kind == "i" else np.uint64)
    kind = taken.dtype.type
    last = np.minimum(start + size, width)
    shifted = taken >> np.minimum(start, width - 1).astype(kind)
    keep = np.clip(last - start, 0, 63)
    low = shifted & ((kind(1) << keep.astype(kind)) - kind(1))
    if dtype.kind == "i":
        top = kind(1) << np.maximum(keep - 1, 0).astype(kind)
        low = np.where((size > 0) & (taken >> np.clip(last - 1, 0, 63) & 1 == 1), low | -top, low)
        low = np.where((start >= width) & (taken < 0) & (size > 0), kind(-1), low)
    whole = (last - start) >= 64
    m.write(operands[0], np.where(whole, shifted, np.where(size == 0, kind(0), low)).astype(dtype))


def _insert(m: Any, op: Op, operands: Operands) -> None:
    """bfi: some bits of b replaced by the lowest of a."""
    dtype = dtype_of(op[-1])
    width = 8 * dtype.itemsize
    a, b = (m.read(o, dtype).astype(np.uint64) for o in operands[1:3])
    start, size = (m.read(o, np.dtype(np.uint32)).astype(np.uint64) & 255 for o in operands[3:])
    size = np.minimum(size, 64)
    ones = np.where(size >= 64, ~np.uint64(0), (np.uint64(1) << (size & 63)) - np.uint64(1))
    at = np.minimum(start, 63)
    mask = np.where(start < width, ones << at, np.uint64(0))
    m.write(operands[0], ((b & ~mask) | (a << at & mask)).astype(dtype))


def _permute(m: Any, op: Op, operands: Operands) -> None:
    """prmt: four of the eight bytes b:a; bit 3 of a choice asks for the byte's sign instead."""
    if op[-1] != "b32" or len(op) != 2:
        raise NotImplementedError(".".join(op))
    a, b, choice = (m.read(o, np.dtype(np.uint32)).astype(np.uint64) for o in operands[1:])
    both, result = b << np.uint64(32) | a, np.zeros(1, np.uint64)
    for k in range(4):
        pick = choice >> np.uint64(4 * k) & np.uint64(15)
        byte = both >> (np.uint64(8) * (pick & np.uint64(7))) & np.uint64(255)
        sign = np.where(byte >= 128, np.uint64(255), np.uint64(0))
        result = result | np.where(pick >= 8, sign, byte) << np.uint64(8 * k)
    m.write(operands[0], result.astype(np.uint32))


def _table(m: Any, op: Op, operands: Operands) -> None:
    """lop3: any function of three bits, given as its table."""
    a, b, c = (m.read(o, dtype_of(op[-1])) for o in operands[1:4])
    table, result = int(operands[4], 0), np.zeros(1, np.uint32)
    for row in range(8):
        if table >> row & 1:
            parts = [x if row & bit else ~x for x, bit in ((a, 4), (b, 2), (c, 1))]
            result = result | (parts[0] & parts[1] & parts[2])
    m.write(operands[0], result)


def _count(m: Any, op: Op, operands: Operands) -> None:
    """popc: bits set; clz: zeros before the first; brev: the other way round."""
    dtype = dtype_of(op[-1])
    x = np.broadcast_to(m.read(operands[1], dtype), m.count)
    digits = np.unpackbits(np.ascontiguousarray(x)[:, None].view(np.uint8), 1, bitorder="little")
    if op[0] == "brev":
        m.write(operands[0], np.packbits(digits[:, ::-1], 1, bitorder="little").view(dtype)[:, 0])
    elif op[0] == "popc":
        m.write(operands[0], digits.sum(1).astype(np.uint32))
    else:
        first = np.argmax(digits[:, ::-1], 1)
        zeros = np.where(digits.any(1), first, 8 * dtype.itemsize)
        m.write(operands[0], zeros.astype(np.uint32))


BIT_OPS: dict[str, Callable[[Any, Op, Operands], None]] = {
    **dict.fromkeys(("and", "or", "xor"), _logic),
    **dict.fromkeys(("shl", "shr"), _shift),
    **dict.fromkeys(("popc", "clz", "brev"), _count),
    "not": _not,
    "shf": _funnel,
    "bfe": _extract,
    "bfi": _insert,
    "prmt": _permute,
    "lop3": _table,
}
