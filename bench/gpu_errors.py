"""How far a network's logits and gradients are off, in each precision, against NumPy in float64.

The same weights, a small input, no drop-out. Relative L2 of all logits, of all gradients.
"""

from typing import Any, NamedTuple

import numpy as np
from gpu_nets import Batch, Case, batch, ours, theirs
from gpu_sides import Ours, Theirs

from unetcu.autograd import Tensor
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.precision import floats
from unetcu.unet import UNet

SMALL = Case("training step", 188, 1)
TINY = Case("training step", 28, 1, 1, 8)


class Found(NamedTuple):
    """Logits, and gradients in our order of dimensions."""

    logits: np.ndarray
    gradients: dict[str, np.ndarray]


def right(case: Case) -> Found:
    """By NumPy, in float64."""
    plain = UNet(case.depth, case.base)
    net = UNet(case.depth, case.base, dtype=np.float64)
    net.parameters.load({n: p.numpy().astype(np.float64) for n, p in plain.parameters.items()})
    given: Batch = batch(case)
    z = net(Tensor(given.x.astype(np.float64)))
    softmax_loss(z, Tensor(given.t), Tensor(given.w.astype(np.float64))).backward()
    return Found(z.numpy(), {n: p.grad for n, p in net.parameters.items()})


def by_us(case: Case, mine: Ours, precision: str) -> Found:
    """By unetcu."""
    logits = ours(case._replace(work="forward"), mine.where, precision).work()
    run = ours(case, mine.where, precision, drops=False)
    run.work()
    get = mine.where.get
    factor = 1.0 if run.factor is None else float(get(run.factor)[0])
    gradients = {n: get(p.grad) * factor for n, p in run.net.parameters.items()}
    return Found(floats(np.asarray(get(logits))), gradients)


def by_them(case: Case, side: Theirs, precision: str) -> Found:
    """By PyTorch."""

    def plain(t: Any) -> np.ndarray:
        a: np.ndarray = t.detach().float().cpu().numpy()
        return a

    side.multiply_in(precision)
    logits = plain(theirs(case._replace(work="forward"), side, precision, False)[0]())
    work, peer = theirs(case, side, precision, False, drops=False)
    work()
    gradients = {}
    for name in UNet(case.depth, case.base).weight_shapes():
        layer, up = peer.layers[name.replace(".", "_")], name.endswith("upconv")
        w = plain(layer.weight.grad).transpose((2, 3, 0, 1) if up else (2, 3, 1, 0))
        gradients[name + ".w"] = w[0, 0] if name == "head" else w
        gradients[name + ".b"] = plain(layer.bias.grad)
    return Found(logits.transpose(0, 2, 3, 1), gradients)


def off(found: Found, wanted: Found) -> dict[str, float]:
    """work -> relative L2: of logits for "forward", of gradients for "training step"."""

    def relative(a: list[np.ndarray], b: list[np.ndarray]) -> float:
        squares = sum(float(((x - y) ** 2).sum()) for x, y in zip(a, b, strict=True))
        return float(np.sqrt(squares / sum(float((y**2).sum()) for y in b)))

    names = sorted(wanted.gradients)
    return {
        "forward": relative([found.logits.astype(np.float64)], [wanted.logits]),
        "training step": relative(
            [found.gradients[n].astype(np.float64) for n in names],
            [wanted.gradients[n] for n in names],
        ),
    }
