"""Whole networks in tf32, tf32x3, bf16 and fp16: gradients, training, what a device can do."""

import functools

import numpy as np
import pytest
from gpus import CUDA
from test_simt_training import batch

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.errors import UsageError
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.optim import Scaling
from unetcu.precision import BF16, FORMS, floats, form_of, on_tensor_cores, stored
from unetcu.training.prepare import prepare
from unetcu.training.samples import Tiles
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet


@pytest.fixture(params=["simt", CUDA])
def on(request):
    return request.param


def gradient(on, precision, dtype=np.float32, scale=None, one=None, weights=None):
    """The loss and the flat gradient of one step: of a network as it is made, with 16 channels and
    noise for an image, or of one with given weights."""
    base = 16 if weights is None else next(iter(weights.values())).shape[3]
    net = UNet(2, base, on=on, dtype=dtype, precision=precision, dropout=0)
    if weights is not None:
        net.parameters.load({name: w.astype(dtype) for name, w in weights.items()})
    one = one or batch(3)
    z = net(Tensor(one.x.astype(dtype), on))
    loss = softmax_loss(z, Tensor(one.t, on), Tensor(one.w.astype(dtype), on))
    net.parameters.forget_gradients()
    loss.backward(scale)
    g = np.array(net.device.get(net.parameters.gradients()), np.float64)
    return loss.item(), g / (scale or 1)


@pytest.fixture(scope="module")
def exact():
    return gradient("cpu", "fp32", np.float64)


# Relative error of the whole gradient, and 1 - its cosine with the exact one. What remains in 16
# bits, and in tf32, are ReLUs and pools whose sums rounding carries to the other side.
@pytest.mark.parametrize(
    ("precision", "error", "turn"),
    [
        ("fp32", 1e-6, 1e-9),
        ("tf32x3", 1e-5, 1e-9),
        ("tf32", 2e-2, 2e-4),
        ("fp16", 2e-2, 2e-4),
        ("bf16", 5e-2, 1e-3),
    ],
)
def test_the_gradient_of_a_step(on, precision, error, turn, exact):
    loss, g = gradient(on, precision, scale=4096.0 if precision == "fp16" else None)
    length = np.linalg.norm(exact[1])
    assert abs(loss - exact[0]) <= error * exact[0]
    assert np.linalg.norm(g - exact[1]) <= error * length
    assert g @ exact[1] >= (1 - turn) * length * np.linalg.norm(g)
    assert (
        gradient(on, precision, scale=4096.0 if precision == "fp16" else None)[1].tobytes()
        == g.tobytes()
    )


def test_the_gradient_of_a_trained_network_in_bf16(on):
    """On the built-in data, where fewer sums are near 0 than in noise: 3 %, a cosine of 0.999."""
    data = prepare(None, None, Settings(depth=2, base=32, tile=76, batch=1))
    tiles, trainer = Tiles(data.training, data.settings), Trainer(UNet(2, 32), data.settings, 1000)
    for k in range(60):
        trainer.step(tiles.batch(k))
    given = {"one": tiles.batch(999), "weights": trainer.weights()}
    exact, found = (
        gradient(*how, **given)[1] for how in (("cpu", "fp32", np.float64), (on, "bf16"))
    )
    length = np.linalg.norm(exact)
    assert np.linalg.norm(found - exact) <= 3e-2 * length
    assert found @ exact >= 0.999 * length * np.linalg.norm(found)


@functools.cache
def losses_in_fp32():
    return trained("fp32", 60)[0]


def trained(precision, steps, total=60):
    """The losses of a short training, and the trainer."""
    net = UNet(1, 8, on="simt", precision=precision, dropout=0)
    settings = Settings(depth=1, base=8, tile=44, batch=1, lr=5e-3)
    trainer = Trainer(net, settings, total=total)
    return [trainer.step(batch(k, 44, 1)) for k in range(steps)], trainer


