"""2x2 max-pool: formula, slopes, ties, NaN, infinities, shapes."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.maxpool2 import MaxPool2, maxpool2
from unetcu.ops.reduce import sum as total

SHAPES = [  # N, H, W, C
    (1, 2, 2, 1),
    (1, 2, 4, 3),
    (3, 6, 2, 2),
    (2, 4, 10, 8),
    (1, 14, 6, 9),
    (1, 8, 4, 15),
    (2, 6, 8, 16),
    (1, 4, 6, 17),
    (1, 6, 4, 33),
    (3, 2, 6, 64),
    (1, 4, 5000, 1),
    (1, 5000, 2, 2),
    (1, 32, 32, 1),  # 256 windows: a block
    (1, 6, 34, 5),
    (1, 2, 514, 1),
    (2, 20, 18, 16),
    (3, 14, 22, 33),
]


def windows(x):
    """Every window's four numbers in row order, one window after the other, by plain loops."""
    N, H, W, C = x.shape
    for n, i, j, c in np.ndindex(N, H // 2, W // 2, C):
        places = [(n, 2 * i + a, 2 * j + e, c) for a in (0, 1) for e in (0, 1)]
        yield (n, i, j, c), places


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    size = int(np.prod(shape))
    x = rng.permutation(size).reshape(shape) - size / 2.0  # no two nearer than 1
    check_op(MaxPool2, on, x, terms=(0, 0), scale="own", step=0.2)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[2] < 100 and s[1] < 100], ids=str)
def test_whole_numbers_with_ties(on, rng, shape):
    N, H, W, C = shape
    x = rng.integers(-1, 2, shape).astype(np.float32)  # nearly every window has a tie
    dy = integers(rng, N, H // 2, W // 2, C)
    y, dx = run(MaxPool2, on, [x], dy, [0])
    right_y, right_dx = np.zeros_like(y), np.zeros_like(x)
    for at, places in windows(x):
        right_y[at] = max(x[p] for p in places)
        first = next(p for p in places if x[p] == right_y[at])
        right_dx[first] = dy[at]
    same(y, right_y, "y")
    same(dx, right_dx, "dx")
    assert inner(y, dy) == inner(x, dx)


@pytest.mark.parametrize("shape", [(2, 4, 10, 8), (1, 4, 6, 17), (1, 6, 4, 33)], ids=str)
@pytest.mark.parametrize("pooled_last", [True, False])
def test_adds_to_the_gradient_that_x_got_elsewhere(on, rng, shape, pooled_last):
    """A skip map is pooled and used again; whichever is made first, its gradient is the sum."""
    N, H, W, C = shape
    x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
    dy = integers(rng, N, H // 2, W // 2, C)
    leaf = Tensor(x, on, needs_grad=True)
    skip = leaf * Tensor(np.ones(shape, np.float32), on)  # no leaf: gradients meet at an op
    uses = [total(maxpool2(skip) * Tensor(dy, on)), total(skip)]
    (uses[pooled_last] + uses[not pooled_last]).backward()
    right = np.ones(shape, np.float32)
    for at, places in windows(x):
        right[max(places, key=lambda p: x[p])] += dy[at]
    same(leaf.device.get(leaf.grad), right, "dx")


def test_every_pattern_of_nan_and_infinity(on):
    """All 4^4 windows of NaN, -inf, 0, inf: the first NaN wins, else the first of the largest."""
    values = np.array([np.nan, -np.inf, 0, np.inf], np.float32)
    patterns = values[np.indices((4, 4, 4, 4)).reshape(4, -1).T]  # (256, 4)
    x = patterns.reshape(16, 16, 2, 2).transpose(0, 2, 1, 3).reshape(1, 32, 32, 1)
    y, dx = run(MaxPool2, on, [x], np.ones((1, 16, 16, 1), np.float32), [0])
    for at, places in windows(x):
        four = [x[p] for p in places]
        nan = [k for k, v in enumerate(four) if v != v]
        winner = nan[0] if nan else four.index(max(four))
        same(y[at], four[winner], str(four))
        assert [dx[p] for p in places] == [float(k == winner) for k in range(4)], four


def test_no_windows(on):
    y, dx = run(MaxPool2, on, [np.zeros((0, 4, 6, 3), "f")], np.zeros((0, 2, 3, 3), "f"), [0])
    assert (y.shape, dx.shape) == ((0, 2, 3, 3), (0, 4, 6, 3))


def test_one_nan_reaches_its_window_alone(on, rng):
    x = integers(rng, 2, 8, 6, 3)
    x[1, 3, 4, 2] = np.nan
    y, dx = run(MaxPool2, on, [x], integers(rng, 2, 4, 3, 3), [0])
    assert np.argwhere(np.isnan(y)).tolist() == [[1, 1, 2, 2]]
    assert not np.isnan(dx).any()


def test_one_nan_in_dy_reaches_the_winner_alone(on):
    x = np.array([[0, 1], [2, 3]], np.float32).reshape(1, 2, 2, 1)
    _y, dx = run(MaxPool2, on, [x], np.full((1, 1, 1, 1), np.nan, np.float32), [0])
    same(dx.ravel(), np.array([0, 0, 0, np.nan], np.float32), "dx")


def test_any_number_of_threads_gives_the_same_bits(on, rng, monkeypatch):
    x, dy = rng.standard_normal((2, 40, 42, 9)), rng.standard_normal((2, 20, 21, 9))
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        results = run(MaxPool2, on, [x.astype("f")], dy.astype("f"), [0])
        bits.add(b"".join(r.tobytes() for r in results))
    assert len(bits) == 1


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1), (4, 4, 1), (1, 1, 1, 1)])
def test_shapes_that_do_not_fit(on, shape):
    with pytest.raises(ShapeError, match=r"even H and W, got .*valid_sizes"):
        maxpool2(Tensor(np.zeros(shape, np.float32), on))
