"""The whole network trained by the CUDA kernels: on the SIMT runtime, and on a GPU if there is."""

import numpy as np
import pytest
from gpus import CUDA

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.errors import KernelError
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet, output_size

pytestmark = pytest.mark.usefixtures("exact_form")
STEPS, TILE = 20, 76


@pytest.fixture(params=["simt", CUDA])
def on(request):
    return request.param


def batch(step, size=TILE, depth=2):
    """Discs on noise, and which class each pixel of the output has."""
    rng = np.random.default_rng(step)
    y, x = np.mgrid[:size, :size]
    inside = np.zeros((size, size), bool)
    for cy, cx, r in zip(*rng.uniform(0, size, (2, 6)), rng.uniform(6, 12, 6), strict=True):
        inside |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
    image = inside + 0.5 * rng.standard_normal((size, size))
    out = output_size(size, depth)
    lost = (size - out) // 2
    t = inside[lost : lost + out, lost : lost + out].astype(np.int32)
    t[0, :3] = -1
    w = rng.uniform(0.5, 2, t.shape).astype(np.float32)
    return Batch(image[None, :, :, None].astype(np.float32), t[None], w[None])


def trainer(on, depth=2, base=16, **settings):
    net = UNet(depth, base, on=on)
    return Trainer(
        net, Settings(depth=depth, base=base, tile=TILE, batch=1, **settings), total=STEPS
    )


def gradients(t):
    """name -> gradient of the last step."""
    grads = t.net.parameters.named(t.net.device.get(t.net.parameters.grads))
    return {name: np.array(g) for name, g in grads.items()}