@pytest.mark.parametrize(("precision", "steps"), [("bf16", 40), ("fp16", 20)])
def test_training_in_16_bits_reaches_the_loss_of_fp32(precision, steps):
    """In the first of 60 steps the loss falls most."""
    assert np.mean(losses_in_fp32()[-10:]) < 0.7 * np.mean(losses_in_fp32()[:5])
    right = losses_in_fp32()[:steps]
    got, trainer = trained(precision, steps)
    assert abs(np.mean(got[-10:]) / np.mean(right[-10:]) - 1) < 0.02
    p = trainer.net.parameters
    for name in p:
        if name.endswith(".w"):  # what the optimizer's kernel has rounded
            here = np.array(p.device.get(p[name].data))
            assert np.array_equal(here, stored(p[name].numpy(), FORMS[precision]))


def test_a_run_in_fp16_goes_on_where_it_stopped():
    _, first = trained("fp16", 3, total=6)
    _, again = trained("fp16", 1, total=6)
    first.net.device.copy(np.array([512, 1, 999], np.float32), first.scaling.state)
    whole = trained("fp16", 3, total=6)[1]
    whole.net.device.copy(np.array([512, 1, 999], np.float32), whole.scaling.state)
    assert set(first.state()) == {"average", "mean", "square", "loss_scale"}
    again.load(first.weights(), first.state(), 3)
    for k in range(3, 6):
        assert again.step(batch(k, 44, 1)) == whole.step(batch(k, 44, 1))
    for name, w in whole.weights().items():
        assert again.weights()[name].tobytes() == w.tobytes(), name
    assert again.state()["loss_scale"].tolist() == [1024, 1 / 1024, 2]


def test_the_loss_scale_leaves_out_steps_whose_gradient_is_not_finite(rng):
    net = UNet(1, 8, on="simt", precision="fp16")
    trainer = Trainer(net, Settings(depth=1, base=8, tile=44), total=2)
    where, scaling = net.device, trainer.scaling
    assert isinstance(scaling, Scaling)
    for p in net.parameters.values():
        p.accumulate(where.put(rng.standard_normal(p.shape).astype(np.float32)))
    before = net.parameters["head.w"].numpy().copy()
    spoiled = net.parameters["bottom.conv1.w"].slot
    for bad in (np.inf, -np.inf, np.nan):
        where.copy(np.full(spoiled.shape, bad, np.float32), spoiled)
        scale = float(where.get(scaling.state)[0])
        scaling.look()
        trainer.optimizer.step()
        assert where.get(scaling.state).tolist() == [scale / 2, 0, 0]
        assert np.array_equal(net.parameters["head.w"].numpy(), before)
        assert not where.get(trainer.optimizer.state["mean"]).any()
    where.copy(np.ones(spoiled.shape, np.float32), spoiled)
    scaling.look()
    assert where.get(scaling.state).tolist() == [scale / 2, 2 / scale, 1]
    trainer.optimizer.step()
    assert not np.array_equal(net.parameters["head.w"].numpy(), before)
    where.copy(np.array([2.0, 0.5, 999], np.float32), scaling.state)
    scaling.look()
    assert where.get(scaling.state).tolist() == [4, 0.5, 0]


def test_which_device_computes_in_what():
    assert UNet(1, 2, precision="auto").precision == "fp32"
    assert UNet(1, 2, on="simt", precision="auto").precision == "fp32"
    with pytest.raises(UsageError, match="--precision bf16: cpu computes in fp32"):
        UNet(1, 2, precision="bf16")
    with pytest.raises(UsageError, match="--precision fp8: simt computes in fp32, tf32x3"):
        UNet(1, 2, on="simt", precision="fp8")
    assert form_of(BF16, "fp32") == "bf16"
    assert form_of(np.float32, "tf32") == "tf32"
    assert on_tensor_cores("bf16", 64, 8)
    assert not on_tensor_cores("bf16", 64, 12)
    assert on_tensor_cores("tf32", 12)
    assert not on_tensor_cores("fp32", 64)


def test_floats_and_stored_are_inverse():
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = floats(bits)
    same = ~np.isnan(numbers)
    assert np.array_equal(stored(numbers, BF16)[same], bits[same])
    assert np.isnan(floats(stored(numbers, BF16))[~same]).all()
    assert device("simt").usual == "fp32"
