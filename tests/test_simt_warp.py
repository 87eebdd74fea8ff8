"""The SIMT runtime: what the lanes of a warp do together, and asynchronous copies.

Kernels are in tests/simt/runtime.cu.
"""

import numpy as np
import pytest
from simt_launch import ORDERS, error, f32, i32, line_of
from simt_units import Unit, unit

LANES = np.arange(32)


@pytest.fixture(scope="module")
def kernels() -> Unit:
    return unit("runtime", "fast")


def source_lanes(kind: int, by: int, width: int) -> np.ndarray:
    """shfl.sync as the PTX ISA writes it down: idx, up, down, bfly."""
    clamp = 0 if kind == 1 else 31
    segment = 32 - width  # bits of the mask that are fixed within a segment
    most, least = (LANES & segment) | (clamp & ~segment), LANES & segment
    j = [least | (by & ~segment & 31), LANES - by, LANES + by, LANES ^ by][kind]
    valid = j >= most if kind == 1 else j <= most
    return np.where(valid, j, LANES)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", range(4))
def test_shuffles(kernels: Unit, kind: int, order: str) -> None:
    x = np.random.default_rng(kind).standard_normal((2, 32)).astype(f32)
    for width in (1, 2, 4, 8, 16, 32):
        for by in (0, 1, 2, 3, 7, 16, 31):
            y = np.zeros_like(x)
            numbers = i32(kind), i32(by), i32(width)
            kernels.launch("shuffle", 1, 64, x, y, *numbers, order=order)
            assert np.array_equal(y, x[:, source_lanes(kind, by, width)]), (width, by)


def test_shuffles_of_parts_and_of_eight_bytes(kernels: Unit) -> None:
    y = np.zeros(32, i32)
    kernels.launch("shuffle_halves", 1, 32, y, i32(5))
    assert y.tolist() == [5] * 16 + [21] * 16
    said = error(kernels, "shuffle_halves", 1, 32, y, i32(16), order="forward")
    assert "lane 0 reads from lane 16, which takes no part" in said
    x, wide = np.random.default_rng(0).standard_normal(64), np.zeros(64)
    kernels.launch("shuffle_wide", 1, 64, x, wide)
    assert np.array_equal(wide, x[np.arange(64) ^ 9])
    x = np.zeros(32, f32)
    said = error(kernels, "shuffle", 1, 32, x, x, i32(0), i32(0), i32(12))
    assert "the width is 12, which is no power of two up to 32" in said


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("threads", "leave"), [(64, 0), (50, 0), (64, 5)])
def test_votes(kernels: Unit, threads: int, leave: int, order: str) -> None:
    for yes in (0.0, 0.5, 1.0):
        x = (np.random.default_rng(1).random(64) < yes).astype(i32)
        y = np.zeros((64, 3), np.uint32)
        kernels.launch("warp_votes", 1, threads, x, y, i32(leave), order=order)
        for first in (0, 32):
            there = [t for t in range(first, first + 32) if leave <= t < threads]
            ballot = sum(int(x[t]) << t % 32 for t in there)
            want = [ballot, int(any(x[there])), int(all(x[there]))]
            assert all(y[t].tolist() == want for t in there)


@pytest.mark.parametrize("order", ORDERS)
def test_syncwarp(kernels: Unit, order: str) -> None:
    x, y = np.arange(64, dtype=i32) ** 2, np.zeros(64, i32)
    kernels.launch("warp_sums", 1, 64, x, y, order=order)
    assert y.tolist() == [int(x[:32].sum())] * 32 + [int(x[32:].sum())] * 32


