"""1x1 convolution: formula, slopes, whole numbers bit for bit, adjoints, one NaN, shapes."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.conv1x1 import Conv1x1, conv1x1

SHAPES = [  # N, H, W, C, K
    (1, 1, 1, 1, 1),
    (1, 1, 2, 64, 2),
    (2, 3, 5, 3, 1),
    (3, 7, 4, 1, 3),
    (1, 8, 9, 8, 9),
    (2, 9, 7, 9, 8),
    (1, 16, 5, 15, 16),
    (1, 4, 17, 16, 17),
    (3, 5, 13, 17, 15),
    (1, 11, 6, 33, 64),
    (1, 3, 5000, 2, 3),
    (2, 61, 43, 64, 2),
    (1, 5, 51, 16, 4),  # 255 pixels: blocks of 256 by 16 channels by 4 classes
    (1, 16, 16, 15, 5),
    (1, 257, 1, 17, 3),
    (1, 27, 19, 63, 4),  # 63 * 4 + 4 = 256 sums
    (3, 10, 18, 64, 9),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    N, H, W, C, K = shape
    arrays = (rng.standard_normal(s) for s in [(N, H, W, C), (C, K), (K,)])
    check_op(Conv1x1, on, *arrays, terms=(C + 1, K, N * H * W, N * H * W))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_numbers_are_exact(on, rng, shape):
    N, H, W, C, K = shape
    x, w, b = integers(rng, N, H, W, C), integers(rng, C, K), integers(rng, K)
    dy = integers(rng, N, H, W, K)
    results = run(Conv1x1, on, [x, w, b], dy, [0, 1, 2])
    xi, wi, bi, gi = (a.astype(np.int64) for a in (x, w, b, dy))
    right = (
        np.einsum("nijc,ck->nijk", xi, wi) + bi,
        np.einsum("nijk,ck->nijc", gi, wi),
        np.einsum("nijc,nijk->ck", xi, gi),
        np.einsum("nijk->k", gi),
    )
    for name, got, correct in zip(["y", "dx", "dw", "db"], results, right, strict=True):
        same(got, correct, name)
    y, dx, dw = run(Conv1x1, on, [x, w, np.zeros_like(b)], dy, [0, 1])
    assert inner(y, dy) == inner(x, dx) == inner(w, dw)


def test_one_nan_reaches_its_pixel_alone(on, rng):
    x, w, b = integers(rng, 2, 5, 30, 7), integers(rng, 7, 3), integers(rng, 3)
    x[1, 4, 17, 2] = np.nan
    dy = integers(rng, 2, 5, 30, 3)
    dy[0, 1, 2, 1] = np.nan
    y, dx, dw, db = run(Conv1x1, on, [x, w, b], dy, [0, 1, 2])
    assert np.argwhere(np.isnan(y).all(3)).tolist() == [[1, 4, 17]]
    assert np.isnan(y).sum() == 3
    assert np.argwhere(np.isnan(dx).all(3)).tolist() == [[0, 1, 2]]
    assert np.isnan(dx).sum() == 7
    assert np.isnan(db).tolist() == [False, True, False]
    wrong = np.zeros((7, 3), bool)
    wrong[2], wrong[:, 1] = True, True
    assert np.array_equal(np.isnan(dw), wrong)


def test_any_number_of_threads_gives_the_same_bits(on, rng, monkeypatch):
    arrays = [rng.standard_normal(s).astype("f") for s in [(3, 50, 71, 17), (17, 3), (3,)]]
    dy = rng.standard_normal((3, 50, 71, 3)).astype("f")
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        bits.add(b"".join(r.tobytes() for r in run(Conv1x1, on, arrays, dy, [0, 1, 2])))
    assert len(bits) == 1


@pytest.mark.parametrize("K", [1, 2, 3, 16])
def test_a_window_of_the_image_gives_the_same_bits(on, rng, K):
    x, w, b = (rng.standard_normal(s).astype("f") for s in [(1, 23, 31, 64), (64, K), (K,)])
    whole = conv1x1(Tensor(x, on), Tensor(w, on), Tensor(b, on)).numpy()
    for i, j in [(0, 0), (5, 7), (22, 30), (11, 2)]:
        part = conv1x1(Tensor(x[:, i:, j:], on), Tensor(w, on), Tensor(b, on)).numpy()
        assert part.tobytes() == whole[:, i:, j:].tobytes()


def test_no_pixels(on):
    x, w, b = np.zeros((0, 3, 2, 17), "f"), np.ones((17, 3), "f"), np.ones(3, "f")
    y, dx, dw, db = run(Conv1x1, on, [x, w, b], np.zeros((0, 3, 2, 3), "f"), [0, 1, 2])
    assert (y.size, dx.size) == (0, 0)
    same(dw, np.zeros((17, 3)), "dw")
    same(db, np.zeros(3), "db")


@pytest.mark.parametrize("needs", [[0], [1], [2], [0, 2]], ids=str)
def test_any_of_the_gradients(on, rng, needs):
    arrays = [rng.standard_normal(s).astype("f") for s in [(2, 9, 17, 16), (16, 5), (5,)]]
    dy = rng.standard_normal((2, 9, 17, 5)).astype("f")
    everything = run(Conv1x1, on, arrays, dy, [0, 1, 2])
    for i, got in zip(needs, run(Conv1x1, on, arrays, dy, needs)[1:], strict=True):
        assert got.tobytes() == everything[1 + i].tobytes()


@pytest.mark.parametrize(
    ("x", "w", "b"),
    [
        ((2, 3, 4), (4, 1), (1,)),
        ((1, 2, 3, 4), (3, 2), (2,)),
        ((1, 2, 3, 4), (1, 1, 4, 2), (2,)),
        ((1, 2, 3, 4), (4, 2), (4,)),
        ((1, 2, 3, 4), (4, 2), (1, 2)),
    ],
)
def test_shapes_that_do_not_fit(on, x, w, b):
    with pytest.raises(ShapeError, match=r"needs x \(N,H,W,C\), w \(C,K\), b \(K\); got x"):
        conv1x1(*(Tensor(np.zeros(s, np.float32), on) for s in (x, w, b)))
