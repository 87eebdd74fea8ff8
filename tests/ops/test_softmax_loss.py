"""Weighted cross entropy: formula, slopes, a sum over pixels by hand, the dangerous values."""

import math

import numpy as np
import pytest
from check import check_op, run, same

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.errors import KernelError, ShapeError
from unetcu.ops.softmax_loss import SoftmaxLoss, softmax_loss

SHAPES = [  # N, H, W, K
    (1, 1, 1, 2),
    (1, 1, 2, 1),
    (2, 3, 5, 2),
    (3, 7, 4, 3),
    (1, 8, 9, 8),
    (2, 9, 7, 9),
    (1, 5, 16, 17),
    (1, 17, 4, 33),
    (1, 4, 6, 64),
    (1, 3, 5000, 2),
    (2, 61, 43, 2),
    (1, 5, 51, 16),  # 255 pixels: blocks of 256
    (1, 16, 16, 2),
    (1, 1, 257, 17),
    (3, 17, 16, 3),
]


def inputs(rng, N, H, W, K, low=0):
    z, w = rng.standard_normal((N, H, W, K)), rng.random((N, H, W)) + 0.1
    return z.astype("f"), rng.integers(low, K, (N, H, W)).astype(np.int32), w.astype("f")


def by_hand(z, t, w):
    """Equation 1 over the sum of weights, and its gradient, a pixel at a time in float64."""
    terms, weights, dz = [], [], np.zeros(z.shape)
    counted = [x for x in np.ndindex(t.shape) if 0 <= t[x] < z.shape[3]]
    total = math.fsum(float(w[x]) for x in counted)
    for x in counted:
        logits = [float(v) for v in z[x]]
        largest = max(logits)
        powers = [math.exp(v - largest) for v in logits]
        log_p = logits[t[x]] - largest - math.log(math.fsum(powers))
        terms.append(float(w[x]) * log_p)
        weights.append(float(w[x]))
        for k, p in enumerate(powers):
            share = p / math.fsum(powers) - (k == t[x])
            dz[x][k] = float(w[x]) * share / total if total else 0.0
    return (-math.fsum(terms) / total if total else 0.0), dz


@pytest.mark.parametrize("low", [0, -1], ids=["all counted", "some ignored"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape, low):
    z, t, w = inputs(rng, *shape, low)
    t.flat[0] = 0  # at least one counts
    counted = np.where(t >= 0, w, 0)
    spread = np.ptp(z) + 1  # rounding of z - max is relative to its size
    size_dz = (counted / counted.sum())[..., None] * np.full(z.shape, spread)
    scale = [np.asarray(spread), size_dz]
    check_op(
        SoftmaxLoss, on, z, t, w, terms=(shape[3], shape[3]), needs=[0], scale=scale, step=1e-3
    )


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[2] < 100], ids=str)
def test_against_a_sum_over_pixels(on, rng, shape):
    z, t, w = inputs(rng, *shape, low=-1)
    t.flat[0] = 0
    loss, dz = by_hand(z, t, w)
    y, got = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])
    assert abs(y - loss) <= 1e-6 * (1 + abs(loss))
    assert np.abs(got - dz).max() <= 1e-6 * np.abs(dz).max() + 1e-12
    assert np.abs(got.sum(axis=3)).max() <= 1e-6
    assert (got[t < 0] == 0).all()
    y64, got64 = run(SoftmaxLoss, "cpu", [z.astype("d"), t, w.astype("d")], np.asarray(1.0), [0])
    assert abs(y64 - loss) <= 1e-14 * (1 + abs(loss))
    assert np.abs(got64 - dz).max() <= 1e-14


def test_equal_logits_cost_log_k(on):
    for K in (1, 2, 5):
        z, t = np.full((1, 2, 3, K), 7, "f"), np.full((1, 2, 3), K - 1)
        loss = softmax_loss(Tensor(z, on), Tensor(t, on), Tensor(np.ones((1, 2, 3), "f"), on))
        assert abs(loss.item() - math.log(K)) < 4e-7


def test_logits_of_ten_thousand(on):
    z = np.array([[1e4, -1e4], [1e4, -1e4], [0, 1e4], [-1e4, -1e4]], "f").reshape(1, 1, 4, 2)
    t = np.array([0, 1, 1, 0]).reshape(1, 1, 4)
    w = np.ones((1, 1, 4), "f")
    y, dz = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])
    assert abs(y - (0 + 20000 + 0 + math.log(2)) / 4) < 1e-3
    right = np.array([[0, 0], [1, -1], [0, 0], [-0.5, 0.5]]).reshape(1, 1, 4, 2) / 4
    same(dz, right, "dz")


def test_ignored_pixels_count_in_neither_sum(on, rng):
    z, t, w = inputs(rng, 2, 6, 5, 3)
    ignored = rng.random(t.shape) < 0.4
    masked = np.where(ignored, -1, t)
    y, dz = run(SoftmaxLoss, on, [z, masked, w], np.asarray(np.float32(1)), [0])
    kept = [a[~ignored].reshape(1, 1, -1, *a.shape[3:]) for a in (z, t, w)]
    y2, dz2 = run(SoftmaxLoss, on, kept, np.asarray(np.float32(1)), [0])
    assert abs(y - y2) < 1e-6
    assert np.abs(dz[~ignored] - dz2[0, 0]).max() < 1e-7
    assert (dz[ignored] == 0).all()
    for other in (-100, 3, 255):  # anything that is no class is ignored
        again = np.where(ignored, other, t)
        assert run(SoftmaxLoss, on, [z, again, w], np.asarray(np.float32(1)), [0])[0] == y
    w[ignored] = np.nan  # not even looked at
    assert run(SoftmaxLoss, on, [z, masked, w], np.asarray(np.float32(1)), [0])[0] == y


