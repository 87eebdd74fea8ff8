"""cvt: numbers from one type of PTX to another, among them the 16-bit floats and TF32."""

import numpy as np

from .float import flushed, narrow
from .registers import dtype_of

ROUNDED = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
DIRECTIONS = ("rz", "rm", "rp")


def convert(op: tuple[str, ...], sources: list[np.ndarray]) -> np.ndarray:
    """op: ("cvt", "rn", "f32", "s32") and the like; the result has the target's type."""
    to, source = op[-2], sources[0]
    mode = next((p for p in op if p in DIRECTIONS), "rn")
    if to in ("bf16x2", "f16x2"):  # the first into the upper half
        high, low = (_half(to[:-2], s, mode).view(np.uint16).astype(np.uint32) for s in sources)
        return high << np.uint32(16) | low
    if op[-1] == "bf16":
        source = (source.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return source if to == "f32" else _plain(op, to, source, mode)
    if to in ("bf16", "f16") and source.dtype == np.float32:
        return _half(to, source, mode)
    if to == "tf32":  # 10 bits of fraction; .rna: halves away from zero
        raw = np.asarray(source).view(np.uint32)
        return (raw + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return _plain(op, to, source, mode)


def _half(kind: str, x: np.ndarray, mode: str) -> np.ndarray:
    """float32 to f16 or bf16 (as bits), to nearest even."""
    if mode != "rn":
        raise NotImplementedError(f"{kind} {mode}")
    if kind == "f16":
        return np.asarray(x).astype(np.float16)
    raw = np.asarray(x).view(np.uint32).astype(np.uint64)
    rounded = (raw + np.uint64(0x7FFF) + (raw >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), np.uint64(0x7FFF), rounded).astype(np.uint16)


def _plain(op: tuple[str, ...], to: str, x: np.ndarray, mode: str) -> np.ndarray:
    target = dtype_of(to)
    if x.dtype == np.float32 and "ftz" in op:
        x = flushed(x)
    if x.dtype.kind == "f" and target.kind == "f":
        whole = next((ROUNDED[p] for p in op if p in ROUNDED), None)
        y = whole(x) if whole else x
        narrowing = x.dtype == np.float64 and target == np.float32
        y = narrow(y, mode) if narrowing else np.asarray(y).astype(target)
        return np.where(y > 0, np.minimum(y, 1), 0).astype(target) if "sat" in op else y
    if x.dtype.kind == "f":
        rounding = next((ROUNDED[p] for p in op if p in ROUNDED), np.trunc)
        return _whole(rounding(np.asarray(x, np.float64)), target)
    if target.kind == "f":
        if mode != "rn":
            raise NotImplementedError(".".join(op))
        return np.asarray(x).astype(target)
    if "sat" in op:
        limits = np.iinfo(target)
        low = max(int(limits.min), int(np.iinfo(x.dtype).min))
        high = min(int(limits.max), int(np.iinfo(x.dtype).max))
        x = np.clip(x, x.dtype.type(low), x.dtype.type(high))
    return np.asarray(x).astype(target)


def _whole(x: np.ndarray, target: np.dtype) -> np.ndarray:
    """Whole float64 to an integer type: what is too large becomes the largest, NaN becomes 0."""
    limits = np.iinfo(target)
    high = float(limits.max) + 1 if limits.max > 1 << 53 else float(limits.max)
    too_high = x >= high if limits.max > 1 << 53 else x > high
    too_low, nan = x < float(limits.min), np.isnan(x)
    y = np.where(too_high | too_low | nan, 0, x).astype(target)
    y = np.where(too_high, target.type(limits.max), y)
    missing = target.type(limits.min if target.itemsize == 8 and target.kind == "i" else 0)
    y = np.where(nan, missing, y)
    return np.where(too_low, target.type(limits.min), y)
