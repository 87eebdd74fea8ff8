"""The PTX machine on floating-point numbers, against exact fractions, libm and NumPy."""

import ctypes
import ctypes.util
import math
from fractions import Fraction

import numpy as np
import pytest
from ptxtools import PTX, floats, one, wholes, wrapped


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_float_arithmetic_is_numpys(rng, op):
    a, b = floats(rng), floats(rng)
    with np.errstate(all="ignore"):
        right = {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b}[op]
        wide = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[op]
        right64 = wide(np.float64(a), np.float64(b))
    got = one(f"{op}.rn.f32 {{0}}, {{1}}, {{2}}", "float32", a, b)
    assert np.array_equal(got, right, equal_nan=True)
    assert (np.abs(got[np.isfinite(got)]) < 2.0**-126).any()  # denormals are kept
    got = one(f"{op}.rn.f64 {{0}}, {{1}}, {{2}}", "float64", np.float64(a), np.float64(b))
    assert np.array_equal(got, right64, equal_nan=True)


def test_multiply_add_is_rounded_once(rng):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.fmaf.argtypes, libm.fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    a, b, c = floats(rng, 4000), floats(rng, 4000), floats(rng, 4000)
    a[1000:] = rng.standard_normal(3000)
    b[1000:] = rng.standard_normal(3000)
    c[1000:] = -a[1000:] * b[1000:] * rng.choice([1, 1, 2, 2**-24, 2**-25, 2**24, 2**20], 3000)
    right = [libm.fmaf(*map(float, three)) for three in zip(a, b, c, strict=True)]
    for i in range(0, 4000, 1000):
        part = slice(i, i + 1000)
        got = one("fma.rn.f32 {0}, {1}, {2}, {3}", "float32", a[part], b[part], c[part])
        assert np.array_equal(got, np.float32(right[part]), equal_nan=True)
    # Rounded to float64, these sums lie halfway between two float32; what was lost decides.
    e = 2.0**-23
    a, b = np.float32([1 + e, -1 - e, 1, -1]), np.float32([1 - e, 1 - e, 1, 1]) * np.float32(e / 2)
    c = np.float32([1 + e, -1 - e, 1 + e, -1 - e])
    got = one("fma.rn.f32 {0}, {1}, {2}, {3}", "float32", a, b, c)
    assert got.tolist() == [1 + e, -1 - e, 1 + 2 * e, -1 - 2 * e]


@pytest.mark.parametrize("mode", ["rm", "rp", "rz"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "fma"])
def test_directed_rounding(rng, op, mode):
    three = [np.float32(rng.standard_normal(300) * 2.0 ** rng.integers(-20, 20, 300))] * 3
    three = [rng.permutation(a) for a in three]
    operands = ", ".join(f"{{{i}}}" for i in range(4 if op == "fma" else 3))
    got = one(f"{op}.{mode}.f32 {operands}", "float32", *three[: 3 if op == "fma" else 2])
    for a, b, c, y in zip(*three, got, strict=True):
        p, q, r = (Fraction(float(x)) for x in (a, b, c))
        exact = {"add": p + q, "sub": p - q, "mul": p * q, "fma": p * q + r}[op]
        down = mode == "rm" or (mode == "rz" and exact > 0)
        next_y = Fraction(float(np.nextafter(y, np.float32(np.inf if down else -np.inf))))
        low, high = (Fraction(float(y)), next_y) if down else (next_y, Fraction(float(y)))
        assert low <= exact <= high
        assert exact != next_y


def test_least_and_greatest():
    values = np.float32([0, -0.0, 1, -1, np.nan, np.inf, -np.inf, 5])
    a, b = (v.ravel() for v in np.meshgrid(values, values))
    for op, pick in (("min", min), ("max", max)):
        got = one(f"{op}.f32 {{0}}, {{1}}, {{2}}", "float32", a, b)
        strict = one(f"{op}.NaN.f32 {{0}}, {{1}}, {{2}}", "float32", a, b)
        for x, y, z, s in zip(a.tolist(), b.tolist(), got.tolist(), strict.tolist(), strict=True):
            numbers = [v for v in (x, y) if not math.isnan(v)]
            right = pick(numbers, key=lambda v: (v, math.copysign(1, v))) if numbers else math.nan
            assert str(z) == str(right)  # with the sign of zero
            assert str(s) == str(right if len(numbers) == 2 else math.nan)


@pytest.mark.parametrize("kind", ["float32", "int32", "uint32", "int64"])
def test_comparisons(rng, kind):
    a = floats(rng) if kind == "float32" else wholes(rng, kind)
    b = np.where(rng.integers(0, 2, 400) == 1, a, rng.permutation(a))
    for op, right in (
        *(("eq", a == b), ("ne", a != b), ("lt", a < b), ("le", a <= b), ("gt", a > b)),
        ("ge", a >= b),
    ):
        nan = np.isnan(a) | np.isnan(b) if kind == "float32" else np.zeros(400, bool)
        got = one(f"setp.{op}.{PTX[kind]} {{0}}, {{1}}, {{2}}", "bool", a, b)
        assert np.array_equal(got, right & ~nan), op
        if kind == "float32":
            got = one(f"setp.{op}u.f32 {{0}}, {{1}}, {{2}}", "bool", a, b)
            assert np.array_equal(got, right | nan), op
    truth = rng.integers(0, 2, 400) == 1
    got = one(f"setp.lt.and.{PTX[kind]} {{0}}, {{1}}, {{2}}, !{{3}}", "bool", a, b, truth)
    assert np.array_equal(got, (a < b) & ~truth)
    got = one(f"selp.{PTX[kind]} {{0}}, {{1}}, {{2}}, {{3}}", kind, a, b, truth)
    assert np.array_equal(got, np.where(truth, a, b), equal_nan=kind == "float32")


