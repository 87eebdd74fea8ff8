"""The trainer against loops over single numbers: rate, average, state; threads; it does learn."""

import copy
import hashlib
import math

import numpy as np
import pytest

from unetcu import threads
from unetcu.autograd import Tensor, no_grad
from unetcu.errors import CheckpointError, ShapeError, UnetcuError
from unetcu.training.samples import Batch, Example, Tiles
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet


def batch(seed, n=2, size=20, lost=16, classes=2):
    """Noise; the class is the sign of the sum of three pixels, so it can be learnt."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, size, size, 1)).astype(np.float32)
    y = x[..., 0]
    t = (y + np.roll(y, 1, 1) + np.roll(y, 1, 2) > 0).astype(np.int32)
    middle = slice(lost // 2, size - lost // 2)
    t = t[:, middle, middle] * (classes - 1)
    t[0, 0, 0] = -1
    return Batch(x, t, rng.uniform(0.5, 2, t.shape).astype(np.float32))


def trainer(total=10, seed=0, dropout=0.0, base=2, depth=1, **settings):
    s = Settings(depth=depth, base=base, tile=20 if depth == 1 else 44, seed=3, **settings)
    return Trainer(UNet(depth, base, 1, 2, seed=seed, dropout=dropout), s, total)


def everything(t):
    arrays = {**t.weights(), **t.averaged(), **t.state()}
    return {f"{i} {k}": a.tobytes() for i, (k, a) in enumerate(arrays.items())}


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 0.01), ("sgd", 0.1)])
def test_a_tiny_net_learns_one_batch_by_heart(exact_form, optimizer, lr):
    one = batch(1, n=1, size=24)
    t = trainer(total=200, base=4, optimizer=optimizer, lr=lr, momentum=0.9)
    losses = [t.step(one) for _ in range(200)]
    assert losses[0] > 0.4
    assert max(losses[-5:]) < 0.02


def test_the_rate_of_each_step():
    t = trainer(total=100, lr=0.02)
    assert [t.rate(k) for k in (0, 1, 49, 50)] == [0.02] * 4
    assert math.isclose(t.rate(75), 0.01, rel_tol=1e-12)
    assert math.isclose(t.rate(60), 0.02 * 0.9045084971874737, rel_tol=1e-12)
    assert math.isclose(t.rate(90), 0.02 * 0.09549150281252627, rel_tol=1e-12)
    assert t.rate(99) == t.rate(100) == 0.02 * 1e-3
    assert math.isclose(trainer(total=10, lr=1.0).rate(9), 0.09549150281252627, rel_tol=1e-12)
    assert trainer(total=1, lr=0.5).rate(0) == 0.5
    constant = trainer(total=10, lr=0.02, schedule="constant")
    assert [constant.rate(k) for k in (0, 5, 9, 10)] == [0.02] * 4


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_is_made_with_its_rate_and_its_gradient_alone(optimizer):
    t = trainer(total=4, lr=0.02, optimizer=optimizer, momentum=0.0)
    for k in range(4):
        before = t.net.parameters.flat.copy()
        t.step(batch(k))
        assert t.done == k + 1
        assert t.optimizer.hyper.tolist() == [t.rate(k), k + 1]
        if optimizer == "sgd":
            moved = before - np.float32(t.rate(k)) * t.net.parameters.grads
            assert np.allclose(t.net.parameters.flat, moved, rtol=1e-6, atol=1e-8)
        fresh = trainer(total=4)
        fresh.net.parameters.writable()[:] = before
        fresh.step(batch(k))
        assert fresh.net.parameters.grads.tobytes() == t.net.parameters.grads.tobytes()


def test_the_momentum_of_the_settings_is_used():
    assert trainer(optimizer="sgd", momentum=0.25).optimizer.momentum == 0.25


def test_the_loss_is_that_of_equation_1_before_the_step():
    t, b = trainer(), batch(2, n=3)
    with no_grad():
        z = t.net(Tensor(b.x)).numpy().astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(axis=3, keepdims=True)
    total = weight = 0.0
    for n, i, j in np.ndindex(b.t.shape):
        if b.t[n, i, j] >= 0:
            total -= b.w[n, i, j] * math.log(p[n, i, j, b.t[n, i, j]])
            weight += float(b.w[n, i, j])
    assert math.isclose(t.step(b), total / weight, rel_tol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_the_average_against_a_loop(decay):
    t = trainer(total=12, average=decay, lr=0.05)

    def flat():
        return np.concatenate([w.ravel() for w in t.weights().values()])

    expected = flat().astype(np.float64)
    for k in range(1, 13):
        t.step(batch(k))
        d = min(decay, k / (k + 10))
        for i, p in enumerate(flat().tolist()):
            expected[i] = d * expected[i] + (1 - d) * p
    got = np.concatenate([a.ravel() for a in t.averaged().values()])
    assert list(t.averaged()) == list(t.weights()) == list(t.net.parameters)
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-6)
    shift = np.abs(got - flat()).max()
    assert shift < 1e-6 if decay == 0 else shift > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_a_saved_state_goes_on_bit_for_bit(optimizer, dropout, stop):
    options = {"optimizer": optimizer, "lr": 0.01, "total": 8, "dropout": dropout}
    whole = trainer(**options)
    losses = [whole.step(batch(k)) for k in range(8)]
    first = trainer(**options)
    for k in range(stop):
        first.step(batch(k))
    weights, state = copy.deepcopy(first.weights()), copy.deepcopy(first.state())
    first.step(batch(99))  # what was saved is not what goes on
    second = trainer(**{**options, "seed": 1})
    second.step(batch(98))
    second.load(weights, state, stop)
    assert second.done == stop
    assert [second.step(batch(k)) for k in range(stop, 8)] == losses[stop:]
    assert everything(second) == everything(whole)


def test_drop_out_acts_in_training_and_depends_on_the_step():
    t = trainer(dropout=0.5, base=4)
    again = trainer(dropout=0.5, base=4)
    again.done = 1
    none = trainer(base=4)
    assert len({net.step(batch(1, n=1)) for net in (t, again, none)}) == 3


def test_a_state_of_another_training_is_refused():
    sgd, adam, large = trainer(optimizer="sgd"), trainer(), trainer(base=4)
    for state in (sgd.state(), {}, large.state(), {**adam.state(), "more": np.zeros(3)}):
        with pytest.raises(
            CheckpointError, match=r"^cannot resume: .* needs average, mean, square"
        ):
            adam.load(adam.weights(), state, 1)
    half = {k: v.astype(np.float64) for k, v in adam.state().items()}
    with pytest.raises(CheckpointError, match="cannot resume"):
        adam.load(adam.weights(), half, 1)
    with pytest.raises(ShapeError):
        adam.load(large.weights(), adam.state(), 1)
    assert adam.done == 0


def trained(count, monkeypatch):
    monkeypatch.setattr(threads, "_count", count)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 70, 1)).astype(np.float32)
    t = (x[..., 0] > 0).astype(np.int32)
    net = trainer(total=3, base=4, depth=2, batch=3, dropout=0.5)
    tiles = Tiles([Example(x, t, np.ones(t.shape, np.float32), None)], net.settings)
    losses = [net.step(b) for b in tiles.batches(0, 3)]
    return losses, hashlib.sha256(b"".join(everything(net).values())).hexdigest()


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    one = trained(1, monkeypatch)
    assert len(set(one[0])) == 3
    for count in (2, 3, 4):
        assert trained(count, monkeypatch) == one


@pytest.mark.parametrize("count", [1, 3])
def test_numbers_that_overflow_give_a_loss_that_is_not_finite_and_no_warning(monkeypatch, count):
    monkeypatch.setattr(threads, "_count", count)
    t = trainer()
    t.net.parameters.writable()[:] *= 1e30
    assert not math.isfinite(t.step(batch(0)))


def test_a_batch_of_another_shape_is_refused():
    with pytest.raises(UnetcuError):
        trainer().step(batch(0, size=21))
    with pytest.raises(UnetcuError):
        trainer().step(batch(0, lost=12))
