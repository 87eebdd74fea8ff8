"""The SIMT runtime: wgmma, its layouts and its waits. Kernels are in tests/simt/wgmma.cu."""

import numpy as np
import pytest
from simt_launch import ORDERS, f32, i32
from simt_units import Unit, unit

from unetcu.precision import BF16, FP16, floats, stored


@pytest.fixture(scope="module")
def kernels() -> Unit:
    return unit("wgmma", "fast")


def product(kernels, entry, f16=0, fault=0, **how):
    """(what the kernel makes, what is right) of whole numbers."""
    N = int(entry.rpartition("_")[2])
    rng = np.random.default_rng(N + f16)
    kind = FP16 if f16 else BF16
    a, b = (stored(rng.integers(-4, 5, s).astype(f32), kind) for s in ((64, 16), (16, N)))
    d = np.zeros((64, N), f32)
    shared = 2 * 64 * 64 + 128 * (N if entry.startswith("plain") else N // 64 * 16)
    numbers = i32(f16), i32(fault)
    kernels.launch(
        entry, 1, 128, a.view(np.uint16), b.view(np.uint16), d, *numbers, shared=shared, **how
    )
    row, column = np.mgrid[:64, :N]
    start = column // 8 * 4 + row // 8 % 2 * 2 + column % 2
    return d, start + 2 * (floats(a) @ floats(b))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("f16", [0, 1])
@pytest.mark.parametrize("entry", ["plain_64", "plain_128", "turned_192", "mixed_128"])
def test_products_of_every_layout(kernels, entry, f16, order):
    got, right = product(kernels, entry, f16, order=order)
    assert np.array_equal(got, right)


@pytest.mark.parametrize("f16", [0, 1])
def test_numbers_of_every_kind_are_taken_for_what_they_are(kernels, f16):
    """Subnormal ones, infinities, NaN: a row of A holds one number, B ones."""
    patterns = np.resize(np.arange(0, 65536, 11, dtype=np.uint16), (94, 64))
    a, d = np.zeros((64, 16), np.uint16), np.zeros((64, 64), f32)
    b = stored(np.ones((16, 64), f32), FP16 if f16 else BF16).view(np.uint16)
    rows = np.arange(64)
    with np.errstate(invalid="ignore", over="ignore"):
        for numbers in patterns:
            a[rows, rows % 16] = numbers
            shared = 2 * 64 * 64 + 128 * 64
            kernels.launch("plain_64", 1, 128, a, b, d, i32(f16), i32(0), shared=shared)
            v = numbers.view(np.float16).astype(f32) if f16 else floats(numbers)
            start = (rows // 8 % 2 * 2).astype(f32)
            assert np.array_equal(d[:, 0], start + v + v, equal_nan=True)


def test_sums_are_poison_until_the_wait_that_covers_them(kernels):
    got, _ = product(kernels, "plain_64", fault=4)
    assert np.isnan(got).all()


def test_a_factor_that_is_overwritten_before_the_wait_shows(kernels):
    got, right = product(kernels, "plain_64", fault=3)
    assert not np.array_equal(got, right)


def test_misuse_is_an_error_with_its_line(kernels):
    with pytest.raises(RuntimeError, match="128-byte swizzling and no base offset"):
        product(kernels, "plain_64", fault=1)
    with pytest.raises(RuntimeError, match="a factor lies outside shared memory"):
        product(kernels, "plain_128", fault=2)


def test_a_factor_that_is_overwritten_is_a_race():
    checked = unit("wgmma", "checked")
    assert np.array_equal(*product(checked, "mixed_128", checked=True))
    with pytest.raises(RuntimeError, match=r"which thread .* has written at kernels/wgmma\.cu:33"):
        product(checked, "plain_64", fault=3, checked=True)