def exact_gradients(weights, one, step):
    """name -> gradient, by the CPU path in float64."""
    net = UNet(2, 16, on="cpu", dtype=np.float64)
    net.parameters.load(weights)
    z = net(Tensor(one.x.astype(np.float64)), Tensor(np.array([0, step], np.uint32)))
    softmax_loss(z, Tensor(one.t), Tensor(one.w.astype(np.float64))).backward()
    return {name: p.grad for name, p in net.parameters.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_twenty_steps_each_from_the_weights_of_the_cpu(on, optimizer):
    steps = STEPS if optimizer == "adamw" else 5
    cpu, simt = (trainer(where, optimizer=optimizer, lr=2e-3) for where in ("cpu", on))
    losses = []
    for k in range(steps):
        simt.load(cpu.weights(), cpu.state(), k)
        before = {name: w.copy() for name, w in cpu.weights().items()}
        losses.append(cpu.step(batch(k)))
        loss = simt.step(batch(k))
        assert abs(loss - losses[-1]) <= 1e-5 * abs(losses[-1])
        # Where two numbers nearly tie in a pool, or one is nearly 0 at a ReLU, rounding decides who
        # gets the gradient, on the CPU as here: so ours must be that of one of two precisions.
        rights = gradients(cpu), exact_gradients(before, batch(k), k)
        for name, g in gradients(simt).items():
            error = min(np.linalg.norm(g - r[name]) / np.linalg.norm(r[name]) for r in rights)
            assert error <= 1e-4, f"step {k}, {name}: {error:.1e}"
        moved = {name: np.linalg.norm(w - before[name]) for name, w in cpu.weights().items()}
        for name, w in simt.weights().items():
            assert np.linalg.norm(w - cpu.weights()[name]) <= 1e-2 * moved[name], name
        for name, w in simt.averaged().items():
            assert np.allclose(w, cpu.averaged()[name], rtol=1e-3, atol=1e-4), name
    assert losses[-1] < losses[0]


def test_on_its_own_it_learns_the_same(on):
    cpu, simt = trainer("cpu", base=8, lr=5e-3), trainer(on, base=8, lr=5e-3)
    for k in range(8):
        a, b = cpu.step(batch(k)), simt.step(batch(k))
        assert abs(a - b) <= 1e-3 * a


OPERATORS = "add sub mul truediv floordiv mod pow matmul neg abs and or xor invert lt le gt ge"
FUNCTIONS = "add subtract multiply divide sum mean exp log sqrt maximum minimum dot matmul where"


def test_every_number_comes_from_a_kernel(on, monkeypatch):
    """Arrays of simt refuse NumPy's arithmetic, and CuPy's is made to; each kernel is counted."""
    t = trainer(on, optimizer="adamw")
    where = t.net.device

    def refuse(*args, **options):
        raise KernelError("only kernels may compute")

    if on == "cuda":
        cupy = where._cupy
        for name in OPERATORS.split():
            for method in (f"__{name}__", f"__r{name}__", f"__i{name}__"):
                monkeypatch.setattr(cupy.ndarray, method, refuse, raising=False)
        for name in ("sum", "mean", "dot", "max", "min", "astype", "fill"):
            monkeypatch.setattr(cupy.ndarray, name, refuse, raising=False)
        for name in FUNCTIONS.split():
            monkeypatch.setattr(cupy, name, refuse)
    fetched = []
    for name in ("get", "fetch"):
        true = getattr(where, name)
        monkeypatch.setattr(
            where, name, lambda array, true=true: (fetched.append(array.size), true(array))[1]
        )
    where.launches.clear()
    t.step(batch(0))
    assert set(fetched) == {1}  # the loss: nothing else is computed where NumPy may
    counts = where.launches
    convolutions = 2 * 3 + 2 * 2  # two poolings: down 2, bottom, up 2
    again = 2  # the first one, for the gradient of the next, and then for its own gate
    for what, times in (("forward", convolutions + again), ("backward_w", convolutions)):
        entries = [n for entry, n in counts.items() if entry.startswith("conv3x3_" + what)]
        assert sum(entries) == times
    assert counts["maxpool2_backward"] == counts["upconv2_backward_x"] == 2
    for what in ("maxpool2_forward", "upconv2_forward", "crop_concat_forward"):
        assert counts[what] == 4  # and again in backward
    # Each skip map is used twice: max-pooling adds its gradient to the other.
    assert counts["elementwise_add"] == 0
    assert counts["dropout_scale"] == 2
    assert counts["head_loss_pass_2"] == counts["head_loss_sum"] == counts["optim_adamw"] == 1
    assert counts["conv1x1_forward"] == counts["softmax_loss_forward"] == 0
    with pytest.raises(KernelError, match="only kernels may compute"):
        t.net.parameters.flat + 1


def test_the_same_bits_in_every_order_of_threads():
    """Ten steps hash alike, whichever thread goes first and however many blocks run at once."""
    ends = []
    for modes in ("simt", "simt:reverse", "simt:shuffled"):
        t = trainer(device(modes), base=4, lr=1e-2)
        for k in range(3):
            t.step(batch(k))
        ends.append(b"".join(w.tobytes() for w in t.weights().values()))
    assert ends[0] == ends[1] == ends[2]


def test_what_changes_from_step_to_step_is_read_from_memory(on, monkeypatch):
    """Step number, rate and seed are no arguments: a replayed graph would never see them change."""
    where = device(on)
    seen = []
    start = where._start

    def note(call):
        scalars = [float(a) for a in call.args if isinstance(a, np.generic)]
        seen.append(call._replace(args=scalars))
        start(call)

    monkeypatch.setattr(where, "_start", note)
    t = trainer(where, base=4)
    launched = []
    for k in range(2):
        seen.clear()
        t.settings = Settings(depth=2, base=4, tile=TILE, batch=1, lr=0.01 * (k + 1), seed=k)
        t.step(batch(k))
        launched.append(list(seen))
    assert len(launched[0]) > 30
    assert launched[0] == launched[1]


def test_debug_names_the_op_and_the_line(on, monkeypatch):
    where = device(on)
    monkeypatch.setattr(where, "debug", True)
    t = trainer(where, base=4, lr=1e-2)
    t.step(batch(0))  # nothing to complain of
    bad = batch(1)
    bad.x[0, 30, 30, 0] = np.nan
    with pytest.raises(KernelError, match=r"conv3x3_forward.* 1 NaN of .* in x.*Conv3x3.*unet\.py"):
        t.step(bad)
    net = t.net
    z = Tensor(np.full((1, 2, 2, 2), np.inf, np.float32), where, needs_grad=True)
    target, w = np.zeros((1, 2, 2), np.int32), np.ones((1, 2, 2), np.float32)
    with pytest.raises(KernelError, match=r"SoftmaxLoss.*test_simt_training\.py"):
        softmax_loss(z, Tensor(target, where), Tensor(w, where))
    assert net.device is where
