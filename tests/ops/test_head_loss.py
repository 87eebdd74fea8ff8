"""Head and loss in one pass: formula, slopes, a loop by hand, dy known or not, gate, cost."""

from itertools import product

import numpy as np
import pytest
from check import check_op, run, same
from halves import within

from unetcu.autograd import Tensor, no_grad
from unetcu.device import device
from unetcu.errors import KernelError, ShapeError
from unetcu.ops.conv1x1 import conv1x1
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.head_loss import HeadLoss, head_loss
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.precision import BF16, FORMS, floats, stored
from unetcu.provers.profile import measure, totals

SIZES = [(1, 1, 1), (2, 3, 5), (3, 7, 11), (1, 16, 17), (1, 5, 51), (2, 23, 12)]  # N, H, W
SHAPES = [
    *(
        (*SIZES[i % len(SIZES)], C, K)
        for i, (C, K) in enumerate(product((4, 6, 16, 64), (2, 3, 5)))
    ),
    *((1, 2, 3, 1, 1), (1, 4, 65, 33, 4), (2, 9, 3, 128, 8)),
    *((1, 2, 129, 129, 2), (1, 3, 7, 8, 9)),  # more than the kernel takes
]
GPUS = ["simt:guard", "simt:reverse,guard-before", "simt:shuffled", "simt:checked"]
ONE = np.ones((), np.float32)


def made(rng, N, H, W, C, K, low=-1):
    """x, w, b, t, weights; one pixel at least counts."""
    x, w, b = (rng.standard_normal(s).astype("f") for s in ((N, H, W, C), (C, K), (K,)))
    t = rng.integers(low, K + (low < 0), (N, H, W)).astype(np.int32)
    t.flat[:1] = 0
    return x, w / np.float32(np.sqrt(C)), b, t, (rng.random(t.shape) + 0.1).astype("f")


def by_hand(x, w, b, t, weights, dy=1.0):
    """Loss, dx, dw, db a pixel at a time in float64."""
    x, w, b = (a.astype(np.float64) for a in (x, w, b))
    counted = [p for p in np.ndindex(t.shape) if 0 <= t[p] < len(b)]
    total = sum(float(weights[p]) for p in counted)
    loss, dx, dw, db = 0.0, np.zeros(x.shape), np.zeros(w.shape), np.zeros(b.shape)
    for p in counted:
        z = x[p] @ w + b
        q = np.exp(z - z.max())
        share = float(weights[p]) / total
        loss -= share * np.log(q[t[p]] / q.sum())
        g = dy * share * (q / q.sum() - (np.arange(len(b)) == t[p]))
        dx[p] = w @ g
        dw += np.outer(x[p], g)
        db += g
    return loss, dx, dw, db


def tensors(on, form, arrays):
    """The five inputs as a form takes them."""
    kinds = FORMS[form], FORMS[form], np.float32, np.int32, np.float32
    where, both = device(on), zip(arrays, kinds, strict=True)
    kept = [where.put(stored(a, k) if k == BF16 else a.astype(k)) for a, k in both]
    return [Tensor.wrap(a, where, needs_grad=i < 3) for i, a in enumerate(kept)]


def results(on, form, arrays, dy, known):
    """Loss, dx, dw, db; known: dy is there when the loss is made."""
    inputs = tensors(on, form, arrays)
    given = Tensor(np.float32(dy), on)
    loss = head_loss(*inputs, given) if known else head_loss(*inputs)
    value = loss.item()
    loss.backward(given)
    return [np.float32(value), *(np.array(device(on).get(t.grad)) for t in inputs[:3])]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    arrays = made(rng, *shape)
    x, w, b, t, weights = arrays
    N, H, W, C, K = shape
    z = np.abs(x) @ np.abs(w) + np.abs(b)
    counted = np.where((t >= 0) & (t < K), weights, 0)
    share = counted / counted.sum() * (1 + z.max())
    dx, dw = share[..., None] * np.abs(w).sum(1), np.einsum("nijc,nij->c", np.abs(x), share)
    scale = [np.asarray(2 * z.max() + 1.0), dx, dw[:, None] * np.ones(K), share.sum() * np.ones(K)]
    terms = C + K, C + K, C + N * H * W, C + N * H * W
    check_op(HeadLoss, on, *arrays, terms=terms, needs=[0, 1, 2], scale=scale, step=1e-3)


