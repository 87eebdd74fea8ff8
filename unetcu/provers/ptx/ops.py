"""What one thread's instructions of PTX do: arithmetic, comparisons, moves.

Each is a function of (machine, op, operands): op is the instruction at its dots, ("add", "s32").
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .access import load, plain, store
from .bits import BIT_OPS
from .convert import convert
from .float import added, exact, flushed, fused, narrow
from .registers import bits, dtype_of, vector

Op = tuple[str, ...]
Operands = tuple[str, ...]
Handler = Callable[[Any, Op, Operands], np.ndarray | None]
DIRECTIONS = ("rz", "rm", "rp")
APPROXIMATE: dict[str, Any] = {
    "ex2": np.exp2,
    "lg2": np.log2,
    "rcp": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}
ORDERED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


def _inputs(m: Any, op: Op, operands: Operands) -> list[np.ndarray]:
    """The operands behind the first, in the instruction's type; flushed where it says so."""
    values = [m.read(o, dtype_of(op[-1])) for o in operands[1:]]
    return [flushed(v) for v in values] if "ftz" in op and op[-1] == "f32" else values


def _result(m: Any, op: Op, operand: str, value: np.ndarray) -> None:
    """Write a result; .ftz and .sat change it first."""
    if value.dtype == np.float32:
        value = flushed(value) if "ftz" in op else value
    if "sat" in op and value.dtype.kind == "f":
        value = np.where(value > 0, np.minimum(value, 1), 0).astype(value.dtype)  # NaN: 0
    m.write(operand, value)


def _arithmetic(m: Any, op: Op, operands: Operands) -> None:
    """add sub mul div min max rem fma mad, of numbers."""
    dtype, name = dtype_of(op[-1]), op[0]
    mode = next((p for p in op if p in DIRECTIONS), "rn")
    if dtype.kind != "f" and name in ("mul", "mad"):
        return _product(m, op, operands, dtype)
    values = _inputs(m, op, operands)
    if dtype.kind == "f" and (set(op) & {"full", "approx"} or (dtype != "f4" and mode != "rn")):
        raise NotImplementedError(".".join(op))
    if dtype.kind == "f" and dtype.itemsize == 2:
        raise NotImplementedError(".".join(op))
    _result(m, op, operands[0], np.asarray(_computed(name, values, mode, "NaN" in op), dtype))
    return None


def _computed(name: str, values: list[np.ndarray], mode: str, nan: bool) -> np.ndarray:
    a, b, *c = values
    if name in ("fma", "mad"):
        return fused(a, b, c[0], mode)
    if a.dtype.kind == "f" and mode != "rn":
        if name == "mul":
            return narrow(exact(a) * exact(b), mode)
        if name in ("add", "sub"):
            return added(a, b if name == "add" else -b, mode)
        raise NotImplementedError(f"{name}.{mode}")
    if name in ("min", "max"):
        return _extreme(name, a, b, nan)
    if name in ("div", "rem") and a.dtype.kind != "f":
        return _divided(name, a, b)
    return {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name](a, b)


def _extreme(name: str, a: np.ndarray, b: np.ndarray, nan: bool) -> np.ndarray:
    """Without .NaN the number wins over NaN; -0 is less than +0."""
    pick = {
        ("min", 0): np.fmin,
        ("max", 0): np.fmax,
        ("min", 1): np.minimum,
        ("max", 1): np.maximum,
    }
    y = pick[name, int(nan)](a, b)
    if y.dtype.kind != "f":
        return y
    zeros = (a == 0) & (b == 0)
    signs = np.signbit(a) | np.signbit(b) if name == "min" else np.signbit(a) & np.signbit(b)
    return np.where(zeros, np.where(signs, y.dtype.type(-0.0), y.dtype.type(0)), y)


