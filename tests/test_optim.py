"""SGD, AdamW and the average of weights against loops over single numbers; threads; errors."""

import math

import numpy as np
import pytest

from unetcu import threads
from unetcu.device import device
from unetcu.errors import UsageError
from unetcu.optim import CHUNK, SGD, AdamW, Average
from unetcu.parameters import Parameters


def arena(on, size, rng, dtype=np.float64):
    p = Parameters({"p": (size,)}, device(on), dtype)
    p.write("p", rng.standard_normal(size))
    return p


def values(p, flat=None):
    """The numbers themselves, without what pads the arena."""
    return p.named(p.flat if flat is None else flat)["p"]


def steps(optimizer, p, grads, rates=None):
    """One step for each gradient; the rates are set as training does."""
    for t, g in enumerate(grads):
        if rates:
            optimizer.set(rates[t], t)
        p.forget_gradients()
        p["p"].accumulate(g)
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_sgd_against_a_loop(on, rng, momentum):
    p = arena(on, 5, rng)
    start, grads = values(p).copy(), rng.standard_normal((6, 5))
    rates = [0.1, 0.1, 0.05, 0.2, 0.01, 0.3]
    steps(SGD(p, 0.1, momentum), p, grads, rates)
    for i in range(5):
        value, v = start[i], 0.0
        for lr, g in zip(rates, grads[:, i], strict=True):
            v = momentum * v + g
            value -= lr * v
        assert math.isclose(values(p)[i], value, rel_tol=1e-13)


def test_the_papers_momentum_is_the_default(on, rng):
    assert SGD(arena(on, 1, rng), 1.0).momentum == 0.99


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5), (0.8, 0.0)])
def test_adamw_against_a_loop(on, rng, betas, decay):
    p = arena(on, 5, rng)
    start, grads = values(p).copy(), rng.standard_normal((6, 5))
    rates = [0.1, 0.1, 0.05, 0.2, 0.01, 0.3]
    steps(AdamW(p, 0.1, betas, 1e-3, decay), p, grads, rates)
    b1, b2 = betas
    for i in range(5):
        value, m, s = start[i], 0.0, 0.0
        for t, (lr, g) in enumerate(zip(rates, grads[:, i], strict=True), 1):
            m = b1 * m + (1 - b1) * g
            s = b2 * s + (1 - b2) * g**2
            size = math.sqrt(s / (1 - b2**t)) + 1e-3
            value -= lr * (m / (1 - b1**t) / size + decay * value)
        assert math.isclose(values(p)[i], value, rel_tol=1e-12)


def test_the_first_step_of_adam_is_the_learning_rate(on, rng):
    """What the corrections of the first steps are for: |step| = lr whatever the gradient's size."""
    for scale in (1e-3, 1.0, 1e3):
        p = arena(on, 4, rng)
        before = values(p).copy()
        steps(AdamW(p, 0.01), p, [scale * np.array([1.0, -1, 2, -3])])
        np.testing.assert_allclose(before - values(p), [0.01, -0.01, 0.01, -0.01], rtol=1e-4)


def test_adams_defaults(on, rng):
    optimizer = AdamW(arena(on, 1, rng), 1.0)
    assert (optimizer.betas, optimizer.eps, optimizer.decay) == ((0.9, 0.999), 1e-8, 0.0)


def test_resuming_from_the_state_gives_the_same_bits(on, rng):
    for kind in (SGD, AdamW):
        grads = rng.standard_normal((8, 7)).astype(np.float32)
        p, q = (arena(on, 7, np.random.default_rng(1), np.float32) for _ in range(2))
        whole = kind(p, 0.1)
        steps(whole, p, grads)
        first = kind(q, 0.1)
        steps(first, q, grads[:3])
        second = kind(q, 0.1)
        for name, array in first.state.items():
            second.state[name][:] = array
        second.set(0.1, 3)
        steps(second, q, grads[3:])
        assert p.flat.tobytes() == q.flat.tobytes()


