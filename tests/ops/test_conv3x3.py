"""3x3 convolution: formula, slopes, whole numbers bit for bit, adjoints, one NaN, shapes.

On the CPU this is what its exact form obeys; test_conv3x3_fast.py is about the fast one.
"""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.conv3x3 import Conv3x3, conv3x3

pytestmark = pytest.mark.usefixtures("exact_form")
SHAPES = [  # N, H, W, C, K
    (1, 3, 3, 1, 1),
    (1, 3, 4, 1, 2),
    (2, 5, 3, 2, 3),
    (3, 4, 7, 3, 1),
    (1, 17, 9, 8, 9),
    (2, 9, 16, 9, 8),
    (1, 6, 33, 15, 16),
    (1, 12, 5, 16, 17),
    (3, 5, 11, 17, 15),
    (1, 7, 8, 33, 64),
    (1, 8, 7, 64, 33),
    (1, 3, 5000, 1, 2),
    (1, 5000, 3, 2, 1),
    (1, 66, 34, 3, 16),
    (2, 40, 22, 64, 8),  # several parts an image: rows_a_part
    (1, 130, 101, 3, 8),
]


def terms(N, H, W, C, K):
    pixels = N * (H - 2) * (W - 2)
    return 9 * C + 1, 9 * K, pixels, pixels


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    N, H, W, C, K = shape
    x, w = rng.standard_normal((N, H, W, C)), rng.standard_normal((3, 3, C, K))
    check_op(Conv3x3, on, x, w, rng.standard_normal(K), terms=terms(*shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes_with_relu(on, rng, shape):
    N, H, W, C, K = shape
    # Multiples of 1/16, and b a half step off: every sum stays away from the kink at 0.
    x, w = integers(rng, N, H, W, C) / 4, integers(rng, 3, 3, C, K) / 4
    b = integers(rng, K) / 4 + 1 / 32
    y = Conv3x3.reference(x, w, b)
    assert np.abs(y).min() >= 1 / 32
    assert ((y > 0).any() and (y < 0).any()) or y.size < 10
    check_op(Conv3x3, on, x, w, b, terms=terms(*shape), relu=True, step=1e-6)


def whole_numbers(x, w, b, g):
    """y, dx, dw, db in int64: windows and einsum forward, dealing out backward."""
    x, w, b, g = (a.astype(np.int64) for a in (x, w, b, g))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    y = np.einsum("nijcrs,rsck->nijk", windows, w) + b
    dw = np.einsum("nijcrs,nijk->rsck", windows, g)
    dx = np.zeros_like(x)
    for r, s in np.ndindex(3, 3):
        given = np.einsum("nijk,ck->nijc", g, w[r, s])
        dx[:, r : r + g.shape[1], s : s + g.shape[2]] += given
    return y, dx, dw, g.sum(axis=(0, 1, 2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_numbers_are_exact(on, rng, shape):
    N, H, W, C, K = shape
    x, w, b = integers(rng, N, H, W, C), integers(rng, 3, 3, C, K), integers(rng, K)
    dy = integers(rng, N, H - 2, W - 2, K)
    results = run(Conv3x3, on, [x, w, b], dy, [0, 1, 2])
    names = ["y", "dx", "dw", "db"]
    for name, got, right in zip(names, results, whole_numbers(x, w, b, dy), strict=True):
        same(got, right, name)
    y = results[0]
    results = run(Conv3x3, on, [x, w, b], dy, [0, 1, 2], relu=True)
    right = whole_numbers(x, w, b, dy * (y > 0))
    right = [np.maximum(y, 0), *right[1:]]  # y holds zeros: there the gradient is 0
    for name, got, correct in zip(names, results, right, strict=True):
        same(got, correct, name + " with ReLU")
    zero = np.zeros_like(b)
    y, dx, dw = run(Conv3x3, on, [x, w, zero], dy, [0, 1])
    assert inner(y, dy) == inner(x, dx) == inner(w, dw)


def test_one_nan_reaches_the_nine_pixels_that_see_it(on, rng):
    N, H, W, C, K = 2, 9, 11, 16, 8
    x, w = rng.standard_normal((N, H, W, C)), rng.standard_normal((3, 3, C, K))
    x, w, b = x.astype(np.float32), w.astype(np.float32), np.zeros(K, np.float32)
    for i, j in [(0, 0), (4, 5), (8, 10), (1, 9)]:
        spoiled = x.copy()
        spoiled[1, i, j, 3] = np.nan
        seen = np.zeros((N, H - 2, W - 2, K), bool)
        seen[1, max(i - 2, 0) : i + 1, max(j - 2, 0) : j + 1] = True
        for relu in (False, True):
            y = conv3x3(*(Tensor(a, on) for a in (spoiled, w, b)), relu=relu).numpy()
            assert np.array_equal(np.isnan(y), seen)


def test_one_nan_in_dy_reaches_what_depends_on_it(on, rng):
    N, H, W, C, K = 2, 6, 8, 3, 5
    x, w = integers(rng, N, H, W, C), integers(rng, 3, 3, C, K)
    dy = integers(rng, N, H - 2, W - 2, K)
    dy[1, 2, 4, 1] = np.nan
    _y, dx, dw, db = run(Conv3x3, on, [x, w, np.zeros(K, np.float32)], dy, [0, 1, 2])
    touched = np.zeros(dx.shape, bool)
    touched[1, 2:5, 4:7] = True
    assert np.array_equal(np.isnan(dx), touched)
    assert np.isnan(db[1])
    assert np.isnan(dw[..., 1]).all()
    assert not np.isnan(np.delete(dw, 1, 3)).any()
    assert not np.isnan(np.delete(db, 1)).any()


def test_no_gradient_flows_where_relu_gives_zero_or_nan(on):
    x = np.ones((1, 3, 5, 1), np.float32)
    x[0, 0, 4] = np.nan  # the last of three outputs sees it
    w = np.ones((3, 3, 1, 1), np.float32)
    for b, passes in [(-9.0, 0), (-8.0, 1), (-10.0, 0)]:
        bias = np.full(1, b, np.float32)
        y, db = run(Conv3x3, on, [x, w, bias], np.ones((1, 1, 3, 1), np.float32), [2], relu=True)
        assert np.isnan(y[0, 0, 2, 0])
        assert db[0] == 2 * passes


def test_a_nan_in_dy_stops_where_relu_is_closed(on):
    x, w, b = np.ones((1, 3, 4, 1), "f"), np.zeros((3, 3, 1, 1), "f"), np.full(1, -1, "f")
    dy = np.array([np.nan, 2], "f").reshape(1, 1, 2, 1)
    for result in run(Conv3x3, on, [x, w, b], dy, [0, 1, 2], relu=True):
        assert not result.any()


def test_without_a_gradient_for_x_the_others_are_the_same(on, rng):
    x, w, b = (rng.standard_normal(s).astype("f") for s in [(2, 9, 8, 3), (3, 3, 3, 4), (4,)])
    dy = rng.standard_normal((2, 7, 6, 4)).astype("f")
    y, _dx, dw, db = run(Conv3x3, on, [x, w, b], dy, [0, 1, 2], relu=True)
    y2, dw2, db2 = run(Conv3x3, on, [x, w, b], dy, [1, 2], relu=True)
    for a, b in [(y, y2), (dw, dw2), (db, db2)]:
        assert a.tobytes() == b.tobytes()


def test_any_number_of_threads_gives_the_same_bits(on, rng, monkeypatch):
    arrays = [rng.standard_normal(s).astype("f") for s in [(2, 60, 41, 16), (3, 3, 16, 9), (9,)]]
    dy = rng.standard_normal((2, 58, 39, 9)).astype("f")
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        bits.add(b"".join(r.tobytes() for r in run(Conv3x3, on, arrays, dy, [0, 1, 2], relu=True)))
    assert len(bits) == 1


# Channels for which BLAS gives a row other bits in a short matrix than in a long one.
@pytest.mark.parametrize("channels", [(1, 16), (8, 2), (16, 16), (16, 17), (32, 8), (64, 16)])
def test_a_window_of_the_image_gives_the_same_bits(on, rng, channels):
    """What makes tiled prediction exact: a pixel's value does not depend on where it stands."""
    C, K = channels
    x, w, b = (rng.standard_normal(s).astype("f") for s in [(2, 40, 37, C), (3, 3, C, K), (K,)])
    whole = conv3x3(Tensor(x, on), Tensor(w, on), Tensor(b, on), relu=True).numpy()
    for height, width in [(3, 3), (3, 4), (3, 30), (8, 19), (21, 7), (39, 36)]:
        n, i, j = rng.integers(2), rng.integers(0, 41 - height), rng.integers(0, 38 - width)
        cut = Tensor(x[n : n + 1, i : i + height, j : j + width], on)
        part = conv3x3(cut, Tensor(w, on), Tensor(b, on), relu=True).numpy()
        right = whole[n : n + 1, i : i + height - 2, j : j + width - 2]
        assert part.tobytes() == right.tobytes()


@pytest.mark.parametrize(
    ("x", "w", "b", "says"),
    [
        ((1, 2, 3, 1), (3, 3, 1, 1), (1,), "at least 3x3 pixels, got 2x3"),
        ((1, 3, 2, 1), (3, 3, 1, 1), (1,), "at least 3x3 pixels, got 3x2"),
        ((0, 3, 3, 1), (3, 3, 1, 1), (1,), "needs an image, a channel and a filter"),
        ((1, 3, 3, 0), (3, 3, 0, 1), (1,), "needs an image, a channel and a filter"),
        ((1, 3, 3, 1), (3, 3, 1, 0), (0,), "needs an image, a channel and a filter"),
        ((3, 3, 1), (3, 3, 1, 1), (1,), r"x \(N,H,W,C\)"),
        ((1, 3, 3, 2), (3, 3, 1, 1), (1,), r"got x \(1, 3, 3, 2\)"),
        ((1, 3, 3, 1), (2, 3, 1, 1), (1,), r"w \(3,3,C,K\)"),
        ((1, 3, 3, 1), (3, 2, 1, 1), (1,), r"w \(3,3,C,K\)"),
        ((1, 3, 3, 1), (3, 3, 1), (1,), r"w \(3,3,C,K\)"),
        ((1, 3, 3, 1), (3, 3, 1, 2), (1,), r"b \(K\)"),
        ((1, 3, 3, 1), (3, 3, 1, 2), (), r"b \(K\)"),
    ],
)
def test_shapes_that_do_not_fit(on, x, w, b, says):
    with pytest.raises(ShapeError, match=says):
        conv3x3(*(Tensor(np.zeros(s, np.float32), on) for s in (x, w, b)))