def _divided(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whole numbers, towards zero. By zero: all bits set, as GPUs do; remainder a."""
    zero = b == 0
    safe = np.where(zero, b.dtype.type(1), b)
    rest = np.fmod(a, safe)
    if name == "rem":
        return np.where(zero, a, rest)
    return np.where(zero, ~np.zeros_like(a), (a - rest) // safe)


def _product(m: Any, op: Op, operands: Operands, dtype: np.dtype) -> None:
    """mul and mad of whole numbers: .lo, .hi or .wide."""
    a, b = (m.read(o, dtype) for o in operands[1:3])
    if "wide" in op:
        dtype = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
        value = a.astype(dtype) * b.astype(dtype)
    elif "hi" in op:
        value = _high(a, b, dtype)
    else:
        value = a * b
    if op[0] == "mad":
        value = value + m.read(operands[3], dtype)
    m.write(operands[0], value)


def _high(a: np.ndarray, b: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.itemsize < 8:
        wide = np.dtype(f"{dtype.kind}8")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(8 * dtype.itemsize)).astype(dtype)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y = np.asarray(a).view(np.uint64), np.asarray(b).view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    carry = (middle & low) + x0 * y1
    high = x1 * y1 + (middle >> half) + (carry >> half)
    if dtype.kind == "i":  # each negative factor counted 2^64 too much
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(dtype)


def _one(m: Any, op: Op, operands: Operands) -> None:
    """neg, abs of any number."""
    (x,) = _inputs(m, op, operands)
    _result(m, op, operands[0], np.negative(x) if op[0] == "neg" else np.abs(x))


def _approximate(m: Any, op: Op, operands: Operands) -> None:
    """ex2 lg2 rcp rsqrt sqrt sin cos tanh: here to the last bit, on a GPU nearly (.approx)."""
    (x,) = _inputs(m, op, operands)
    value = np.asarray(APPROXIMATE[op[0]](np.float64(x)))
    if op[-1] == "f64" and "approx" in op:  # only the upper half of the bits is worked out
        value = (value.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
    _result(m, op, operands[0], value if op[-1] == "f64" else narrow(value))


def _copysign(m: Any, op: Op, operands: Operands) -> None:
    sign, size = _inputs(m, op, operands)
    m.write(operands[0], np.copysign(size, sign))


def _testp(m: Any, op: Op, operands: Operands) -> None:
    x = m.read(operands[1], dtype_of(op[-1]))
    tests: dict[str, Any] = {"finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan}
    m.write(operands[0], ~np.isnan(x) if op[1] == "number" else tests[op[1]](x))


def _setp(m: Any, op: Op, operands: Operands) -> None:
    a, b = _inputs(m, op, operands[:3])
    truth = _compared(op[1], a, b)
    both = [truth, ~truth]
    if op[2] in ("and", "or", "xor"):
        name = operands[3].lstrip("!")
        other = m.read(name, np.dtype(bool)) ^ (operands[3][0] == "!")
        combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[op[2]]
        both = [combine(t, other) for t in both]
    for name, value in zip(operands[0].split("|"), both, strict=False):
        m.write(name, np.asarray(value))


def _compared(how: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind != "f":
        return np.asarray(ORDERED[how](a, b))
    nan = np.isnan(a) | np.isnan(b)
    if how in ("num", "nan"):
        return nan if how == "nan" else ~nan
    if how.endswith("u"):  # "unordered": true where there is a NaN
        return ORDERED[how[:-1]](a, b) | nan
    return ORDERED[how](a, b) & ~nan


def _selp(m: Any, op: Op, operands: Operands) -> None:
    a, b = (m.read(o, dtype_of(op[-1])) for o in operands[1:3])
    m.write(operands[0], np.where(m.read(operands[3], np.dtype(bool)), a, b))


def _mov(m: Any, op: Op, operands: Operands) -> None:
    """Also between a register and the several that make it up."""
    target, source = (vector(o) for o in operands)
    if len(source) > 1:
        part = dtype_of(f"b{dtype_of(op[-1]).itemsize * 8 // len(source)}")
        parts = [np.broadcast_to(m.read(s, part), m.count) for s in source]
        m.write(target[0], np.stack(parts, -1).view(bits(dtype_of(op[-1])))[:, 0])
    elif len(target) > 1:
        whole = np.broadcast_to(m.read(source[0], bits(dtype_of(op[-1]))), m.count)
        part = dtype_of(f"b{whole.itemsize * 8 // len(target)}")
        split = np.ascontiguousarray(whole)[:, None].view(part)
        for k, t in enumerate(target):
            m.write(t, split[:, k])
    else:
        m.write(target[0], m.read(source[0], dtype_of(op[-1])))


def _cvta(m: Any, op: Op, operands: Operands) -> None:
    """Every address says by itself which memory it lies in."""
    m.write(operands[0], m.read(operands[1], dtype_of(op[-1])))


def _cvt(m: Any, op: Op, operands: Operands) -> None:
    sources = [m.read(o, dtype_of(plain(op[-1]))) for o in operands[1:]]
    m.write(operands[0], convert(op, sources))


def _nothing(m: Any, op: Op, operands: Operands) -> None:
    """Hints, and fences among threads, who see each other's writes here at once."""


OPS: dict[str, Handler] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "rem", "min", "max", "fma", "mad"), _arithmetic),
    **dict.fromkeys(("neg", "abs"), _one),
    **dict.fromkeys(APPROXIMATE, _approximate),
    **dict.fromkeys(("membar", "prefetch", "prefetchu"), _nothing),
    "copysign": _copysign,
    "testp": _testp,
    "setp": _setp,
    "selp": _selp,
    "mov": _mov,
    "cvta": _cvta,
    "cvt": _cvt,
    "ld": load,
    "st": store,
    **BIT_OPS,
}
