"""Checked mode of the SIMT runtime: kernels without a mistake are not accused, and compute."""

from typing import Any

import numpy as np
import pytest
from simt_units import unit

N = 128


def right_cases(rng: np.random.Generator) -> dict[str, tuple[Any, ...]]:
    """kernel: grid, block, x, y before, n, y behind, bytes of dynamic shared memory.

    The numbers are small and whole, so that sums are exact in any order.
    """

    def whole(*shape: int) -> np.ndarray:
        return rng.integers(-50, 50, shape).astype(np.float32)

    def fresh(count: int, dtype: Any = np.float32) -> np.ndarray:
        return np.full(count * np.dtype(dtype).itemsize, 255, np.uint8).view(dtype)

    square, x, small = whole(40, 40), whole(N), rng.integers(0, 50, N).astype(np.uint8)
    weights = np.resize(np.array([0.125, 0.25, 0.5, 1], np.float32), 9)
    chosen = rng.integers(0, 100, 128).astype(np.int32)
    turned = np.concatenate([small[:64][::-1], small[64:][::-1]])
    return {
        "transpose": ((3, 3), (16, 16), square, fresh(1600), 40, square.T.ravel()),
        "block_reduction": (2, 128, x, fresh(2), 100, [x[:100].sum(), 0]),
        "warp_reduction": (1, 128, x, fresh(N), N, x.reshape(4, 32).sum(1).repeat(32)),
        "half_warps": (1, 32, x, fresh(32), N, 2 * x[np.arange(32) ^ 9]),
        "chain_of_lanes": (1, 32, x, fresh(1), N, [x[0] + 1]),
        "double_buffer": (1, 64, x, fresh(64), N, np.full(64, x.sum())),
        "pipeline": (1, 64, whole(1024), fresh(64), 1024, None, 4 * 3 * 128),
        "everybody_reads": (2, 64, x, fresh(N), N, np.full(N, (x[:9] ** 2 * weights).sum() + x[8])),
        "small_elements": (2, 64, small, fresh(N, np.uint8), N, 3 * (small + turned)),
        "in_place": (2, 64, x, 2 * x[::-1], 100, None),
        "atomics": (4, 64, chosen, np.zeros(4, np.int32), N, 4 * np.bincount(chosen[:64] & 3)),
        "atomics_of_a_warp": (
            *(1, 64, chosen, fresh(64, np.int32), N),
            chosen[:64].reshape(2, 32).sum(1).repeat(32),
        ),
        "fours": (1, 32, x, fresh(N), N, x[::-1]),
        "local_array": (1, 32, x, fresh(32), N, 28 * x[:32] + 1),
        "shuffles": (1, 64, x, fresh(4), N, x[:64].reshape(2, 32).sum(1)[[0, 1, 1, 0]]),
        "early_return": (2, 64, x, np.zeros(N, np.float32), 100, None),
        "through_the_array": (2, 64, x, fresh(N), N, x.reshape(2, 64)[:, ::-1].ravel()),
    }


def test_an_input_of_integers_may_be_all_ones():
    labels, y = np.full(64, -1, np.int32), np.zeros(4, np.int32)
    unit("right_kernels", "checked").launch("atomics", 1, 64, labels, y, np.int32(64), checked=True)
    assert y.tolist() == [0, 0, 0, 64]


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
def test_right_kernels_are_not_accused(rng, order):
    cases = right_cases(rng)
    loaded = unit("right_kernels", "checked")
    assert set(loaded.names) == set(cases)
    for entry, (grid, block, x, y, n, expected, *shared) in cases.items():
        made = y.copy()
        if entry == "pipeline":
            rows = x.reshape(8, 2, 64)
            expected = (rows[:, 0, ::-1] + rows[:, 1]).sum(axis=0)
        if entry == "in_place":
            expected = np.where(np.arange(N) < n, y / 2 + x, y)
        if entry == "early_return":
            expected = np.where(np.arange(N) < n, np.cumsum(x), 0)
        loaded.launch(
            entry, grid, block, x, made, np.int32(n), checked=True, order=order, shared=sum(shared)
        )
        np.testing.assert_array_equal(made, expected, err_msg=entry)
