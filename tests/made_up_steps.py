"""Steps of training of a tiny network, on a device of one's own, and all that comes of them."""

import numpy as np

from unetcu.device.simt import Simt
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet, output_size

STEPS = 4


def batch(step, depth=1, size=20):
    """Noise; the class is whether a pixel is bright."""
    rng = np.random.default_rng(step)
    x = rng.standard_normal((1, size, size, 1)).astype(np.float32)
    out = output_size(size, depth)
    lost = (size - out) // 2
    t = (x[:, lost : lost + out, lost : lost + out, 0] > 0).astype(np.int32)
    return Batch(x, t, rng.uniform(0.5, 2, t.shape).astype(np.float32))


def trainer(where, precision="fp32", optimizer="adamw", depth=1, seed=0):
    """With drop-out and a falling rate: each step has values of its own."""
    net = UNet(depth, 8, on=where, precision=precision, seed=seed)
    tile = 20 if depth == 1 else 44
    settings = Settings(depth=depth, base=8, tile=tile, optimizer=optimizer, lr=0.02, seed=7)
    return Trainer(net, settings, total=STEPS)


def everything(t):
    """All arrays that a step changes, as bytes."""
    arrays = {**t.weights(), **{f"mean {k}": v for k, v in t.averaged().items()}, **t.state()}
    return {name: np.array(a).tobytes() for name, a in arrays.items()}


def steps(t, first=0, last=STEPS, **sizes):
    """The losses of these steps; each is read only when the next step has begun."""
    begun = [t.begin(batch(first, **sizes))]
    losses = []
    for k in range(first + 1, last):
        begun.append(t.begin(batch(k, **sizes)))
        losses.append(begun[k - first - 1].item())
    return [*losses, begun[-1].item()]


def plain():
    """simt without captures."""
    where = Simt()
    where.graphs = False
    return where


def counted(where):
    """`where`, and a list that gets an entry for each capture."""
    made, begin = [], where._begin_capture
    where._begin_capture = lambda: (made.append(1), begin())[1]
    return where, made
