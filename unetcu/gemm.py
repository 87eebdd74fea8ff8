"""Matrix products on the CPU whose bits depend on nothing but the numbers in them.

BLAS adds the terms of a row in an order that may depend on how many rows the matrix has (edge
kernels, small-matrix kernels: with OpenBLAS 1 to 40 rows differ from the same rows inside 4096)
and on where the row stands (OpenBLAS for AVX2: rows 0-5 and rows 6-11 of every 12). `rows_times`
therefore always multiplies a fixed number of rows at a time, a number for which this BLAS was
seen to treat all rows alike, and pads the last block with zeros: a pixel's result is then the
same in a tile and in the whole image, which is what makes tiled prediction exact.
"""

import functools

import numpy as np

from .threads import each, in_order, scratch

BLOCKS = (64, 8, 1)  # 64 is large enough for full speed; 8 has 60-90 % of it; 1 is always right


@functools.cache
def block_rows(C: int, K: int, dtype: np.dtype) -> int:
    """The most rows of BLOCKS in which rows of C equal numbers, times (C, K), give equal bits."""
    draw = np.random.default_rng(0)
    for rows in BLOCKS:
        tries = 1 if rows == 1 else 2 + 64 // max(K, 1)  # few columns may agree by chance
        row = draw.random((tries, 1, C), np.float32).astype(dtype, copy=False)
        b = draw.random((C, K), np.float32).astype(dtype, copy=False)
        y = np.matmul(np.repeat(row, rows, axis=1), b)
        if (y == y[:, :1]).all():
            break
    return rows


def rows_times(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a @ b on the calling thread: a (P, C), b (C, K), out (P, K), all C-contiguous."""
    (P, C), K = a.shape, b.shape[1]
    rows = block_rows(C, K, a.dtype)
    blocks, rest = divmod(P, rows)
    full = P - rest
    np.matmul(a[:full].reshape(blocks, rows, C), b, out=out[:full].reshape(blocks, rows, K))
    if rest:
        tail = scratch("tail", (rows, C), a.dtype)
        tail[:rest], tail[rest:] = a[full:], 0
        out[full:] = np.matmul(tail, b)[:rest]


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, split over the threads by blocks of rows: a (P, C), b (C, K) -> (P, K)."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    out = np.empty((len(a), b.shape[1]), a.dtype)
    step = rows_a_part(len(a), a.shape[1], 1)

    def part(i: int) -> None:
        rows = slice(i * step, (i + 1) * step)
        rows_times(a[rows], b, out[rows])

    each(part, -(-len(a) // step))
    return out


def product_over_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """aᵀ @ b for tall a (P, C) and b (P, K) -> (C, K): blocks of rows, summed in their order."""
    step = rows_a_part(len(a), a.shape[1], 1)

    def part(i: int) -> np.ndarray:
        rows = slice(i * step, (i + 1) * step)
        return a[rows].T @ b[rows]

    return ordered_sum(part, max(1, -(-len(a) // step)))


def ordered_sum(part, parts: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """part(0) + part(1) + ..., always added in this order, whichever is ready first."""
    total: np.ndarray | None = None
    for term in in_order(part, parts):
        if total is None:
            total = term
        else:
            total += term
    assert total is not None
    return total


def rows_a_part(rows: int, terms: int, pixels: int) -> int:
    """How many of `rows` rows (each of `pixels` pixels with `terms` numbers) make one part.

    A part's numbers should stay in a core's cache (about 1 MB), yet have some 256 pixels or
    more, or the fixed costs of a part, such as summing its weight gradient, outweigh it.
    """
    per_part = max(2**18 // max(terms, 1), 256) / max(pixels, 1)
    parts = max(1, round(rows / max(per_part, 1)))
    return max(1, -(-rows // parts))