@pytest.mark.parametrize("pixels", [511, 512, 513, 66_000])
def test_slabs_of_weights(on, rng, pixels):
    z, t, w = inputs(rng, 1, 1, pixels, 2, low=-1)
    loss = softmax_loss(Tensor(z, on), Tensor(t, on), Tensor(w, on))
    z, w, at = z.astype("d"), np.where(t < 0, 0, w).astype("d"), np.maximum(t, 0)[..., None]
    log_p = np.take_along_axis(z, at, 3)[..., 0] - np.logaddexp(z[..., 0], z[..., 1])
    assert abs(loss.item() + (w * log_p).sum() / w.sum()) < 1e-6


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_integer_types_of_labels(on, rng, kind):
    z, t, w = inputs(rng, 2, 17, 16, 3, low=-1)
    right = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])
    y, dz = run(SoftmaxLoss, on, [z, t.astype(kind), w], np.asarray(np.float32(1)), [0])
    assert y.tobytes() == right[0].tobytes()
    assert dz.tobytes() == right[1].tobytes()
    far = t.astype(np.int64) + 2**32 * (t == 1)  # class 1 once its upper half is lost
    masked = np.where(t == 1, -1, t)
    y, dz = run(SoftmaxLoss, on, [z, far, w], np.asarray(np.float32(1)), [0])
    right = run(SoftmaxLoss, on, [z, masked, w], np.asarray(np.float32(1)), [0])
    assert y.tobytes() == right[0].tobytes()
    assert dz.tobytes() == right[1].tobytes()


def test_other_labels_are_taken_or_refused_by_name(on, rng):
    z, t, w = (Tensor(a, on) for a in inputs(rng, 1, 3, 4, 2))
    small = Tensor(t.numpy().astype(np.uint8), on)
    if device(on).kind == "cpu":
        assert softmax_loss(z, small, w).item() == softmax_loss(z, t, w).item()
    else:
        with pytest.raises(KernelError, match="t must be a contiguous int32 array, got uint8"):
            softmax_loss(z, small, w)


def test_no_pixels(on):
    arrays = [np.zeros((0, 3, 4, 2), "f"), np.zeros((0, 3, 4), np.int32), np.zeros((0, 3, 4), "f")]
    y, dz = run(SoftmaxLoss, on, arrays, np.asarray(np.float32(1)), [0])
    assert y == 0
    assert dz.shape == (0, 3, 4, 2)


@pytest.mark.parametrize("why", ["no weight", "all ignored"])
def test_nothing_to_learn_from_costs_nothing(on, rng, why):
    z, t, w = inputs(rng, 1, 3, 4, 2)
    if why == "no weight":
        w[:] = 0
    else:
        t[:] = -1
    y, dz = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])
    assert y == 0
    same(dz, np.zeros_like(z), "dz")
    check_op(
        SoftmaxLoss, on, z, t, w, needs=[0], terms=(2, 2), scale=[np.zeros(()), np.zeros_like(z)]
    )


def test_one_class_costs_nothing(on, rng):
    z, t, w = inputs(rng, 1, 3, 4, 1)
    y, dz = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])
    assert y == 0
    same(dz, np.zeros_like(z), "dz")


def test_weights_that_cancel_count_for_nothing(on, rng):
    """Not 0 each, but their sum: every share is 0, and no other rule."""
    z = rng.standard_normal((1, 2, 3, 2)).astype(np.float32)
    t = np.zeros((1, 2, 3), np.int32)
    w = np.array([1, -1, 2, -2, 4, -4], np.float32).reshape(1, 2, 3)
    loss, dz = run(SoftmaxLoss, on, [z, t, w], np.ones((), np.float32), [0])
    same(loss, np.zeros((), np.float32), "loss")
    same(dz, np.zeros_like(z), "dz")


def test_only_the_ratio_of_weights_matters(on, rng):
    z, t, w = inputs(rng, 1, 5, 4, 3)
    one = np.asarray(np.float32(1))
    y, dz = run(SoftmaxLoss, on, [z, t, w], one, [0])
    y8, dz8 = run(SoftmaxLoss, on, [z, t, w * 8], one, [0])  # a power of two: no rounding
    assert y == y8
    same(dz8, dz, "dz")


def test_a_nan_is_seen(on, rng):
    z, t, w = inputs(rng, 1, 3, 4, 2)
    z[0, 1, 2, 0] = np.nan
    y, dz = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])
    assert np.isnan(y)
    assert np.argwhere(np.isnan(dz).all(3)).tolist() == [[0, 1, 2]]
    assert np.isnan(dz).sum() == 2


def test_dy_scales_the_gradient(on, rng):
    z, t, w = inputs(rng, 1, 3, 4, 2)
    dz = run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(1)), [0])[1]
    same(run(SoftmaxLoss, on, [z, t, w], np.asarray(np.float32(-4)), [0])[1], -4 * dz, "dz")


@pytest.mark.parametrize(
    ("z", "t", "w"),
    [
        ((2, 3, 4), (2, 3), (2, 3)),
        ((1, 2, 3, 4), (1, 3, 2), (1, 2, 3)),
        ((1, 2, 3, 4), (1, 2, 3), (1, 2)),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3)),
        ((1, 2, 3, 0), (1, 2, 3), (1, 2, 3)),
    ],
)
def test_shapes_that_do_not_fit(on, z, t, w):
    t = Tensor(np.zeros(t, np.int32), on)
    with pytest.raises(ShapeError, match=r"needs z \(N,H,W,K\), t and w \(N,H,W\); got z"):
        softmax_loss(Tensor(np.zeros(z, "f"), on), t, Tensor(np.zeros(w, "f"), on))
