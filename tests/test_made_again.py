"""Maps that are made twice instead of kept: the same bits, less memory, a plan that says so."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_runs import cells, quick, tiny

from unetcu import cli, plan
from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.memory import training_bytes, training_memory
from unetcu.ops import conv3x3, crop_concat
from unetcu.ops.maxpool2 import maxpool2
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet


def step(precision):
    """The loss, the bits of the gradient and how often each kernel ran, of one step."""
    rng = np.random.default_rng(0)
    s = Settings(depth=2, base=8, tile=76, batch=2)
    x, out = rng.random((2, 76, 76, 1), np.float32), (2, s.tile_out, s.tile_out)
    t, w = rng.integers(-1, 2, out).astype(np.int32), rng.random(out, np.float32)
    net = UNet(2, 8, on="simt", precision=precision)
    trainer = Trainer(net, s, 2)
    net.device.launches.clear()
    loss = trainer.step(Batch(x, t, w))
    return loss, net.device.get(net.parameters.grads).tobytes(), net.device.launches.copy()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bits_are_those_of_maps_that_are_kept(precision, monkeypatch):
    """And of a skip map's gradient with its zeros around it."""
    loss, gradient, often = step(precision)
    forward = crop_concat.CropConcat.forward_gpu

    def whole(self, *arrays, **options):
        y = forward(self, *arrays, **options)
        self.framed = False
        return y

    monkeypatch.setattr(conv3x3, "keep", lambda op, x: x)
    monkeypatch.setattr(crop_concat.CropConcat, "forward_gpu", whole)
    kept_loss, kept_gradient, kept_often = step(precision)
    assert (loss, gradient) == (kept_loss, kept_gradient)
    ups = "upconv2_forward" if precision == "fp32" else "upconv2_mma_forward"
    assert (often[ups], kept_often[ups]) == (4, 2)
    assert kept_often["crop_concat_border"] == (0 if precision == "fp32" else 2)
    assert often["crop_concat_border"] == 0


@pytest.mark.parametrize("margins", [(0, 0), (2, 4), (6, 0)])
def test_a_max_pool_adds_what_a_skip_connection_sends_to_its_centre(rng, margins):
    """By hand, on pages that fault."""
    where, (h, w) = device("simt:guard"), margins
    x = rng.integers(-4, 5, (2, 12, 14, 3)).astype(np.float32)
    centre = rng.integers(-4, 5, (2, 12 - h, 14 - w, 3)).astype(np.float32)
    dy = rng.integers(-4, 5, (2, 6, 7, 3)).astype(np.float32)
    image = Tensor(x, where, needs_grad=True)
    y = maxpool2(image)
    y.maker.so_far = crop_concat.Framed(where.put(centre), x.shape)
    got = where.get(y.maker.backward_gpu(where.put(dy))[0])
    alone = maxpool2(again := Tensor(x, where, needs_grad=True))
    alone.backward(dy)
    right = np.array(where.get(again.grad))
    right[:, h // 2 : 12 - h // 2, w // 2 : 14 - w // 2] += centre
    assert np.array_equal(got, right)


def test_what_a_step_of_the_paper_takes_on_a_gpu():
    """In MB of 16 bits: less than half of the 443 that PyTorch's maps and gradients take."""
    net = UNet(4, 64, on="simt", precision="bf16")
    s = Settings(depth=4, base=64, tile=572, batch=1, optimizer="sgd")
    found = training_memory(net, s)
    assert 200e6 < found.activations < 215e6
    assert found.kept < 195e6
    assert found.moment == "Conv3x3 up1.conv1, backward"
    assert sum(p.size for p in found.alive) == found.activations
    assert [p.size for p in found.alive] == sorted((p.size for p in found.alive), reverse=True)
    first = found.alive[0]
    assert (first.op, first.shape) == ("Conv3x3 down1.conv2, forward", (1, 568, 568, 64))
    flat = 4 * net.parameters.flat.size
    parts = ("weights", "gradients", "moments", "average", "judged network")
    assert [found.lasting[part] for part in parts] == [flat] * 5
    assert found.lasting["weights of 16 bits"] == flat // 2
    everything = sum(found.lasting.values()) + found.activations
    assert 0 <= found.total - everything < 0.06 * everything  # holes, small arrays
    two = training_memory(net, replace(s, batch=2))
    assert 1.9 * found.activations < two.activations < 2.1 * found.activations
    assert training_bytes(net, s) == found.total


def test_the_plan_of_a_gpu_that_is_not_there(tmp_path, monkeypatch, capsys):
    quick(monkeypatch)
    monkeypatch.setattr(plan, "seconds_a_step", None)  # no step is made
    files = [str(f) for f in cells(tmp_path)]
    settings = tiny(instances=True, depth=2, base=16, tile=76, precision="bf16")
    planned = plan.plan(*files, settings=settings, on="simt")
    assert "steps" not in planned
    found = training_memory(UNet(2, 16, on="simt", precision="bf16"), settings)
    assert planned["activation_bytes"] == found.activations
    assert planned["lasting_bytes"] == found.lasting
    words = ["--instances", "--depth=2", "--base=16", "--tile=76", "--precision=bf16"]
    capsys.readouterr()
    assert cli.main(["plan", *files, *words, "--device=simt"]) == 0
    out = capsys.readouterr().out
    assert "of which    weights " in out
    assert f"at most, in {found.moment}:\n" in out
    assert "one step" not in out
