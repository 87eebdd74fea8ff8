"""The compiled kernels against the NumPy code of the same ops: bits, threads, tails, refusals."""

import numpy as np
import pytest
from check import run

from unetcu import threads
from unetcu.device import device
from unetcu.ops.crop_concat import CropConcat
from unetcu.ops.dropout import Dropout
from unetcu.ops.elementwise import Add, Multiply
from unetcu.ops.maxpool2 import MaxPool2
from unetcu.ops.relu import ReLU
from unetcu.ops.softmax_loss import SoftmaxLoss
from unetcu.optim import SGD, AdamW, Average
from unetcu.parameters import Parameters

native = device("cpu").native(np.float32)
pytestmark = pytest.mark.skipif(native is None, reason="the compiled kernels were not built")

WHEN = np.array([7, 123456], np.uint32)
# Around a vector, a strip of 64 or 128 and a part of 32768 elements.
COUNTS = [1, 3, 4, 7, 8, 9, 15, 16, 17, 63, 65, 127, 128, 129, 32767, 32768, 32769, 70001]
MAPS = [(1, 2, 2, 1), (2, 6, 4, 3), (1, 4, 10, 16), (3, 2, 6, 65), (1, 10, 6, 129)]
MAPS += [(2, 38, 300, 7)]  # more than one part
PIXELS = [(1, 1, 1, 2), (1, 7, 9, 2), (1, 1, 1023, 2), (1, 1, 1025, 3), (1, 5, 7, 33)]
PIXELS += [(2, 33, 47, 2)]


def with_special_values(rng, *shape):
    """Normal numbers, and among them zeros of both signs, infinities, denormals, NaN and ties."""
    x = rng.standard_normal(shape, np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, np.nan, 1, 1, 1], np.float32)
    return np.where(rng.random(shape) < 0.3, rng.choice(special, shape), x)


def both(monkeypatch, work):
    """work() by the compiled kernels with 1 to 4 threads, all the same bits; then by NumPy."""
    found = []
    for count in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", count)
        found.append(work())
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.tobytes() == b.tobytes()
    monkeypatch.setenv("UNETCU_NATIVE", "0")
    assert device("cpu").native(np.float32) is None
    with np.errstate(all="ignore"):
        return found[0], work()