@pytest.mark.parametrize("form", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("on", GPUS)
def test_dy_that_is_known_before(on, rng, form):
    """The bits are those of a dy that is not; a loop in float64 says what is right."""
    for shape in [s for s in SHAPES if s[3] in (6, 16, *(() if "checked" in on else (64, 129)))]:
        arrays = made(rng, *shape)
        rounded = [floats(stored(a, FORMS[form])) for a in arrays[:2]]
        right = by_hand(*rounded, *arrays[2:], dy=-24.0)
        known, late = (results(on, form, arrays, -24.0, k) for k in (True, False))
        assert [a.tobytes() for a in known] == [a.tobytes() for a in late]
        assert abs(known[0] - right[0]) <= 1e-6 * (1 + abs(right[0]))
        logits = (np.abs(rounded[0]) @ np.abs(rounded[1]) + np.abs(arrays[2])).max()
        for got, exact in zip(known[1:], right[1:], strict=True):
            size = np.full(exact.shape, np.abs(exact).max() * (1 + logits))
            within(got, exact, size, 64, form, f"{shape}")


def test_another_dy_makes_the_pass_again_on_simt(rng):
    where, arrays = device("simt"), made(rng, 1, 9, 7, 16, 2)
    passes = []
    for dy in (None, 3.0, Tensor(np.float32(3), "simt")):
        inputs = tensors("simt", "fp32", arrays)
        loss = head_loss(*inputs, Tensor(ONE, "simt"))  # it was told 1
        where.launches.clear()
        loss.backward(dy)
        passes.append(where.launches["head_loss_pass_2"])
        right = by_hand(*arrays, dy=1.0 if dy is None else 3.0)
        assert np.allclose(where.get(inputs[0].grad), right[1], rtol=1e-5, atol=1e-8)
    assert passes == [1, 1, 1]
    one = Tensor(ONE, "simt")
    loss = head_loss(*tensors("simt", "fp32", arrays), one)
    where.launches.clear()
    loss.backward(one)
    assert not where.launches


def test_without_gradients_there_is_the_loss_alone_on_simt(rng):
    arrays = made(rng, 1, 9, 7, 16, 2)
    inputs, dy = (
        tensors("simt:guard", "bf16", arrays),
        Tensor(np.full((), np.nan, "f"), "simt:guard"),
    )
    with no_grad():
        loss = head_loss(*inputs, dy)
    assert loss.maker is None
    assert loss.item() == results("simt", "bf16", arrays, 1.0, True)[0]


def test_the_scale_of_the_loss_comes_before_rounding_on_simt(rng):
    """Gradients of many pixels are far below what fp16 can tell from 0."""
    arrays = made(rng, 1, 61, 43, 16, 2)
    arrays[1][...] = floats(stored(arrays[1] * 1e-3, np.float16))
    x = floats(stored(arrays[0], np.float16))
    right = by_hand(x, *arrays[1:], dy=65536.0)[1]
    scaled = results("simt", "fp16", arrays, 65536.0, True)[1]
    assert np.abs(right / 65536).max() < 2**-20
    assert np.linalg.norm(scaled - right) <= 2**-11 * np.linalg.norm(right)
    late = results("simt", "fp16", arrays, 1.0, True)[1].astype(np.float64) * 65536
    assert np.linalg.norm(late - right) > 2**-6 * np.linalg.norm(right)


@pytest.mark.parametrize("form", ["fp32", "bf16"])
@pytest.mark.parametrize("on", ["simt:guard", "simt:reverse,guard-before"])
def test_behind_a_relu_it_stops_what_the_relu_stops(on, rng, form):
    """As the two ops with the convolution's own gate do it; nobody gates twice."""
    x, w, b = (rng.standard_normal(s).astype("f") for s in ((1, 11, 9, 8), (3, 3, 8, 16), (16,)))
    _, head, bias, t, weights = made(rng, 1, 9, 7, 16, 3)
    ends = []
    for fused in (True, False):
        where = device(on)
        kept = [where.put(stored(a, FORMS[form])) for a in (x, w, head)]
        image, filters, last = (Tensor.wrap(a, where, needs_grad=True) for a in kept)
        b_, bias_ = (Tensor(a, on, needs_grad=True) for a in (b, bias))
        y = conv3x3(image, filters, b_, relu=True)
        labels, dy = (Tensor(t, on), Tensor(weights, on)), Tensor(np.float32(100), on)
        if fused:
            loss = head_loss(y, last, bias_, *labels, dy)
        else:
            loss = softmax_loss(conv1x1(y, last, bias_), *labels)
        where.launches.clear()
        loss.backward(dy)
        assert where.launches["relu_backward"] == (form == "bf16" and not fused)
        grads = [where.get(p.grad) for p in (image, filters, b_, last, bias_)]
        ends.append([np.array(floats(g), np.float64) for g in grads])
    for one, two in zip(*ends, strict=True):
        assert np.abs(one).max() > 0
        assert np.linalg.norm(one - two) <= (2e-3 if form == "bf16" else 1e-6) * np.linalg.norm(two)


def test_on_the_cpu_it_has_the_bits_of_the_two_ops(rng, monkeypatch):
    arrays = made(rng, 2, 23, 12, 16, 3)
    for native in ("1", "0"):
        monkeypatch.setenv("UNETCU_NATIVE", native)
        got = results("cpu", "fp32", arrays, 0.7, True)
        inputs = tensors("cpu", "fp32", arrays)
        loss = softmax_loss(conv1x1(*inputs[:3]), *inputs[3:])
        loss.backward(np.float32(0.7))
        right = [loss.numpy(), *(t.grad for t in inputs[:3])]
        assert [a.tobytes() for a in got] == [a.tobytes() for a in right]


def test_a_nan_is_seen_and_an_ignored_weight_is_not(on, rng):
    arrays = made(rng, 1, 3, 5, 6, 2)
    arrays[3][0, 1, 1] = -1
    clean = run(HeadLoss, on, arrays, ONE, [0, 1, 2])
    arrays[4][0, 1, 1] = np.nan  # not even looked at
    for one, two in zip(clean, run(HeadLoss, on, arrays, ONE, [0, 1, 2]), strict=True):
        same(one, two)
    assert (clean[1][0, 1, 1] == 0).all()
    arrays[0][0, 2, 4, 3] = np.nan
    loss, dx, dw, db = run(HeadLoss, on, arrays, ONE, [0, 1, 2])
    assert np.isnan(loss)
    assert np.argwhere(np.isnan(dx)).tolist() == [[0, 2, 4, c] for c in range(6)]
    assert np.isnan(dw).all() and np.isnan(db).all()  # noqa: PT018


@pytest.mark.parametrize("why", ["no weight", "all ignored", "weights that cancel", "no pixels"])
def test_nothing_to_learn_from_costs_nothing(on, rng, why):
    x, w, b, t, weights = made(rng, *((0,) if why == "no pixels" else (1,)), 3, 4, 6, 2)
    if why == "all ignored":
        t[:] = 2
    elif why != "no pixels":
        t[:] = 0
        weights[:] = 0 if why == "no weight" else np.tile([1, -1], 6).reshape(1, 3, 4)
    loss, *gradients = run(HeadLoss, on, [x, w, b, t, weights], ONE, [0, 1, 2])
    assert loss == 0
    for g in gradients:
        same(g, np.zeros_like(g))


def test_one_pass_moves_what_must_be_moved_on_simt(rng):
    """x is read once and dx written once, in whole sectors: 4 C + 8 bytes a pixel of 16 bits."""
    arrays = made(rng, 1, 32, 32, 64, 2)
    on_it = tensors("simt", "bf16", arrays)

    def work(where):
        inputs = [Tensor.wrap(where.put(t.data), where, i < 3) for i, t in enumerate(on_it)]
        dy = Tensor(ONE, where)
        head_loss(*inputs, dy).backward(dy)

    launches = {launch.entry: totals(launch.rows.values()) for launch in measure(work)}
    assert 264 * 1024 <= launches["head_loss_pass_2"].moved <= 1.2 * 264 * 1024
    assert sum(t.moved for t in launches.values()) <= 1.3 * 272 * 1024
    assert len(launches) == 4


def test_labels_of_64_bits_are_taken_and_others_refused_by_name(on, rng):
    x, w, b, t, weights = made(rng, 1, 3, 4, 4, 2)
    right = run(HeadLoss, on, [x, w, b, t, weights], ONE, [0, 1, 2])
    again = run(HeadLoss, on, [x, w, b, t.astype(np.int64), weights], ONE, [0, 1, 2])
    assert [a.tobytes() for a in again] == [a.tobytes() for a in right]
    if device(on).kind == "gpu":
        with pytest.raises(KernelError, match="t must be a contiguous int32 array, got uint8"):
            head_loss(*(Tensor(a, on) for a in (x, w, b, t.astype(np.uint8), weights)))


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3, 4), (4, 1), (1,), (2, 3), (2, 3)),
        ((1, 2, 3, 4), (3, 2), (2,), (1, 2, 3), (1, 2, 3)),
        ((1, 2, 3, 4), (4, 2), (2,), (1, 3, 2), (1, 2, 3)),
        ((1, 2, 3, 4), (4, 2), (2,), (1, 2, 3), (1, 2)),
        ((1, 2, 3, 4), (4, 0), (0,), (1, 2, 3), (1, 2, 3)),
        ((1, 2, 3, 4), (4, 2), (2,), (1, 2, 3), (1, 2, 3), (1,)),
    ],
)
def test_shapes_that_do_not_fit(on, shapes):
    with pytest.raises(ShapeError, match=r"^head_loss needs "):
        head_loss(*(Tensor(np.zeros(s, np.float32), on) for s in shapes))
