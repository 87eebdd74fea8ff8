"""Arithmetic of float32 as GPUs do it: one rounding, in the direction that the instruction says.

A result is found in float64 and rounded "to odd" there, that is, its last bit is set where digits
were lost; rounding it once more, to float32, then gives what one rounding would have given.
"""

import numpy as np

TINY = np.float32(2.0**-126)  # the smallest number with all its bits


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray, mode: str = "rn") -> np.ndarray:
    """a * b + c, rounded once (float32). In float64 always to nearest, the last bit not assured."""
    if np.result_type(a) == np.float64:
        return _fused64(a, b, c)
    product = exact(a) * exact(b)  # 24 + 24 bits
    return narrow(_odd(product, exact(c)), mode)


def narrow(x: np.ndarray, mode: str = "rn") -> np.ndarray:
    """float64 to float32: rn to nearest, rz towards zero, rm down, rp up."""
    y = np.asarray(x, np.float32)
    down, up = np.float32(-np.inf), np.float32(np.inf)
    if mode == "rm" or mode == "rz":
        y = np.where((y > x) & ((mode == "rm") | (x > 0)), np.nextafter(y, down), y)
    if mode == "rp" or mode == "rz":
        y = np.where((y < x) & ((mode == "rp") | (x < 0)), np.nextafter(y, up), y)
    return y


def flushed(x: np.ndarray) -> np.ndarray:
    """.ftz: numbers below 2^-126 become zero and keep their sign."""
    return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x)


def added(a: np.ndarray, b: np.ndarray, mode: str) -> np.ndarray:
    """a + b of float32, rounded in a direction."""
    return narrow(_odd(exact(a), exact(b)), mode)


def exact(x: np.ndarray) -> np.ndarray:
    """float32 as float64."""
    return np.asarray(x, np.float64)


def _sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a + b and what its rounding lost, exactly."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _odd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total, lost = _sum(np.asarray(a), np.asarray(b))
    total = np.asarray(total)
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    move = even & (lost != 0) & np.isfinite(lost)
    return np.where(move, np.nextafter(total, np.copysign(np.inf, lost)), total)


def _fused64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        big = np.float64(2**27 + 1) * x
        high = big - (big - x)
        return high, x - high

    product = np.asarray(a * b)
    (a1, a0), (b1, b0) = halves(a), halves(b)
    lost = ((a1 * b1 - product) + a1 * b0 + a0 * b1) + a0 * b0
    total, rest = _sum(product, np.asarray(c))
    y = total + (rest + lost)
    return np.where(np.isfinite(y), y, a * b + c)
