"""The compiled forms of conv3x3 (exact), conv1x1 and upconv2, where the tests of the ops do not
look: long chains, slabs, views with strides, and places of a pixel in blocks of every size."""

import numpy as np
import pytest
from check import check_op, integers

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.device.cpu import exact
from unetcu.ops.conv1x1 import Conv1x1, conv1x1
from unetcu.ops.conv3x3 import Conv3x3, conv3x3
from unetcu.ops.upconv2 import UpConv2, upconv2

NATIVE = device("cpu").native(np.float32)
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the compiled module was not built")


@pytest.fixture(autouse=True)
def _exact_form():
    with exact():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(29)


def floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def forward3(x, w, b, relu=True):
    y = np.full((x.shape[0], x.shape[1] - 2, x.shape[2] - 2, w.shape[3]), np.nan, np.float32)
    NATIVE.conv3x3_exact_forward(x, w, b, y, relu)
    return y


# 9C, 3C and C on both sides of 256, the longest chain; K whole panels and not.
CHAINS = [28, 29, 85, 86, 128, 129, 256, 257, 300, 513]


@pytest.mark.parametrize("C", CHAINS)
@pytest.mark.parametrize("K", [3, 16])
def test_any_length_of_chain(rng, C, K):
    x, w, b = floats(rng, 1, 5, 9, C), floats(rng, 3, 3, C, K), floats(rng, K)
    check_op(Conv3x3, "cpu", x, w, b, terms=(9 * C + 1, 9 * K, 21, 21))
    check_op(Conv3x3, "cpu", floats(rng, 1, 4, 5, K), floats(rng, 3, 3, K, C), floats(rng, C),
             terms=(9 * K + 1, 9 * C, 6, 6))  # fmt: skip
    check_op(UpConv2, "cpu", x, floats(rng, 2, 2, C, K), b, terms=(C + 1, 4 * K, 45, 180))
    check_op(UpConv2, "cpu", floats(rng, 1, 3, 2, K), floats(rng, 2, 2, K, C), floats(rng, C),
             terms=(K + 1, 4 * C, 6, 24))  # fmt: skip
    check_op(Conv1x1, "cpu", x, floats(rng, C, K), b, terms=(C + 1, K, 45, 45))


def test_long_sums_of_one_sign_do_not_drift(rng):
    """One chain from the first term to the last would round the same way again and again."""
    x, w = np.full((1, 3, 4, 800), 0.1, "f"), np.full((3, 3, 800, 2), 0.1, "f")
    y = forward3(x, w, np.zeros(2, "f"))
    right = 7200 * float(x[0, 0, 0, 0]) * float(w[0, 0, 0, 0])
    assert np.abs(y - right).max() <= (2 * np.sqrt(7200) + 4) * 2.0**-24 * right
    P = 300 * 300
    x, dy = np.full((1, 302, 302, 1), 0.1, "f"), np.full((1, 300, 300, 1), 0.1, "f")
    dw, db = np.empty((3, 3, 1, 1), "f"), np.empty(1, "f")
    NATIVE.conv3x3_exact_backward_w(x, dy, None, dw, db)
    for got, right in [(dw, P * float(dy[0, 0, 0, 0]) ** 2), (db, P * float(dy[0, 0, 0, 0]))]:
        assert np.abs(got - right).max() <= (2 * np.sqrt(P) + 4) * 2.0**-24 * right


@pytest.mark.parametrize("op", ["conv3x3", "conv1x1", "upconv2"])
@pytest.mark.parametrize(
    ("C", "K"),
    [(1, 1), (3, 17), (16, 16), (33, 32), (90, 15), (300, 48), (33, 2), (64, 4)],
    ids=str,
)
def test_a_pixel_has_the_same_bits_at_every_place(rng, op, C, K):
    """In rows of every width, so in blocks of every height and every place in them."""
    taps = {"conv3x3": (3, 3), "conv1x1": (), "upconv2": (2, 2)}[op]
    x, w, b = floats(rng, 2, 9, 40, C), floats(rng, *taps, C, K), floats(rng, K)

    def run(x):
        arrays = (Tensor(a, "cpu") for a in (x, w, b))
        options = {"relu": True} if op == "conv3x3" else {}
        return {"conv3x3": conv3x3, "conv1x1": conv1x1, "upconv2": upconv2}[op](
            *arrays, **options
        ).numpy()

    whole, lost, times = run(x), len(taps) * (op == "conv3x3"), 2 if op == "upconv2" else 1
    for width in range(1, 32):
        high = int(rng.integers(1 + lost, 10))
        n, i, j = rng.integers(2), rng.integers(10 - high), rng.integers(41 - width - lost)
        part = run(x[n : n + 1, i : i + high, j : j + width + lost])
        rows = slice(times * i, times * (i + high - lost))
        assert part.tobytes() == whole[n, rows, times * j : times * (j + width)].tobytes()


