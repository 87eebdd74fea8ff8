"""A whole training step and a whole inference, for the default network and larger ones."""

import numpy as np
import pytest

from unetcu.autograd import Tensor
from unetcu.infer import softmax
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

NETS = [(3, 16, 188), (3, 32, 316), (4, 16, 572), (4, 64, 188)]  # depth, base, tile


def report(benchmark, flops):
    """GFLOP/s, unless --benchmark-disable asks for no times."""
    if not benchmark.disabled:
        benchmark.extra_info["GFLOP/s"] = round(flops / benchmark.stats.stats.median / 1e9, 1)


@pytest.mark.parametrize(("depth", "base", "tile"), NETS)
def test_training_step(benchmark, on, precision, depth, base, tile):
    settings = Settings(depth=depth, base=base, tile=tile)
    net = UNet(depth, base, on=on, precision=precision)
    trainer = Trainer(net, settings, total=100)
    rng = np.random.default_rng(0)
    out = settings.tile_out
    batch = Batch(
        rng.standard_normal((1, tile, tile, 1), np.float32),
        rng.integers(0, 2, (1, out, out), np.int32),
        rng.random((1, out, out), np.float32),
    )
    benchmark.pedantic(trainer.step, (batch,), rounds=3, warmup_rounds=1)
    flops = 3 * sum(layer.flops for layer in net.layers(tile, tile))
    report(benchmark, flops)


@pytest.mark.parametrize(("depth", "base", "tile"), NETS)
def test_inference(benchmark, on, precision, depth, base, tile):
    net = UNet(depth, base, on=on, precision=precision)
    x = np.random.default_rng(0).standard_normal((tile, tile, 1), np.float32)
    benchmark.pedantic(softmax, (net, x), rounds=3, warmup_rounds=1)
    flops = sum(layer.flops for layer in net.layers(tile, tile))
    report(benchmark, flops)


def test_tensor_overhead(benchmark, on):
    """What the graph itself costs: a chain of 1000 additions of one number, there and back."""
    one = Tensor(np.ones((), np.float32), on, needs_grad=True)

    def chain():
        y = one
        for _ in range(1000):
            y = y + one
        y.backward()

    benchmark(chain)
