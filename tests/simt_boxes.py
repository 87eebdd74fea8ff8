"""What the tests of boxes on the SIMT runtime share. Kernels are in tests/simt/boxes.cu."""

import numpy as np
from simt_launch import i32
from simt_units import unit

MODES = ("fast", "checked")
u16 = np.uint16
X = np.arange(1, 4001, dtype=u16)  # no zero among them, and no poison


def boxes_at(view, at):
    """What a copy puts into shared memory: rows of 64 numbers, of which piece j (of 8) of row i
    lies at j xor i % 8; zeros outside the sizes."""
    x, start, sizes, strides, box = view
    where, valid = start, True
    for d, (size, stride, count, first) in enumerate(zip(sizes, strides, box, at, strict=True)):
        index = (first + np.arange(count)).reshape([-1] + [1] * d)
        where = where + index * stride
        valid = valid & (index >= 0) & (index < size)
    rows = np.where(valid, x[np.where(valid, where, 0)], 0).reshape(-1, 8, 8)
    i, j = np.ogrid[: len(rows), :8]
    swizzled = np.empty_like(rows)
    swizzled[i, j ^ i % 8] = rows
    return swizzled.reshape(-1)


def run(entry, mode, order, threads, *args, shared, **how):
    unit("boxes", mode).launch(
        entry, 1, threads, *args, shared=shared, order=order, checked=mode == "checked", **how
    )


def plain(*sizes, box, start=0):
    """The view of X as a dense array of these sizes."""
    return X, start, sizes, tuple(int(np.prod(sizes[:d])) for d in range(len(sizes))), box


def ring(mode, order, fault=0, rounds=11, warps=2):
    """(what consumers have read, what is right)"""
    n, view = 512, plain(64, 20, 1, box=(64, 8, 1))
    y = np.zeros(rounds * n, u16)
    numbers = map(i32, (n, rounds, fault))
    run("ring", mode, order, 32 * warps + 32, view, y, *numbers, shared=4 * n)
    return y, np.concatenate([boxes_at(view, (0, i, 0)) for i in range(rounds)])
