"""wgmma of PTX: products of matrices in shared memory by the 128 threads of a warpgroup, in the
background. Factors are read as late as allowed, when somebody waits for the product.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .memory import Fault
from .ops import Handler, Op, Operands
from .registers import BUSY, FREE, TOUCHED, vector

U64 = np.dtype(np.uint64)
GROUP = 128  # threads of a warpgroup
SWIZZLED_128 = 1 << 62  # bits 62-63 of a descriptor
RESERVED = 0xC000_C000 | 0xFFFF << 46  # bits that are 0; 49-51: a swizzle that begins elsewhere
REGISTERS = 1 << 16  # of a multiprocessor
DEPTH = 16  # of a product of 16-bit numbers


@dataclass(slots=True, eq=False)
class Product:
    """One wgmma.mma_async under way."""

    op: Op
    sums: tuple[str, ...]
    adds: bool  # to the sums, not in place of them
    sign: int
    factors: tuple[np.ndarray, np.ndarray]  # indices of bytes: (64, 16, 2), (N, 16, 2)
    batch: int | None = None  # the number of its commit


def _together(m: Any) -> np.ndarray:
    """Hold back the threads of warpgroups that are not all here; who is held back."""
    group = _group(m)
    missing = np.bincount(group[m.alive & ~m.acting], minlength=int(group[-1]) + 1)
    held: np.ndarray = m.acting & (missing > 0)[group]
    m.acting = m.acting & ~held
    here = np.bincount(group[m.acting], minlength=int(group[-1]) + 1)[group]
    if (partial := m.acting & (here != GROUP)).any():
        what = f"is in a warpgroup of which not all {GROUP} threads are here"
        raise Fault(what, int(np.argmax(partial)))
    return held


def _group(m: Any) -> np.ndarray:
    return m.owner * -(-m.threads // GROUP) + m.thread // GROUP  # type: ignore[no-any-return]


def _groups(m: Any) -> list[tuple[int, np.ndarray]]:
    """(its number, its threads) of each warpgroup that acts."""
    lanes = np.flatnonzero(m.acting).reshape(-1, GROUP)
    return [(int(n), row) for n, row in zip(_group(m)[lanes[:, 0]], lanes, strict=True)]


def _wgmma(m: Any, op: Op, operands: Operands) -> np.ndarray:
    held = _together(m)
    if op[1] == "wait_group" and m.acting.any():  # one goes ahead, while the others' products last
        behind = m.acting & (_group(m) != _groups(m)[-1][0])
        held, m.acting = held | behind, m.acting & ~behind
    for number, lanes in _groups(m):
        under_way = m.products.setdefault(number, [])
        if op[1] == "fence":
            state = m.sums_are[:, lanes]
            m.sums_are[:, lanes] = np.where(state == TOUCHED, FREE, state)
        elif op[1] == "mma_async":
            under_way.append(_product(m, op, operands, lanes, under_way))
        elif op[1] == "commit_group":
            m.batches[number] = m.batches.get(number, 0) + 1
            for p in under_way:
                p.batch = m.batches[number] if p.batch is None else p.batch
        elif op[1] == "wait_group":
            last = m.batches.get(number, 0) - int(operands[0])
            done = [p for p in under_way if p.batch is not None and p.batch <= last]
            m.products[number] = [p for p in under_way if p not in done]
            _finish(m, done, m.products[number], lanes)
        else:
            raise NotImplementedError(".".join(op))
    return held


def _product(
    m: Any, op: Op, operands: Operands, lanes: np.ndarray, under_way: list[Product]
) -> Product:
    """d, a, b, scale-d, imm-scale-a, imm-scale-b, imm-trans-a, imm-trans-b"""
    if op[2:4] != ("sync", "aligned") or op[5] != "f32" or op[6] != op[7] or len(operands) != 8:
        raise NotImplementedError(".".join(op))
    size, sums = op[4].removeprefix("m64n").removesuffix("k16"), tuple(vector(operands[0]))
    signs, turned = [int(o) for o in operands[4:6]], [int(o) for o in operands[6:]]
    N = int(size)
    if op[6] not in ("f16", "bf16") or N % 8 or not 8 <= N <= 256 or len(sums) != N // 2:
        raise NotImplementedError(".".join(op))
    if not {*signs} <= {-1, 1} or not {*turned} <= {0, 1}:
        raise Fault(f"has immediates {operands[4:]}")
    rows = [m.sums[name] for name in sums]
    state = m.sums_are[np.ix_(rows, lanes)]
    if (state == TOUCHED).any():
        raise Fault("adds to registers accessed since the last wgmma.fence", int(lanes[0]))
    for p in under_way:
        if {*p.sums} & {*sums} and (p.sums, p.op) != (sums, op):
            raise Fault("shares sums with another product under way", int(lanes[0]))
    memory, factors = m.spaces["shared"], []
    for operand, extent, across in zip(operands[1:3], (64, N), turned, strict=True):
        address = _elements(_same(m, operand, lanes), extent, bool(across), int(lanes[0]))
        owner = int(m.owner[lanes[0]])
        index = memory.for_async(address.reshape(-1), owner, int(lanes[0]))
        memory.busy[index] += 1
        factors.append(index.reshape(extent, DEPTH, 2))
    m.sums_are[np.ix_(rows, lanes)] = BUSY
    adds = bool(_same(m, operands[3], lanes, np.dtype(bool)))
    return Product(op, sums, adds, signs[0] * signs[1], (factors[0], factors[1]))


def _same(m: Any, operand: str, lanes: np.ndarray, kind: np.dtype = U64) -> int:
    """An operand on which all threads of a warpgroup agree."""
    values = np.broadcast_to(m.read(operand, kind), m.count)[lanes]
    if (other := values != values[0]).any():
        what = f"has another {operand} than the first thread of its warpgroup"
        raise Fault(what, int(lanes[np.argmax(other)]))
    return int(values[0])


def _elements(descriptor: int, extent: int, across: bool, thread: int) -> np.ndarray:
    """Addresses (extent, DEPTH) in shared memory of a factor's numbers; swizzled by 128 bytes.

    A row of 128 bytes holds 64 numbers of one row of A (or column of B), eight of which are an atom
    of 1024 bytes, and the stride leads to the next eight; or, `across`, of one depth, eight depths
    an atom: the stride leads to the next eight, the leading offset to the next 64 rows.
    """
    if descriptor & RESERVED or descriptor >> 62 != SWIZZLED_128 >> 62:
        raise Fault(f"has a descriptor {descriptor:#x} that this machine does not know", thread)
    start, leading, stride = ((descriptor >> at & 0x3FFF) << 4 for at in (0, 16, 32))
    i, k = np.arange(extent)[:, None], np.arange(DEPTH)
    if across:
        plain = 2 * (i % 64) + i // 64 * leading + 128 * (k % 8) + k // 8 * stride
        fits = start % 1024 == 0
    else:
        plain = 128 * (i % 8) + i // 8 * stride + 2 * k
        fits = start % 1024 + 2 * DEPTH <= 128
    if not fits or (across and extent > 64 and leading % 1024) or stride % 1024:
        raise Fault(f"has a factor that does not lie in atoms: {descriptor:#x}", thread)
    plain = plain + start
    return plain ^ (plain >> 7 & 7) << 4


def _finish(m: Any, done: list[Product], others: list[Product], lanes: np.ndarray) -> None:
    """The sums of some products come to the registers."""
    acting, m.acting = m.acting, np.zeros(m.count, bool)
    m.acting[lanes] = True
    memory, t = m.spaces["shared"], np.arange(GROUP)
    for sums in dict.fromkeys(p.sums for p in done):
        rows = [m.sums[name] for name in sums]
        m.sums_are[np.ix_(rows, lanes)] = FREE
        d = np.zeros((64, 2 * len(sums)), np.float32)
        # Register 4 j + 2 h + e of a lane: row lane / 4 + 8 h of its warp's 16, column
        # 8 j + 2 (lane % 4) + e.
        at = [
            (t // 32 * 16 + t % 32 // 4 + i % 4 // 2 * 8, i // 4 * 8 + t % 4 * 2 + i % 2)
            for i in range(len(sums))
        ]
        for name, place in zip(sums, at, strict=True):
            d[place] = m.read(name, d.dtype)[lanes]
        for p in done:
            if p.sums == sums:
                a, b = (_numbers(memory.data[index], p.op[6]) for index in p.factors)
                d = ((d if p.adds else 0) + p.sign * (a @ b.T)).astype(np.float32)
        for name, place in zip(sums, at, strict=True):
            values = np.zeros(m.count, np.float32)
            values[lanes] = d[place]
            m.write(name, values)
        later = any(p.sums == sums for p in others)
        m.sums_are[np.ix_(rows, lanes)] = BUSY if later else FREE
    for p in done:
        for index in p.factors:
            memory.busy[index] -= 1
    m.acting = acting


def _numbers(raw: np.ndarray, kind: str) -> np.ndarray:
    """16-bit numbers, given by their bytes, as float64."""
    halves = np.ascontiguousarray(raw).view(np.uint16)[..., 0]
    if kind == "f16":
        return halves.view(np.float16).astype(np.float64)
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def _setmaxnreg(m: Any, op: Op, operands: Operands) -> np.ndarray:
    """A warpgroup gives up registers, or waits until it gets more of what others gave up.

    At first a thread has as many as fit, as launch bounds of one block let the compiler choose.
    """
    held, count = _together(m), int(operands[0])
    if count % 8 or not 24 <= count <= 256:
        raise Fault(f"asks for {count} registers: 24 to 256, a multiple of 8, may be had")
    first, each = REGISTERS // m.threads // 8 * 8, -(-m.threads // GROUP)
    for number, lanes in _groups(m):
        had = m.registers.get(number, first)
        if {"dec": count > had, "inc": count < had}[op[1]]:
            raise Fault(f"has {had} registers already, not {count}", int(lanes[0]))
        block = range(number // each * each, number // each * each + each)
        others = sum(m.registers.get(n, first) for n in block if n != number)
        if others + count > first * each:
            held[lanes] = True
        else:
            m.registers[number] = count
    m.acting = m.acting & ~held
    return held


WGMMA_OPS: dict[str, Handler] = {"wgmma": _wgmma, "setmaxnreg": _setmaxnreg}