def test_lanes_that_do_not_meet(kernels: Unit) -> None:
    y, line = np.zeros(64, i32), line_of(kernels, "wrong_mask")
    assert error(kernels, "wrong_mask", 1, 64, y) == (
        f"wrong_mask: block (0,0,0) thread (1,0,0): __syncwarp at kernels/runtime.cu:{line}: "
        "lane 1 calls with mask 0x55555555, which leaves it out"
    )
    said = error(kernels, "different_masks", 1, 64, y)
    assert "lane 1 has come to __syncwarp" in said
    assert "with mask 0x00000003, lane 0 to __syncwarp" in said
    line = line_of(kernels, "two_collectives")
    assert error(kernels, "two_collectives", 1, 64, y) == (
        "two_collectives: block (0,0,0) thread (16,0,0): lanes of a warp diverge: lane 16 has come "
        f"to __all_sync at kernels/runtime.cu:{line} with mask 0xffffffff, lane 0 to __any_sync "
        f"at kernels/runtime.cu:{line - 2} with mask 0xffffffff"
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("trans", [False, True])
def test_ldmatrix(kernels: Unit, trans: bool, order: str) -> None:
    x = np.random.default_rng(0).integers(0, 2**16, (4, 8, 8), dtype=np.uint16)
    y = np.zeros((32, 7), np.uint32)
    kernels.launch("load_matrices", 1, 32, x, y, i32(trans), order=order)
    matrices = x.swapaxes(1, 2) if trans else x
    # Row by row, four lanes a row, two elements a lane.
    fragments = np.ascontiguousarray(matrices).reshape(4, 32, 2).astype(np.uint32)
    want = (fragments[..., 0] | fragments[..., 1] << 16).T
    assert np.array_equal(y, want[:, [0, 1, 2, 3, 0, 1, 0]])


def test_ldmatrix_misused(kernels: Unit) -> None:
    x, y = np.zeros(64, np.uint16), np.zeros(32, np.uint32)
    where = f"ldmatrix.x1 at kernels/runtime.cu:{line_of(kernels, 'load_badly')}"
    said = error(kernels, "load_badly", 1, 32, x, y, i32(4))
    assert f"{where}: the address of a row is no multiple of 16" in said
    said = error(kernels, "load_badly", 1, 32, x, y, i32(-1), guard="after")
    assert f"{where}: a row lies outside shared memory" in said
    line = line_of(kernels, "multiply_by_some")
    said = error(kernels, "multiply_by_some", 1, 32, np.zeros(32, f32))
    assert f"mma.m16n8k8 tf32 at kernels/runtime.cu:{line} needs all 32 lanes" in said


def halves(values: np.ndarray, bf16: bool) -> tuple[np.ndarray, np.ndarray]:
    """float32 -> bits of 16, and what they are worth."""
    if not bf16:
        half = values.astype(np.float16)
        return half.view(np.uint16), half.astype(np.float64)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(f32).astype(np.float64)


# Where each lane's elements lie, in the words of the PTX ISA ("Matrix fragments for mma.m16n8k16
# with floating point type", and "mma.m16n8k8").
GROUP, IN_GROUP = LANES[:, None] >> 2, LANES[:, None] % 4
I8, I4, I2 = np.arange(8), np.arange(4), np.arange(2)
A16 = (
    np.where((I8 < 2) | ((I8 >= 4) & (I8 < 6)), GROUP, GROUP + 8),
    IN_GROUP * 2 + (I8 & 1) + np.where(I8 >= 4, 8, 0),
)
B16 = IN_GROUP * 2 + (I4 & 1) + np.where(I4 >= 2, 8, 0), GROUP + 0 * I4
D = np.where(I4 < 2, GROUP, GROUP + 8), IN_GROUP * 2 + (I4 & 1)
A8 = np.where(I4 % 2 == 0, GROUP, GROUP + 8), np.where(I4 < 2, IN_GROUP, IN_GROUP + 4)
B8 = np.where(I2 == 0, IN_GROUP, IN_GROUP + 4), GROUP + 0 * I2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["bf16", "f16", "tf32"])
def test_mma(kernels: Unit, kind: str, order: str) -> None:
    r, K = np.random.default_rng(7), 8 if kind == "tf32" else 16
    a, b, d = (r.standard_normal(s).astype(f32) for s in ((16, K), (K, 8), (16, 8)))
    a[3, 2], a[4, 1] = 1e-5, -3e-8  # subnormal as f16
    if kind == "tf32":
        exact_a, exact_b = ((m.view(np.uint32) & 0xFFFFE000).view(f32) for m in (a, b))
        bits = np.ascontiguousarray(a[A8]).view(np.uint32), np.ascontiguousarray(b[B8])
    else:
        (bits_a, exact_a), (bits_b, exact_b) = (halves(m, kind == "bf16") for m in (a, b))
        bits = bits_a[A16].view(np.uint32), bits_b[B16].view(np.uint32)
    fragments = np.ascontiguousarray(d[D])
    format = i32(("bf16", "f16", "tf32").index(kind))
    kernels.launch(
        "multiply", 1, 32, bits[0], bits[1].view(np.uint32), fragments, format, order=order
    )
    got = np.zeros((16, 8), f32)
    got[D] = fragments
    exact_a, exact_b = exact_a.astype(np.float64), exact_b.astype(np.float64)
    size = abs(exact_a) @ abs(exact_b) + abs(d)
    assert (abs(got - (exact_a @ exact_b + d)) <= (2 * (K + 1) ** 0.5 + 4) * 2**-24 * size).all()


