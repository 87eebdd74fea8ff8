"""The PTX machine on whole numbers and bits, against Python's own."""

import numpy as np
import pytest
from ptxtools import PTX, TYPES, one, wholes, wrapped


def toward_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("op", "right"),
    [
        ("add", lambda a, b, bits: a + b),
        ("sub", lambda a, b, bits: a - b),
        ("min", lambda a, b, bits: min(a, b)),
        ("max", lambda a, b, bits: max(a, b)),
        ("mul.lo", lambda a, b, bits: a * b),
        ("mul.hi", lambda a, b, bits: a * b >> bits),
        ("div", lambda a, b, bits: toward_zero(a, b) if b else -1),
        ("rem", lambda a, b, bits: a - b * toward_zero(a, b) if b else a),
    ],
)
def test_whole_numbers(rng, kind, op, right):
    a, b = wholes(rng, kind), wholes(rng, kind)
    got = one(f"{op}.{PTX[kind]} {{0}}, {{1}}, {{2}}", kind, a, b)
    bits = 8 * got.itemsize
    expected = wrapped([right(int(x), int(y), bits) for x, y in zip(a, b, strict=True)], kind)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(("kind", "wide"), [("int32", "int64"), ("uint32", "uint64")])
def test_products_in_full(rng, kind, wide):
    a, b, c = wholes(rng, kind), wholes(rng, kind), wholes(rng, wide)
    three = list(zip(a.tolist(), b.tolist(), c.tolist(), strict=True))
    got = one(f"mul.wide.{PTX[kind]} {{0}}, {{1}}, {{2}}", wide, a, b)
    assert np.array_equal(got, wrapped([x * y for x, y, _ in three], wide))
    got = one(f"mad.wide.{PTX[kind]} {{0}}, {{1}}, {{2}}, {{3}}", wide, a, b, c)
    assert np.array_equal(got, wrapped([x * y + z for x, y, z in three], wide))
    d = c.astype(kind)
    got = one(f"mad.lo.{PTX[kind]} {{0}}, {{1}}, {{2}}, {{3}}", kind, a, b, d)
    pairs = zip(three, d.tolist(), strict=True)
    assert np.array_equal(got, wrapped([x * y + z for (x, y, _), z in pairs], kind))


@pytest.mark.parametrize("kind", TYPES)
def test_shifts_and_bits(rng, kind):
    a, by = wholes(rng, kind), rng.choice([0, 1, 5, 31, 32, 33, 63, 64, 200], 400).astype(np.uint32)
    bits, unsigned = 8 * a.itemsize, f"u{a.itemsize}"
    pairs = list(zip(a.tolist(), by.tolist(), strict=True))
    got = one(f"shl.b{bits} {{0}}, {{1}}, {{2}}", kind, a, by)
    assert np.array_equal(got, wrapped([x << n for x, n in pairs], kind))
    got = one(f"shr.{PTX[kind]} {{0}}, {{1}}, {{2}}", kind, a, by)
    assert np.array_equal(got, wrapped([x >> n for x, n in pairs], kind))
    if kind.startswith("u"):
        texts = [format(x, f"0{bits}b") for x in a.tolist()]
        for op, right in (
            ("popc", [t.count("1") for t in texts]),
            ("clz", [len(t) - len(t.lstrip("0")) for t in texts]),
        ):
            assert one(f"{op}.b{bits} {{0}}, {{1}}", "uint32", a).tolist() == right
        reversed_bits = [int(t[::-1], 2) for t in texts]
        assert one(f"brev.b{bits} {{0}}, {{1}}", unsigned, a).tolist() == reversed_bits
        assert one(f"not.b{bits} {{0}}, {{1}}", unsigned, a).tolist() == [
            x ^ ((1 << bits) - 1) for x in a.tolist()
        ]


def test_fields_of_bits(rng):
    a, b = wholes(rng, "uint32"), wholes(rng, "uint32")
    start, size = (rng.choice([0, 1, 7, 16, 31, 32, 40], 400).astype(np.uint32) for _ in range(2))

    def field(x: int, at: int, n: int, signed: bool) -> int:
        # As PTX defines it, bit by bit.
        sign = 0 if not signed or n == 0 else x >> min(at + n - 1, 31) & 1
        return sum((x >> at + i & 1 if i < n and at + i <= 31 else sign) << i for i in range(32))

    four = list(zip(a.tolist(), b.tolist(), start.tolist(), size.tolist(), strict=True))
    for kind, signed in (("u32", False), ("s32", True)):
        got = one(f"bfe.{kind} {{0}}, {{1}}, {{2}}, {{3}}", "uint32", a, start, size)
        assert got.tolist() == [field(x, at, n, signed) for x, _, at, n in four], kind
    got = one("bfi.b32 {0}, {1}, {2}, {3}, {4}", "uint32", a, b, start, size)
    right = []
    for x, y, at, n in four:
        for i in range(min(n, 32 - at) if at < 32 else 0):
            y = y & ~(1 << at + i) | (x >> i & 1) << at + i
        right.append(y)
    assert got.tolist() == right
    for mode in ("wrap", "clamp"):
        by = [n % 32 if mode == "wrap" else min(n, 32) for n in start.tolist()]
        both = [y << 32 | x for x, y, _, _ in four]
        for way, right in (
            ("l", [(w << n) >> 32 for w, n in zip(both, by, strict=True)]),
            ("r", [w >> n for w, n in zip(both, by, strict=True)]),
        ):
            got = one(f"shf.{way}.{mode}.b32 {{0}}, {{1}}, {{2}}, {{3}}", "uint32", a, b, start)
            assert got.tolist() == [w % 2**32 for w in right], (way, mode)


def test_bytes_and_tables(rng):
    a, b, c = (wholes(rng, "uint32") for _ in range(3))
    got = one("prmt.b32 {0}, {1}, {2}, {3}", "uint32", a, b, c)
    for x, y, choice, found in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        eight = x.to_bytes(4, "little") + y.to_bytes(4, "little")
        picks = [choice >> 4 * k & 15 for k in range(4)]
        right = [255 * (eight[p & 7] >> 7) if p & 8 else eight[p & 7] for p in picks]
        assert found == int.from_bytes(bytes(right), "little")
    table = 0x1B
    got = one(f"lop3.b32 {{0}}, {{1}}, {{2}}, {{3}}, {table:#x}", "uint32", a, b, c)
    for x, y, z, found in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        index = [(x >> i & 1) * 4 + (y >> i & 1) * 2 + (z >> i & 1) for i in range(32)]
        assert found == sum((table >> j & 1) << i for i, j in enumerate(index))


def test_registers_in_parts():
    a = np.array([0x1122334455667788], np.uint64)
    assert one("mov.b64 {{%r5, %r6}}, {1}; mov.b64 {0}, {{%r6, %r5}}", "uint64", a) == [
        0x5566778811223344
    ]
    assert one("mov.b64 {{_, %r6}}, {1}; mov.b32 {0}, %r6", "uint32", a) == [0x11223344]
    assert one("mov.b64 {1}, -2; cvt.u32.u64 {0}, {1}", "uint32", a) == [2**32 - 2]
    assert one("mov.f32 %f1, 0f40490FDB; mov.b32 {0}, %f1", "float32", a) == [np.float32(np.pi)]
    assert one("mov.f64 {0}, 0d400921FB54442D18", "float64", a) == [np.pi]
