"""The fast form of the 3x3 convolution on the CPU (Winograd F(4x4,3x3), and its adjoint).

What it may be off by is in patchwise.py, where the oracle is, too.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from patchwise import assert_within, bounds, made, right

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.device.cpu import exact
from unetcu.ops.conv3x3 import conv3x3

NATIVE = device("cpu").native(np.float32)
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the compiled module was not built")

SHAPES = [  # N, H, W, C, K
    (1, 3, 3, 1, 1),
    (1, 3, 3, 5, 1),
    (2, 4, 5, 1, 3),
    (3, 6, 7, 4, 17),
    (1, 7, 6, 5, 2),
    (2, 8, 9, 8, 9),
    (3, 10, 3, 9, 8),
    (1, 5, 11, 17, 15),
    (2, 18, 22, 16, 16),
    (1, 31, 29, 33, 31),
    (1, 3, 900, 6, 5),
    (1, 900, 3, 2, 20),
    (2, 34, 35, 65, 48),
    (1, 170, 166, 16, 16),  # several blocks of a slab
    (1, 58, 50, 200, 130),  # filters not held, several blocks shared by all threads
    (1, 18, 26, 1408, 16),  # many channels, one panel of filters
    (1, 18, 26, 16, 1408),
]
SMALL = [s for s in SHAPES if s[1] * s[2] * s[3] * s[4] < 50_000]


def backward(x, w, gate, dy, dx, dw, db):
    """Both halves; dx may be None."""
    NATIVE.conv3x3_fast_backward_w(x, dy, gate, dw, db)
    if dx is not None:
        NATIVE.conv3x3_fast_backward_x(dy, gate, w, dx)


def fast(x, w, b, dy, relu=False, wants_dx=True):
    """[y, dx, dw, db] of the module, whose outputs come full of NaN."""
    y, dx, dw, db = (np.full_like(a, np.nan) for a in (dy, x, w, b))
    NATIVE.conv3x3_fast_forward(x, w, b, y, relu)
    gate = y if relu else None
    backward(x, w, gate, dy, dx if wants_dx else None, dw, db)
    return [y, dx, dw, db]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_result_is_within_the_bound_of_its_patch(rng, shape):
    arrays = made(rng, *shape)
    assert_within(fast(*arrays), right(*arrays), bounds(*arrays))


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_with_relu(rng, shape):
    x, w, b, dy = made(rng, *shape)
    y, *gradients = fast(x, w, b, dy, relu=True)
    plain = right(x, w, b, dy)[0]
    allowed = bounds(x, w, b, dy)[0]
    assert (np.abs(y - np.maximum(plain, 0)) <= allowed).all()
    g = dy * (y > 0)
    assert_within([plain, *gradients], right(x, w, b, g), bounds(x, w, b, g))


@pytest.mark.parametrize("shape", SHAPES[4:], ids=str)
def test_any_number_of_threads_gives_the_same_bits(rng, shape):
    arrays = made(rng, *shape)
    bits = set()
    try:
        for n in (1, 2, 3, 4):
            NATIVE.set_threads(n)
            bits.add(b"".join(a.tobytes() for a in fast(*arrays, relu=True)))
    finally:
        NATIVE.set_threads(threads.count())
    assert len(bits) == 1


def test_two_threads_of_a_program_do_not_disturb_each_other(rng):
    arrays = made(rng, 2, 34, 35, 20, 24)
    alone = b"".join(a.tobytes() for a in fast(*arrays))
    with ThreadPoolExecutor(3) as pool:
        for results in pool.map(lambda _: fast(*arrays), range(30)):
            assert b"".join(a.tobytes() for a in results) == alone


@pytest.mark.parametrize("C", [3, 6])
def test_one_nan_reaches_25_outputs_at_most(rng, C):
    x, w, b, dy = made(rng, 2, 13, 14, C, 5)
    clean = fast(x, w, b, dy)[0]
    most = 0
    for i, j in np.ndindex(13, 14):
        spoiled = x.copy()
        spoiled[1, i, j, C - 1] = np.nan
        for relu in (False, True):
            y = np.empty_like(dy)
            NATIVE.conv3x3_fast_forward(spoiled, w, b, y, relu)
            reached = np.isnan(y)
            assert reached[1, max(i - 2, 0) : i + 1, max(j - 2, 0) : j + 1].all()
            assert (reached == reached[..., :1]).all()
            rest = np.maximum(clean, 0) if relu else clean
            assert np.array_equal(y[~reached], rest[~reached])
            most = max(most, reached[..., 0].sum())
    assert most == (25 if C > 4 else 9)


def test_a_nan_in_dy_stays_near_and_with_its_filter(rng):
    x, w, b, dy = made(rng, 2, 13, 14, 6, 5)
    dy[1, 4, 6, 1] = np.nan
    _y, dx, dw, db = fast(x, w, b, dy)
    reached = np.isnan(dx)
    assert reached[1, 4:7, 6:9].all()
    assert reached[..., 0].sum() <= 25
    assert not reached[0].any()
    assert np.isnan(dw[..., 1]).all()
    assert not np.isnan(np.delete(dw, 1, 3)).any()
    assert np.array_equal(np.isnan(db), np.arange(5) == 1)


@pytest.mark.parametrize("C", [1, 8])
def test_a_closed_gate_stops_a_nan_and_opens_above_zero_only(C):
    x, w = np.ones((1, 6, 9, C), "f"), np.zeros((3, 3, C, 2), "f")
    dy = np.full((1, 4, 7, 2), np.nan, "f")
    for shut in (0, -0.0, -1, np.nan):
        gate = np.full(dy.shape, shut, "f")
        dx, dw, db = (np.full(s, np.nan, "f") for s in (x.shape, w.shape, (2,)))
        backward(x, w, gate, dy, dx, dw, db)
        assert not any(a.any() for a in (dx, dw, db))
    gate = np.full(dy.shape, 1e-40, "f")
    backward(x, w, gate, np.ones_like(dy), dx, dw, db)
    assert (db == 28).all()
    y = np.empty_like(dy)
    NATIVE.conv3x3_fast_forward(x, w, np.array([np.nan, -np.inf], "f"), y, True)
    assert np.isnan(y[..., 0]).all()
    assert (y[..., 1] == 0).all()


@pytest.mark.parametrize("C", [3, 20])
def test_strided_views_are_read_and_written_in_place(rng, C):
    x, w, b, dy = made(rng, 2, 15, 16, C, 10)
    wanted = fast(x, w, b, dy, relu=True)
    rooms = []

    def inside(a):
        """A view with room around it in every direction, which must stay NaN."""
        N, H, W, M = a.shape
        room = np.full((N, H + 5, W + 3, M + 7), np.nan, "f")
        view = room[:, 2 : 2 + H, 1 : 1 + W, 3 : 3 + M]
        view[...] = a
        rooms.append((room, view))
        return view

    x, y, dy, dx = (inside(a) for a in (x, wanted[0] * np.nan, dy, wanted[1] * np.nan))
    dw, db = np.empty_like(w), np.empty_like(b)
    NATIVE.conv3x3_fast_forward(x, w, b, y, True)
    backward(x, w, y, dy, dx, dw, db)
    for got, expected in zip((y, dx, dw, db), wanted, strict=True):
        assert np.array_equal(got, expected)
    for room, view in rooms:
        view[...] = np.nan
        assert np.isnan(room).all()


def test_without_dx_the_rest_is_the_same(rng):
    arrays = made(rng, 1, 19, 12, 16, 6)
    with_dx, without = fast(*arrays), fast(*arrays, wants_dx=False)
    assert np.isnan(without[1]).all()
    for i in (0, 2, 3):
        assert with_dx[i].tobytes() == without[i].tobytes()


def test_the_op_takes_the_fast_form_unless_it_must_be_exact(rng, monkeypatch):
    x, w, b, dy = made(rng, 1, 19, 12, 16, 6)

    def results():
        inputs = [Tensor(a, "cpu", needs_grad=True) for a in (x, w, b)]
        y = conv3x3(*inputs, relu=True)
        yield y.numpy().tobytes()
        y.backward(dy)
        yield from (t.grad.tobytes() for t in inputs)

    wanted = [a.tobytes() for a in fast(x, w, b, dy, relu=True)]
    assert list(results()) == wanted
    with exact():
        inside = list(results())
    with exact():  # backward does as forward did
        inputs = [Tensor(a, "cpu", needs_grad=True) for a in (x, w, b)]
        y = conv3x3(*inputs, relu=True)
    y.backward(dy)
    assert [y.numpy().tobytes(), *(t.grad.tobytes() for t in inputs)] == inside
    assert inside != wanted
    monkeypatch.setenv("UNETCU_NATIVE", "0")
    assert list(results()) != wanted


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("x", np.zeros((1, 5, 6, 2))),
        ("x", np.zeros((1, 5, 6, 2), ">f4")),
        ("x", np.zeros((5, 6, 2), "f")),
        ("x", np.zeros((2, 5, 6, 2), "f")),
        ("x", np.zeros((1, 6, 6, 2), "f")),
        ("x", np.zeros((1, 5, 5, 2), "f")),
        ("x", np.zeros((1, 5, 6, 4), "f")[..., ::2]),
        ("w", np.zeros((3, 3, 3, 4), "f")),
        ("w", np.zeros((3, 3, 4, 2), "f").transpose(0, 1, 3, 2)),
        ("b", np.zeros(3, "f")),
        ("y", np.frombuffer(bytes(1 * 3 * 4 * 4 * 4), "f").reshape(1, 3, 4, 4)),
    ],
)
def test_what_does_not_fit_is_refused(name, array):
    fitting = {
        "x": np.zeros((1, 5, 6, 2), "f"),
        "w": np.zeros((3, 3, 2, 4), "f"),
        "b": np.zeros(4, "f"),
        "y": np.zeros((1, 3, 4, 4), "f"),
    }
    NATIVE.conv3x3_fast_forward(*fitting.values(), False)
    with pytest.raises(ValueError, match=r"^[xwby] (must|has|does)"):
        NATIVE.conv3x3_fast_forward(*(fitting | {name: array}).values(), False)


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_every_instruction_set_of_this_machine(isa):
    kernels = NATIVE.build_info()["kernels"]
    if isa == kernels:
        pytest.skip("it is the set in use: the other tests run it")
    if "UNETCU_ISA" in os.environ:
        pytest.skip("one set was asked for (this test sets it for the runs that it starts)")
    env = {**os.environ, "UNETCU_ISA": isa, "PYTHONDONTWRITEBYTECODE": "1"}
    ask = [sys.executable, "-c", "import unetcu._native as n; print(n.build_info()['kernels'])"]
    done = subprocess.run(ask, env=env, capture_output=True, text=True)
    if done.returncode:
        assert f"UNETCU_ISA is '{isa}'; this CPU can use " in done.stderr
        pytest.skip("this CPU does not have it")
    assert done.stdout.strip() == isa
    run = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(run, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
