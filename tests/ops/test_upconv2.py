"""2x2 up-convolution: formula, slopes, whole numbers bit for bit, adjoints, one NaN, shapes."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.upconv2 import UpConv2, upconv2

SHAPES = [  # N, H, W, C, K
    (1, 1, 1, 1, 1),
    (1, 1, 2, 2, 1),
    (2, 3, 5, 3, 1),
    (3, 7, 4, 1, 3),
    (1, 8, 9, 8, 9),
    (2, 9, 7, 9, 8),
    (1, 16, 5, 15, 16),
    (1, 4, 17, 16, 17),
    (3, 5, 3, 17, 15),
    (1, 6, 11, 33, 64),
    (1, 5, 7, 64, 32),
    (1, 3, 5000, 2, 1),
    (2, 37, 29, 16, 8),
    (1, 8, 8, 16, 16),  # tiles of 64 by 64 = 4 * 16, in steps of 16
    (1, 7, 9, 65, 15),
    (1, 5, 13, 63, 17),
    (3, 8, 16, 17, 33),
    (1, 32, 32, 16, 3),  # 1024 pixels a part
    (1, 25, 41, 3, 16),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    N, H, W, C, K = shape
    arrays = (rng.standard_normal(s) for s in [(N, H, W, C), (2, 2, C, K), (K,)])
    check_op(UpConv2, on, *arrays, terms=(C + 1, 4 * K, N * H * W, 4 * N * H * W))


def whole_numbers(x, w, b, g):
    """y, dx, dw, db in int64; places of the output patch as axes a and e of one einsum."""
    x, w, b, g = (a.astype(np.int64) for a in (x, w, b, g))
    N, H, W, _ = x.shape
    y = np.einsum("nijc,aeck->niajek", x, w).reshape(N, 2 * H, 2 * W, -1) + b
    patches = g.reshape(N, H, 2, W, 2, -1)
    dx = np.einsum("niajek,aeck->nijc", patches, w)
    return y, dx, np.einsum("nijc,niajek->aeck", x, patches), g.sum((0, 1, 2))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_numbers_are_exact(on, rng, shape):
    N, H, W, C, K = shape
    x, w, b = integers(rng, N, H, W, C), integers(rng, 2, 2, C, K), integers(rng, K)
    dy = integers(rng, N, 2 * H, 2 * W, K)
    results = run(UpConv2, on, [x, w, b], dy, [0, 1, 2])
    names = ["y", "dx", "dw", "db"]
    for name, got, right in zip(names, results, whole_numbers(x, w, b, dy), strict=True):
        same(got, right, name)
    y, dx, dw = run(UpConv2, on, [x, w, np.zeros_like(b)], dy, [0, 1])
    assert inner(y, dy) == inner(x, dx) == inner(w, dw)


def test_a_pixel_paints_its_patch_in_row_order(on):
    x = np.zeros((1, 2, 3, 1), np.float32)
    x[0, 1, 2] = 1
    w = np.array([[1, 2], [3, 4]], np.float32).reshape(2, 2, 1, 1)
    y = upconv2(Tensor(x, on), Tensor(w, on), Tensor(np.zeros(1, np.float32), on)).numpy()
    expected = [[0, 0, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 3, 4]]
    assert y[0, ..., 0].tolist() == expected


def test_one_nan_reaches_its_patch_alone(on, rng):
    x, w, b = integers(rng, 2, 5, 30, 7), integers(rng, 2, 2, 7, 3), integers(rng, 3)
    x[1, 4, 17, 2] = np.nan
    dy = integers(rng, 2, 10, 60, 3)
    dy[0, 3, 4, 1] = np.nan  # the lower left pixel of the patch of (1, 2)
    y, dx, dw, db = run(UpConv2, on, [x, w, b], dy, [0, 1, 2])
    patch = [[1, 8, 34], [1, 8, 35], [1, 9, 34], [1, 9, 35]]
    assert np.argwhere(np.isnan(y).all(3)).tolist() == patch
    assert np.isnan(y).sum() == 12
    assert np.argwhere(np.isnan(dx).all(3)).tolist() == [[0, 1, 2]]
    assert np.isnan(dx).sum() == 7
    assert np.isnan(db).tolist() == [False, True, False]
    wrong = np.zeros(w.shape, bool)
    wrong[:, :, 2], wrong[1, 0, :, 1] = True, True
    assert np.array_equal(np.isnan(dw), wrong)


def test_any_number_of_threads_gives_the_same_bits(on, rng, monkeypatch):
    arrays = [rng.standard_normal(s).astype("f") for s in [(2, 31, 43, 32), (2, 2, 32, 16), (16,)]]
    dy = rng.standard_normal((2, 62, 86, 16)).astype("f")
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        bits.add(b"".join(r.tobytes() for r in run(UpConv2, on, arrays, dy, [0, 1, 2])))
    assert len(bits) == 1


def test_a_window_of_the_image_gives_the_same_bits(on, rng):
    x, w, b = (rng.standard_normal(s).astype("f") for s in [(1, 23, 31, 32), (2, 2, 32, 16), (16,)])
    whole = upconv2(Tensor(x, on), Tensor(w, on), Tensor(b, on)).numpy()
    for i, j in [(0, 0), (5, 7), (22, 30), (11, 2)]:
        part = upconv2(Tensor(x[:, i:, j:], on), Tensor(w, on), Tensor(b, on)).numpy()
        assert part.tobytes() == whole[:, 2 * i :, 2 * j :].tobytes()


def test_no_pixels(on):
    x, w, b = np.zeros((0, 3, 2, 17), "f"), np.ones((2, 2, 17, 3), "f"), np.ones(3, "f")
    y, dx, dw, db = run(UpConv2, on, [x, w, b], np.zeros((0, 6, 4, 3), "f"), [0, 1, 2])
    assert (y.size, dx.size) == (0, 0)
    same(dw, np.zeros(w.shape), "dw")
    same(db, np.zeros(3), "db")


@pytest.mark.parametrize("needs", [[0], [1], [2], [0, 2]], ids=str)
def test_any_of_the_gradients(on, rng, needs):
    arrays = [rng.standard_normal(s).astype("f") for s in [(2, 7, 9, 16), (2, 2, 16, 5), (5,)]]
    dy = rng.standard_normal((2, 14, 18, 5)).astype("f")
    everything = run(UpConv2, on, arrays, dy, [0, 1, 2])
    for i, got in zip(needs, run(UpConv2, on, arrays, dy, needs)[1:], strict=True):
        assert got.tobytes() == everything[1 + i].tobytes()


@pytest.mark.parametrize(
    ("x", "w", "b"),
    [
        ((2, 3, 4), (2, 2, 4, 1), (1,)),
        ((1, 2, 3, 4), (2, 2, 3, 2), (2,)),
        ((1, 2, 3, 4), (2, 3, 4, 2), (2,)),
        ((1, 2, 3, 4), (3, 2, 4, 2), (2,)),
        ((1, 2, 3, 4), (2, 2, 4), (2,)),
        ((1, 2, 3, 4), (2, 2, 4, 2), (4,)),
    ],
)
def test_shapes_that_do_not_fit(on, x, w, b):
    with pytest.raises(ShapeError, match=r"needs x \(N,H,W,C\), w \(2,2,C,K\), b \(K\); got x"):
        upconv2(*(Tensor(np.zeros(s, np.float32), on) for s in (x, w, b)))