def test_float_to_whole(rng):
    x = np.float32(
        np.concatenate([floats(rng, 200), rng.uniform(-9, 9, 100), np.arange(-5, 5) / 2])
    )
    rounded = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}
    for kind in ("int32", "uint32", "int64", "uint64"):
        limits = np.iinfo(kind)
        for mode, whole in rounded.items():
            got = one(f"cvt.{mode}.{PTX[kind]}.f32 {{0}}, {{1}}", kind, x)
            for value, y in zip(x.tolist(), got.tolist(), strict=True):
                if math.isnan(value):
                    right = limits.min if kind == "int64" else 0
                elif math.isinf(value):
                    right = limits.max if value > 0 else limits.min
                else:
                    right = min(max(whole(value), limits.min), limits.max)
                assert y == right, (kind, mode, value)
    got = one("cvt.rmi.f32.f32 {0}, {1}", "float32", x)
    assert np.array_equal(got, np.floor(x), equal_nan=True)
    got = one("cvt.sat.f32.f32 {0}, {1}", "float32", x)
    assert np.array_equal(got, np.clip(np.nan_to_num(x, nan=0.0), 0, 1))


def test_other_conversions(rng):
    a, x = wholes(rng, "int64"), floats(rng)
    for kind in ("int32", "uint64", "uint16", "int16", "uint32"):
        b = a.astype(kind)
        right = [np.float32(Fraction(int(v))) if abs(int(v)) < 2**53 else None for v in b]
        got = one(f"cvt.rn.f32.{PTX[kind]} {{0}}, {{1}}", "float32", b)
        assert all(r is None or g == r for g, r in zip(got, right, strict=True))
    got = one("cvt.s64.s32 {0}, {1}", "int64", a.astype(np.int32))
    assert np.array_equal(got, a.astype(np.int32))
    assert np.array_equal(one("cvt.u32.u64 {0}, {1}", "uint32", a), wrapped(a.tolist(), "uint32"))
    d = np.float64(x) * (1 + 2.0**-30)
    with np.errstate(over="ignore"):
        assert np.array_equal(
            one("cvt.rn.f32.f64 {0}, {1}", "float32", d), np.float32(d), equal_nan=True
        )
        halves = one("cvt.rn.f16.f32 {0}, {1}", "float16", x)
        assert np.array_equal(halves, x.astype(np.float16), equal_nan=True)
    assert np.array_equal(one("cvt.f64.f32 {0}, {1}", "float64", x), np.float64(x), equal_nan=True)
    got = one("cvt.rn.bf16.f32 {0}, {1}", "uint16", x)
    back = one("cvt.f32.bf16 {0}, {1}", "float32", got)
    for value, near in zip(x.tolist(), back.tolist(), strict=True):
        if math.isfinite(value) and math.isfinite(near):
            assert abs(value - near) <= max(abs(value) * 2**-8, 2.0**-134)  # half a last bit
        else:
            assert math.isnan(value) == math.isnan(near)
    ties = np.float32([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20])  # halves go to even
    got = one("cvt.rn.bf16.f32 {0}, {1}", "uint16", ties)
    assert got.tolist() == [0x3F80, 0x3F82, 0x3F81]
    got = one("cvt.rn.bf16x2.f32 {0}, {1}, {2}", "uint32", ties, np.float32([2, 4, 8]))
    assert got.tolist() == [0x3F804000, 0x3F824080, 0x3F814100]


def test_functions_are_near(rng):
    x = np.abs(rng.standard_normal(300)).astype(np.float32) + np.float32(0.01)
    for op, right in (
        *(("sqrt.rn", np.sqrt), ("ex2.approx", np.exp2), ("lg2.approx", np.log2)),
        *(("rcp.rn", np.reciprocal), ("rsqrt.approx", lambda v: 1 / np.sqrt(v))),
        *(("sin.approx", np.sin), ("tanh.approx", np.tanh), ("abs", np.abs), ("neg", np.negative)),
    ):
        got = one(f"{op}.f32 {{0}}, {{1}}", "float32", x)
        assert np.allclose(got, right(np.float64(x)), rtol=2e-7, atol=1e-7), op
    small = np.float32([1e-40, -1e-40, 3.0])
    assert one("ex2.approx.ftz.f32 {0}, {1}", "float32", np.float32([-140, -3, 2])).tolist() == [
        *(0, 0.125, 4)
    ]
    got = one("add.ftz.f32 {0}, {1}, {2}", "float32", small, np.float32([0, -0.0, 1]))
    assert got.tolist() == [0, 0, 4]
    got = one("copysign.f32 {0}, {1}, {2}", "float32", np.float32([-1, 2]), np.float32([5, -6]))
    assert got.tolist() == [-5, 6]