@pytest.mark.parametrize("kind", [SGD, AdamW, Average])
def test_any_number_of_threads_and_every_element(on, rng, monkeypatch, kind):
    """More than two chunks and a piece: the ends must move as the same numbers do alone."""
    size = 2 * CHUNK + 17
    grads = rng.standard_normal((3, size)).astype(np.float32)
    start = rng.standard_normal(size).astype(np.float32)

    def result(part, n):
        monkeypatch.setattr(threads, "_count", n)
        p = Parameters({"p": (size,) if part is ... else (part.stop - part.start,)}, device(on))
        p.write("p", start[part])
        optimizer = SGD(p, 0.1) if kind is Average else kind(p, 0.1)
        average = Average(optimizer, 0.9) if kind is Average else None
        for g in grads:
            steps(optimizer, p, [g[part]])
            if average:
                average.update()
        return values(p, average.flat if average else None)

    whole = result(..., 1)
    for n in (2, 3, 4):
        assert result(..., n).tobytes() == whole.tobytes()
    for part in (slice(0, 5), slice(CHUNK - 3, CHUNK + 3), slice(size - 20, size)):
        assert result(part, 1).tobytes() == whole[part].tobytes()


def test_float32_stays_near_float64(on, rng):
    for kind in (SGD, AdamW):
        grads = rng.standard_normal((30, 50))
        p = arena(on, 50, np.random.default_rng(2), np.float32)
        q = arena(on, 50, np.random.default_rng(2))
        steps(kind(p, 0.01), p, grads.astype(np.float32))
        steps(kind(q, 0.01), q, grads)
        assert p.flat.dtype == np.float32
        np.testing.assert_allclose(values(p), values(q), rtol=1e-5, atol=1e-5)


def test_state_is_of_the_parameters_precision_and_starts_at_zero(on, rng):
    for dtype in (np.float32, np.float64):
        p = arena(on, 3, rng, dtype)
        assert set(SGD(p, 0.1).state) == {"velocity"}
        optimizer = AdamW(p, 0.1)
        assert set(optimizer.state) == {"mean", "square"}
        for array in optimizer.state.values():
            assert array.dtype == dtype
            assert values(p, array).tolist() == [0, 0, 0]
            assert array.shape == p.flat.shape


def test_a_step_is_a_change_of_the_parameters(on, rng):
    p = arena(on, 3, rng)
    before = p.version
    steps(SGD(p, 0.1), p, [np.ones(3)])
    assert p.version > before


def test_the_average_against_a_loop(on, rng):
    p = arena(on, 3, rng)
    optimizer = SGD(p, 0.1)
    average = Average(optimizer, 0.6)
    right = values(p).tolist()
    for t in range(1, 25):
        p.write("p", rng.standard_normal(3))
        optimizer.set(0.1, t)
        average.update()
        d = min(0.6, t / (t + 10))
        right = [d * a + (1 - d) * v for a, v in zip(right, values(p), strict=True)]
        np.testing.assert_allclose(values(p, average.flat), right, rtol=1e-12)
    assert not np.shares_memory(average.flat, p.flat)


@pytest.mark.parametrize("lr", [0, -1, math.nan, math.inf])
def test_learning_rates_that_make_no_sense(on, rng, lr):
    p = arena(on, 1, rng)
    for make in (lambda: SGD(p, lr), lambda: AdamW(p, lr), lambda: SGD(p, 1.0).set(lr, 0)):
        with pytest.raises(UsageError, match="learning rate must be positive and finite, got"):
            make()


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_momenta_that_make_no_sense(on, rng, momentum):
    with pytest.raises(UsageError, match="momentum must be at least 0 and below 1, got"):
        SGD(arena(on, 1, rng), 0.1, momentum)
    with pytest.raises(UsageError, match="decay must be at least 0 and below 1, got"):
        Average(SGD(arena(on, 1, rng), 0.1), momentum)


@pytest.mark.parametrize(
    "options",
    [
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"betas": (0.9, math.nan)},
        {"eps": 0.0},
        {"eps": math.nan},
        {"decay": -1e-3},
        {"decay": math.nan},
    ],
    ids=str,
)
def test_adams_that_make_no_sense(on, rng, options):
    with pytest.raises(UsageError, match="AdamW cannot work with"):
        AdamW(arena(on, 1, rng), 0.1, **options)