def equal(got, right):
    """The same numbers: equal bits but for the sign of a zero and the bits of a NaN."""
    for a, b in zip(got, right, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("count", COUNTS)
def test_element_by_element(rng, monkeypatch, count):
    a, b, dy = (with_special_values(rng, count) for _ in range(3))
    for op, inputs, needs in (
        (ReLU, [a], [0]),
        (Dropout, [a, WHEN], [0]),
        (Add, [a, b], [0, 1]),
        (Multiply, [a, b], [0, 1]),
    ):
        equal(*both(monkeypatch, lambda op=op, i=inputs, n=needs: run(op, "cpu", i, dy, n)))
        monkeypatch.undo()


@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_maxpool2(rng, monkeypatch, shape):
    N, H, W, C = shape
    x, dy = with_special_values(rng, *shape), with_special_values(rng, N, H // 2, W // 2, C)
    equal(*both(monkeypatch, lambda: run(MaxPool2, "cpu", [x], dy, [0])))


@pytest.mark.parametrize("needs", [[0, 1], [0], [1]], ids=str)
@pytest.mark.parametrize("border", [(0, 0), (1, 0), (2, 5)], ids=str)
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_crop_concat(rng, monkeypatch, shape, border, needs):
    N, H, W, C = shape
    skip = with_special_values(rng, N, H + 2 * border[0], W + 2 * border[1], C + 2)
    x, dy = with_special_values(rng, *shape), with_special_values(rng, N, H, W, 2 * C + 2)
    equal(*both(monkeypatch, lambda: run(CropConcat, "cpu", [skip, x], dy, needs)))


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("shape", PIXELS, ids=str)
def test_softmax_loss(rng, monkeypatch, shape, kind):
    z = rng.standard_normal(shape, np.float32) * 30
    t = rng.integers(-1, shape[3], shape[:3]).astype(kind)
    t.flat[0] = 0
    w = rng.random(shape[:3], np.float32)
    one = np.asarray(np.float32(1))
    got, right = both(monkeypatch, lambda: run(SoftmaxLoss, "cpu", [z, t, w], one, [0]))
    assert abs(got[0] - right[0]) <= 4 * np.spacing(right[0])
    # A few roundings in q, at most 1, which the share of the pixel scales.
    share = np.where(t >= 0, w, 0) / np.where(t >= 0, w, 0).sum(dtype=np.float64)
    assert (np.abs(got[1] - right[1]) <= (shape[3] + 6) * 2.0**-24 * share[..., None]).all()


def test_the_exponential_within_two_units_in_the_last_place():
    """Floats of all sizes and both signs, those near the ends most of all."""
    everywhere = np.arange(0, 2**32, 9973, np.uint32).view(np.float32)
    below = np.linspace(-110, -80, 100_001, dtype=np.float32)  # denormal results, and 0
    ends = [0, -0.0, 88.72283, 88.722839, -87.33655, -103.97208, -104, np.inf, -np.inf]
    above = np.linspace(-1, 90, 99_991, dtype=np.float32)
    x = np.concatenate([everywhere, below, above, np.array(ends, np.float32)])
    y = np.empty_like(x)
    native.exponentials(x, y)
    with np.errstate(all="ignore"):
        right = np.exp(x.astype(np.float64))
        nearest = right.astype(np.float32)
        unit = np.maximum(np.spacing(nearest), 2.0**-149).astype(np.float64)
    assert np.array_equal(np.isnan(x), np.isnan(y))
    finite = np.isfinite(nearest)
    assert (y[np.isinf(nearest)] == np.inf).all()
    assert (np.abs(y[finite] - right[finite]) <= 2 * unit[finite]).all()
    assert y[x == 0].tolist() == [1] * int((x == 0).sum())


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_three_steps_and_their_average(rng, monkeypatch, kind, count):
    start, *slopes = rng.standard_normal((4, count)).astype(np.float32)

    def work():
        p = Parameters({"p": (count,)}, device("cpu"))
        p.write("p", start)
        optimizer = kind(p, 0.1)
        average = Average(optimizer, 0.9)
        for t, g in enumerate(slopes):
            p.forget_gradients()
            p["p"].accumulate(g)
            optimizer.set(0.1 / (t + 1), t)
            optimizer.step()
            average.update()
        return [p.flat, average.flat, *optimizer.state.values()]

    got, right = both(monkeypatch, work)
    for a, b in zip(got, right, strict=True):
        assert a.tobytes() == b.tobytes()


F, B = np.zeros((1, 2, 4, 3), "f"), np.zeros((1, 4, 8, 3), "f")  # a map and one twice as large
NUMBERS, LABELS = np.zeros((1, 2, 4, 3), np.uint8), np.zeros((1, 2, 4), np.int32)


@pytest.mark.parametrize(
    ("name", "arguments", "what"),
    [
        ("relu_forward", (F.astype("d"), F), "x must be C-contiguous and of the right dtype"),
        ("relu_forward", (B[:, ::2], F), "x must be C-contiguous and of the right dtype"),
        ("relu_forward", (F, B), "y has the wrong shape"),
        ("relu_backward", (F, F, B), "the result has the wrong shape"),
        ("add", (F, B, F), "the second array has the wrong shape"),
        ("maxpool2_forward", (F, F, NUMBERS), "x has the wrong shape"),
        ("maxpool2_forward", (B, F, NUMBERS[0]), "winner has the wrong shape"),
        ("maxpool2_forward", (B, F[0], NUMBERS), r"y must be \(N,H,W,C\)"),
        ("maxpool2_backward", (F, F, None, B), "winner must be C-contiguous"),
        ("maxpool2_backward", (F, NUMBERS, F, B), "so_far has the wrong shape"),
        ("crop_concat_forward", (F, B, B), "skip must be at least as large as x"),
        ("crop_concat_forward", (F, F, F), "y has the wrong shape"),
        ("crop_concat_backward_skip", (B, F), "skip must be at least as large as x"),
        ("crop_concat_backward_x", (F, np.zeros((1, 2, 4, 5), "f")), "dx has more channels"),
        ("dropout", (F, B, 1, 2, 3, 2.0), "y has the wrong shape"),
        ("softmax_loss", (F, LABELS[0], F[..., 0].copy(), F), "t has the wrong shape"),
        ("softmax_loss", (F, LABELS.astype(np.int16), F[..., 0].copy(), F), "t must be C-contig"),
        ("sgd", (F.ravel(), F.ravel(), B.ravel(), 0.1, 0.9), "v has the wrong shape"),
        ("average", (F.ravel(), B.ravel(), 0.1), "p has the wrong shape"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(name, arguments, what):
    with pytest.raises(ValueError, match=what):
        getattr(native, name)(*arguments)


def test_a_read_only_result_is_refused():
    y = F.copy()
    y.flags.writeable = False
    with pytest.raises(ValueError, match="y must be writeable"):
        native.relu_forward(F, y)


def test_fill():
    y = np.full((3, 100_003), np.nan, np.float32)
    native.fill(y, 2.5)
    assert (y == 2.5).all()
