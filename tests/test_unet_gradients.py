"""The gradients of the whole network, against an oracle that shares no code, and PyTorch."""

import hashlib

import numpy as np
import oracle
import pytest

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import GraphError
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.optim import SGD, AdamW
from unetcu.unet import UNet, output_size

SEED, STEP = 11, 42


def example(rng, net, n, h, w):
    """x, t, w of a batch: some pixels ignored, weights that vary, biases as after training."""
    for name, p in net.parameters.items():
        if name.endswith(".b"):
            net.parameters.write(name, rng.standard_normal(p.shape).astype(np.float32) / 8)
    shape = (n, output_size(h, net.depth), output_size(w, net.depth))
    x = rng.standard_normal((n, h, w, net.in_channels)).astype(np.float32)
    t = rng.integers(-1, net.classes, shape).astype(np.int32)
    return x, t, (rng.random(shape) + 0.1).astype(np.float32)


def gradients(net, x, t, w, train=True):
    """The loss and name -> gradient, in the network's own precision."""
    dtype, on = net.parameters.flat.dtype, net.device
    when = Tensor(np.array([SEED, STEP], np.uint32), on) if train else None
    net.parameters.forget_gradients()
    z = net(Tensor(x.astype(dtype), on), when)
    loss = softmax_loss(z, Tensor(t, on), Tensor(w.astype(dtype), on))
    loss.backward()
    return loss.item(), {n: np.array(on.get(p.grad)) for n, p in net.parameters.items()}


def values(net):
    return {name: np.array(p.numpy(), np.float64) for name, p in net.parameters.items()}


@pytest.mark.parametrize(
    ("net", "size"),
    [
        ({"depth": 2, "base": 3, "in_channels": 2, "classes": 3}, (2, 44, 48)),
        ({"depth": 1, "base": 4, "in_channels": 1, "classes": 2}, (1, 26, 20)),
        ({"depth": 3, "base": 2, "in_channels": 1, "classes": 2}, (1, 92, 92)),
    ],
    ids=["depth 2", "depth 1", "depth 3"],
)
def test_every_parameter_against_the_oracle(rng, net, size):
    net = UNet(**net, dropout=0.4, dtype=np.float64)
    data = example(rng, net, *size)
    loss, grads = gradients(net, *data)
    options = {"depth": net.depth, "rate": 0.4, "seed": SEED, "step": STEP}
    weights = values(net)
    assert abs(loss - oracle.loss(weights, *data, **options).real) <= 1e-12 * loss
    trials = 1 if net.depth == 3 else 3
    for name, g in grads.items():
        size = np.linalg.norm(g)
        assert size > 0, f"{name} has no influence: this test would not see a wrong gradient"
        for trial in range(trials):
            s = rng.standard_normal(g.shape)
            s *= np.sign(np.sum(s * g)) / np.linalg.norm(s)
            s += g / size if trial else 0
            right = oracle.slope(weights, {name: s}, *data, **options)
            error = abs(np.sum(g * s) - right) / (size * np.linalg.norm(s))
            assert error <= 1e-12, f"{name}: <grad, s> is off by {error:.1e}"


def test_every_entry_of_a_tiny_network(rng):
    net = UNet(1, 2, classes=3, dropout=0.5, dtype=np.float64)
    data = example(rng, net, 1, 18, 20)
    _, grads = gradients(net, *data)
    weights = values(net)
    for name, g in grads.items():
        right = np.zeros_like(g)
        for place in np.ndindex(g.shape):
            s = np.zeros_like(g)
            s[place] = 1
            options = {"depth": 1, "rate": 0.5, "seed": SEED, "step": STEP}
            right[place] = oracle.slope(weights, {name: s}, *data, **options)
        worst = np.abs(g - right).max()
        assert worst <= 1e-12 * np.abs(right).max(), f"{name}: {worst:.1e}"


def test_float32_against_float64(on, rng):
    """A near tie of a pool or a ReLU may fall the other way: hence norms, not elements."""
    net = UNet(2, 8, 1, 2, on=on)
    exact = UNet(2, 8, 1, 2, dtype=np.float64)
    data = example(rng, net, 1, 60, 52)
    for name, p in net.parameters.items():
        exact.parameters.write(name, p.numpy())
    loss, grads = gradients(net, *data)
    right_loss, right = gradients(exact, *data)
    assert abs(loss - right_loss) <= 1e-6 * right_loss
    for name, g in grads.items():
        assert g.dtype == np.float32
        error = np.linalg.norm(g - right[name]) / np.linalg.norm(right[name])
        assert error <= 2e-5, f"{name}: {error:.1e}"