def test_gradients_of_x_do_not_depend_on_the_place_either(rng):
    C, K = 19, 33
    dy, y, w = floats(rng, 1, 12, 31, K), floats(rng, 1, 12, 31, K), floats(rng, 3, 3, C, K)
    whole, part = np.empty((1, 14, 33, C), "f"), np.empty((1, 9, 14, C), "f")
    NATIVE.conv3x3_exact_backward_x(dy, y, w, whole)
    cut = np.s_[:, 3:10, 9:21]
    NATIVE.conv3x3_exact_backward_x(*(a[cut].copy() for a in (dy, y)), w, part)
    # Inside, all nine windows lie in the cut.
    assert part[:, 2:7, 2:12].tobytes() == whole[:, 5:10, 11:21].tobytes()


def strided(a, rng):
    """The same numbers inside a larger array: a crop of some channels."""
    N, H, W, C = a.shape
    large = np.full((N, H + 3, W + 5, C + 7), np.nan, np.float32)
    view = large[:, 1 : H + 1, 2 : W + 2, 4 : C + 4]
    view[...] = a
    return view


@pytest.mark.parametrize(("C", "K"), [(1, 5), (16, 16), (40, 33), (90, 8), (300, 16)], ids=str)
def test_views_with_strides_give_the_same_bits(rng, C, K):
    x, w, b = floats(rng, 2, 7, 11, C), floats(rng, 3, 3, C, K), floats(rng, K)
    y = forward3(x, w, b)
    out = strided(np.zeros_like(y), rng)
    NATIVE.conv3x3_exact_forward(strided(x, rng), w, b, out, True)
    assert out.tobytes() == y.tobytes()
    assert np.isnan(out.base).sum() == out.base.size - out.size  # nothing else was written
    dy, results = floats(rng, *y.shape), []
    for form in (lambda a: a, lambda a: strided(a, rng)):
        dx, dw, db = form(np.zeros_like(x)), np.empty_like(w), np.empty_like(b)
        NATIVE.conv3x3_exact_backward_x(form(dy), form(y), w, dx)
        NATIVE.conv3x3_exact_backward_w(form(x), form(dy), form(y), dw, db)
        results.append(dx.tobytes() + dw.tobytes() + db.tobytes())
    assert results[0] == results[1]


def test_any_number_of_threads_gives_the_same_bits(rng, monkeypatch):
    """In shapes of one slab and of many, of one panel and of many."""
    for shape, C, K in [((2, 70, 51), 5, 7), ((1, 12, 14), 64, 80), ((1, 4, 6), 70, 300)]:
        x, w3, w2 = floats(rng, *shape, C), floats(rng, 3, 3, C, K), floats(rng, 2, 2, C, K)
        w1, b, bits = floats(rng, C, K), floats(rng, K), set()
        for count in (1, 2, 3, 4):
            monkeypatch.setattr(threads, "_count", count)
            results = []
            for op, w in [(Conv3x3, w3), (Conv1x1, w1), (UpConv2, w2)]:
                inputs = [Tensor(a, "cpu", needs_grad=True) for a in (x, w, b)]
                y = op.apply(*inputs)
                y.backward(np.sin(np.arange(y.data.size, dtype="f")).reshape(y.shape))
                results += [y.numpy(), *(t.grad for t in inputs)]
            bits.add(b"".join(r.tobytes() for r in results))
        assert len(bits) == 1


def test_many_slabs_of_whole_numbers(rng):
    """Rows that slabs cut anywhere, with more pixels in a row than a chain has."""
    x, dy = integers(rng, 3, 23, 150, 4), integers(rng, 3, 21, 148, 20)
    dw, db = np.empty((3, 3, 4, 20), "f"), np.empty(20, "f")
    NATIVE.conv3x3_exact_backward_w(x, dy, None, dw, db)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2)).astype(np.int64)
    assert np.array_equal(dw, np.einsum("nijcrs,nijk->rsck", windows, dy.astype(np.int64)))
    assert np.array_equal(db, dy.sum((0, 1, 2)))


@pytest.mark.parametrize("wrong", ["x", "w", "b", "y"])
def test_arrays_that_do_not_fit_are_refused(wrong):
    arrays = {"x": (1, 5, 6, 2), "w": (3, 3, 2, 4), "b": (4,), "y": (1, 3, 4, 4)}
    arrays[wrong] = (*arrays[wrong][:-1], arrays[wrong][-1] + 1)
    with pytest.raises(ValueError, match="has the wrong shape"):
        NATIVE.conv3x3_exact_forward(*(np.zeros(s, "f") for s in arrays.values()), False)
    arrays = {"x": (1, 5, 6, 2), "w": (2, 4), "b": (4,), "y": (1, 5, 6, 4)}
    arrays[wrong] = (*arrays[wrong][:-1], arrays[wrong][-1] + 1)
    with pytest.raises(ValueError, match="has the wrong shape"):
        NATIVE.conv1x1_forward(*(np.zeros(s, "f") for s in arrays.values()))


def test_chains_of_the_up_convolutions_dx_end_with_a_row():
    """2K terms of each row of the patch: a chain may hold both, or, beyond 256 terms, but one.

    In one chain the second row's ones would be lost beside the first row's 2^24.
    """
    K = 100
    dy = np.ones((1, 2, 2, K), np.float32)
    dy[0, 0] = 0
    dy[0, 0, 0, 0] = 2**24
    dx = np.empty((1, 1, 1, 16), np.float32)
    NATIVE.upconv2_backward_x(dy, np.ones((2, 2, 16, K), np.float32), dx)
    assert (dx == 2**24 + 2 * K).all()
