"""Matrix products on the CPU whose bits depend on nothing but the numbers in them.

BLAS adds the terms of a row in an order that may depend on how many rows the matrix has and on
where the row stands (edge kernels, small-matrix kernels: with OpenBLAS 1 to 40 rows differ from
the same rows inside 4096). `rows_times` therefore always multiplies exactly ROWS rows at a
time, padding the last block with zeros: a pixel's result is then the same in a tile and in the
whole image, which is what makes tiled prediction exact.
"""

import numpy as np

from .threads import each, in_order, scratch

ROWS = 64  # large enough for full speed (85-100 GFLOP/s a core from 64 to 4096 rows)


def rows_times(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a @ b on the calling thread: a (P, C), b (C, K), out (P, K), all C-contiguous."""
    P, C = a.shape
    full = P // ROWS * ROWS
    if full:
        np.matmul(a[:full].reshape(-1, ROWS, C), b, out=out[:full].reshape(-1, ROWS, b.shape[1]))
    if full < P:
        tail = scratch("tail", (ROWS, C), a.dtype)
        tail[: P - full] = a[full:]
        tail[P - full :] = 0
        out[full:] = np.matmul(tail, b)[: P - full]


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

    return ordered_sum(part, -(-len(a) // step))


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
    return -(-rows // parts)