def test_any_number_of_threads_gives_the_same_gradients(on, rng, monkeypatch):
    net = UNet(2, 16, on=on)
    data = example(rng, net, 2, 68, 76)
    hashes = set()
    for n in (1, 2, 3, 4, 1):
        monkeypatch.setattr(threads, "_count", n)
        gradients(net, *data)
        flat = np.ascontiguousarray(net.device.get(net.parameters.grads))
        hashes.add(hashlib.sha256(flat).hexdigest())
    assert len(hashes) == 1


def test_gradients_add_up_over_batches_of_one(on, rng):
    net = UNet(1, 4, on=on, dtype=np.float64)
    x, t, w = example(rng, net, 2, 20, 24)
    w[:] = 1
    t[:] = np.abs(t)
    _, both = gradients(net, x, t, w, train=False)
    net.parameters.forget_gradients()
    for i in range(2):
        z = net(Tensor(x[i : i + 1].astype(float), on))
        one = (Tensor(t[i : i + 1], on), Tensor(w[i : i + 1].astype(float), on))
        softmax_loss(z, *one).backward(0.5)
    for name, p in net.parameters.items():
        error = np.linalg.norm(p.grad - both[name]) / np.linalg.norm(both[name])
        assert error <= 1e-13, name


def test_a_step_between_forward_and_backward_is_an_error(on, rng):
    net = UNet(1, 2, on=on)
    x, t, w = example(rng, net, 1, 20, 20)
    optimizer = SGD(net.parameters, 1e-3)
    gradients(net, x, t, w)
    loss = softmax_loss(net(Tensor(x, on)), Tensor(t, on), Tensor(w, on))
    optimizer.step()
    with pytest.raises(GraphError, match=r"head\.w was changed between forward and backward"):
        loss.backward()


def test_a_tiny_network_learns_one_image_by_heart(on, rng):
    net = UNet(1, 8, dropout=0.0, on=on)
    optimizer = AdamW(net.parameters, 0.01)
    yy, xx = np.mgrid[:28, :28]
    disc = ((yy - 13) ** 2 + (xx - 14) ** 2 < 14).astype(np.int32)
    x = Tensor((disc + 0.2 * rng.standard_normal(disc.shape)).astype("f")[None, ..., None], on)
    t = Tensor(disc[None, 8:-8, 8:-8], on)
    w = Tensor(np.ones(t.shape, np.float32), on)
    losses = []
    for _ in range(40):
        net.parameters.forget_gradients()
        z = net(x)
        loss = softmax_loss(z, t, w)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.3
    assert losses[-1] < 0.02
    assert np.array_equal(z.numpy().argmax(axis=3), t.numpy())


def test_against_pytorch(rng):
    torch = pytest.importorskip("torch", reason="compares with PyTorch where it is installed")
    F = torch.nn.functional
    net = UNet(3, 4, 2, 3, dropout=0.0, dtype=np.float64)
    x, t, w = example(rng, net, 2, 92, 100)
    loss, grads = gradients(net, x, t, w)
    p = {name: torch.tensor(v, requires_grad=True) for name, v in values(net).items()}

    def conv(y, name):
        return F.relu(F.conv2d(y, p[name + ".w"].permute(3, 2, 0, 1), p[name + ".b"]))

    y, skips = torch.tensor(x.astype(float)).permute(0, 3, 1, 2), []
    for level in (1, 2, 3):
        y = conv(conv(y, f"down{level}.conv1"), f"down{level}.conv2")
        skips.append(y)
        y = F.max_pool2d(y, 2)
    y = conv(conv(y, "bottom.conv1"), "bottom.conv2")
    for level in (3, 2, 1):
        up = f"up{level}.upconv"
        y = F.conv_transpose2d(y, p[up + ".w"].permute(2, 3, 0, 1), p[up + ".b"], stride=2)
        skip = skips.pop()
        a, b = (skip.shape[2] - y.shape[2]) // 2, (skip.shape[3] - y.shape[3]) // 2
        skip = skip[:, :, a : a + y.shape[2], b : b + y.shape[3]]
        y = conv(conv(torch.cat([skip, y], 1), f"up{level}.conv1"), f"up{level}.conv2")
    y = torch.einsum("nchw,ck->nkhw", y, p["head.w"]) + p["head.b"][:, None, None]
    labels, weights = torch.tensor(t.astype(int)), torch.tensor(w.astype(float))
    each = F.cross_entropy(y, labels, ignore_index=-1, reduction="none")
    right = (each * weights).sum() / weights[labels >= 0].sum()
    right.backward()
    assert abs(loss - right.item()) <= 1e-12 * loss
    for name, g in grads.items():
        error = np.linalg.norm(g - p[name].grad.numpy()) / np.linalg.norm(g)
        assert error <= 1e-11, f"{name}: {error:.1e}"
