"""Matrix products: a row's bits depend on nothing but the row, sums are added in one order."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from unetcu import gemm, threads
from unetcu.gemm import block_rows, ordered_sum, product, product_over_rows, rows_a_part, rows_times

SHAPES = [  # C, K of a convolution, an up-convolution or the head, and edges
    (1, 1),
    (3, 1),
    (9, 16),
    (27, 8),
    (64, 1),
    (64, 2),
    (72, 1),
    (72, 12),
    (144, 16),
    (144, 17),
    (153, 31),
    (288, 32),
    (576, 64),
]


def unlike_rows(dtype, shapes=SHAPES):
    """The cases in which a row's bits depend on its place or on the number of rows."""
    rng, found = np.random.default_rng(0), []
    for C, K in shapes:
        a, b = rng.standard_normal((150, C)).astype(dtype), rng.standard_normal((C, K))
        b = b.astype(dtype)

        def times(rows, b=b, K=K):
            out = np.empty((len(rows), K), rows.dtype)
            rows_times(np.ascontiguousarray(rows), b, out)
            return out

        whole = times(a)
        for start, stop in [(0, 1), (1, 2), (5, 6), (7, 71), (11, 139), (63, 150), (100, 131)]:
            if times(a[start:stop]).tobytes() != whole[start:stop].tobytes():
                found.append((C, K, start, stop))
        if times(a[::-1])[::-1].tobytes() != whole.tobytes():
            found.append((C, K, "reversed"))
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_the_same_bits_in_every_place(dtype):
    with threads.one_blas_thread():
        assert unlike_rows(dtype) == []


# Processors whose OpenBLAS kernels add in unlike orders; a newer one can play them all.
@pytest.mark.parametrize("kind", ["Haswell", "Sandybridge", "Nehalem"])
def test_a_row_has_the_same_bits_in_every_place_on_other_processors(kind):
    """Where NumPy's BLAS is another one the variable changes nothing, and the test is the above."""
    program = (
        "import numpy, test_gemm, test_unet_tiles, unetcu.threads as threads\n"
        "with threads.one_blas_thread():\n"
        "    rows = test_gemm.unlike_rows(numpy.float32, [(9, 16), (72, 1), (64, 2), (144, 17)])\n"
        "print(rows + test_unet_tiles.unlike_tiles())"
    )
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here)])
    environment = {**os.environ, "OPENBLAS_CORETYPE": kind, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -getattr(signal, "SIGILL", 4):
        return  # this processor is too old to play that one
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_block_shrinks_until_all_rows_are_alike(monkeypatch):
    """With a product that treats the row in place 5 of every 12 unlike the others."""
    honest = np.matmul

    def lame(a, b, **options):
        y = honest(a, b, **options)
        y[..., 5::12, :] *= np.float32(1 + 1e-6)
        return y

    block_rows.cache_clear()
    try:
        monkeypatch.setattr(gemm.np, "matmul", lame)
        assert block_rows(20, 7, np.dtype(np.float32)) == 1
        block_rows.cache_clear()
        monkeypatch.setattr(gemm, "BLOCKS", (64, 4, 1))
        assert block_rows(20, 7, np.dtype(np.float32)) == 4
    finally:
        block_rows.cache_clear()


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 63, 64, 65, 128, 1000, 3001])
def test_products_of_whole_numbers(rng, rows):
    C, K = 37, 5
    a = rng.integers(-9, 9, (rows, C)).astype(np.float32)
    b = rng.integers(-9, 9, (C, K)).astype(np.float32)
    g = rng.integers(-9, 9, (rows, K)).astype(np.float32)
    assert np.array_equal(product(a, b), np.einsum("pc,ck->pk", a.astype(int), b.astype(int)))
    right = np.einsum("pc,pk->ck", a.astype(int), g.astype(int))
    assert np.array_equal(product_over_rows(a, g), right)
    # neither operand need be contiguous
    wide = np.repeat(a, 2, axis=1)
    assert np.array_equal(product(wide[:, ::2], b.T.copy().T), product(a, b))


def test_the_padding_is_not_read_from_old_memory(monkeypatch):
    """Old memory may hold anything: infinities that cost warnings, denormals that cost time."""
    given = []

    def spoiled(key, shape, dtype):
        given.append(np.full(shape, np.inf, dtype))
        return given[-1]

    monkeypatch.setattr(gemm, "scratch", spoiled)
    out = np.empty((3, 2), np.float32)
    rows_times(np.ones((3, 4), np.float32), np.ones((4, 2), np.float32), out)
    assert (out == 4).all()
    assert len(given) == 1
    assert (given[0][:3] == 1).all()
    assert (given[0][3:] == 0).all()


def test_any_number_of_threads_gives_the_same_bits(rng, monkeypatch):
    a, b = rng.standard_normal((7001, 60)).astype("f"), rng.standard_normal((60, 24)).astype("f")
    g = rng.standard_normal((7001, 24)).astype("f")
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        bits.add(product(a, b).tobytes() + product_over_rows(a, g).tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_sums_are_added_in_the_order_of_the_parts(monkeypatch, n):
    """1e8 + 1 - 1e8 is 0 in float32, in another order 1."""
    monkeypatch.setattr(threads, "_count", n)
    terms = np.array([1e8, 1, -1e8, 1, 2, -3, 1e8, 5], np.float32)
    right = np.float32(0)
    for t in terms:
        right += t
    got = ordered_sum(lambda i: terms[i : i + 1].copy(), len(terms))
    assert got.tolist() == [right]


def test_parts_follow_from_the_shape_alone():
    for rows, term_count, pixels in [(570, 9, 570), (280, 1152, 280), (28, 9216, 28), (1, 1, 1)]:
        size = rows_a_part(rows, term_count, pixels)
        assert 1 <= size <= rows
        parts = -(-rows // size)
        assert size * pixels >= 128 or parts == 1
        # the columns of a part stay near a megabyte, unless one row alone is more
        assert size == 1 or size * pixels * term_count <= 2**19 or size * pixels <= 512
    assert rows_a_part(0, 5, 5) == 1