def test_f16_infinities_and_nan(kernels: Unit) -> None:
    a, b = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32)
    a[0, 0], a[4, 0], a[8, 0] = 0x7C00, 0xFC00, 0x7E00  # +Inf, -Inf, NaN at (0..2, 0)
    b[0, 0] = 0x3C00  # 1 at (0, 0)
    d = np.zeros((32, 4), f32)
    kernels.launch("multiply", 1, 32, a, b, d, i32(1))
    assert d[0, 0] == np.inf
    assert d[4, 0] == -np.inf
    assert np.isnan(d[8, 0])


@pytest.mark.parametrize("order", ORDERS)
def test_ldmatrix_feeds_mma(kernels: Unit, order: str) -> None:
    r = np.random.default_rng(8)
    a, b = (r.integers(-8, 9, s).astype(f32) for s in ((16, 16), (16, 8)))
    d = np.zeros((16, 8), f32)
    bits = halves(a, True)[0], halves(b, True)[0]
    kernels.launch("multiply_tiles", 1, 32, *bits, d, shared=768, order=order)
    assert np.array_equal(d, a @ b)


def test_copies_come_late(kernels: Unit) -> None:
    x, y = np.arange(1, 9, dtype=f32), np.zeros((3, 8), f32)
    kernels.launch("copies", 1, 1, x, y, shared=32)
    assert np.isnan(y[0]).all()
    assert y[1, :4].tolist() == [1, 77, 3, 4]
    assert np.isnan(y[1, 4:]).all()
    assert y[2].tolist() == [1, 77, 3, 4, 5, 0, 0, 8]


@pytest.mark.parametrize(
    ("to", "source", "valid", "what"),
    [
        (1, 0, 8, "the target is not aligned to 8 bytes"),
        (0, 1, 8, "the source is not aligned to 8 bytes"),
        (4, 0, 8, "the target lies outside shared memory"),
        (-1, 0, 8, "the target lies outside shared memory"),
        (0, 0, 9, "9 of 8 bytes cannot be valid"),
    ],
)
def test_copies_misused(kernels: Unit, to: int, source: int, valid: int, what: str) -> None:
    x, y = np.zeros(4, f32), np.zeros(4, f32)
    numbers = i32(to), i32(source), i32(valid)
    line = line_of(kernels, "copy_badly")
    said = error(kernels, "copy_badly", 1, 1, x, y, *numbers, shared=16)
    assert said.endswith(f"cp.async at kernels/runtime.cu:{line}: {what}")
    kernels.launch("copy_badly", 1, 1, x, y, i32(0), i32(2), i32(8), shared=16, guard="after")
    said = error(
        kernels, "copy_badly", 1, 1, x, y, i32(0), i32(4), i32(4), shared=16, guard="after"
    )
    assert said.endswith("reads memory it may not: 0 bytes past the end of x")
