"""The layers of a U-Net with made-up inputs, one by one: what is timed, alone or not."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from unetcu.autograd import Tensor
from unetcu.ops.conv1x1 import conv1x1
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.crop_concat import crop_concat
from unetcu.ops.dropout import dropout
from unetcu.ops.maxpool2 import maxpool2
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.ops.upconv2 import upconv2
from unetcu.unet import UNet

# kind -> our function: of maps, then of weights and bias or what else it takes, and a precision
OURS: dict[str, Callable[..., Tensor]] = {
    "conv 3x3 + ReLU": lambda x, w, b, p="fp32": conv3x3(x, w, b, relu=True, precision=p),
    "up-conv 2x2": lambda x, w, b, p="fp32": upconv2(x, w, b, precision=p),
    "conv 1x1": lambda x, w, b, _="": conv1x1(x, w, b),
    "max-pool 2x2": lambda x, _="": maxpool2(x),
    "crop + concat": lambda skip, x, _="": crop_concat(skip, x),
    "drop-out": lambda x, when, _="": dropout(x, when),
    "loss": lambda z, t, w, _="": softmax_loss(z, t, w),
}


class Case(NamedTuple):
    """A layer with its inputs: maps (N,H,W,C), weights (w, b) or none, and what is no map."""

    name: str
    kind: str
    maps: list[np.ndarray]
    weights: list[np.ndarray]
    others: list[np.ndarray]
    output: tuple[int, ...]  # (1,H,W,C)
    first: bool = False  # of the network: an image has no gradient

    @property
    def infers(self) -> bool:
        """Is there such a layer in inference?"""
        return self.kind not in ("drop-out", "loss")


def cases(net: UNet, tile: int) -> Iterator[Case]:
    """All layers, in the order of the network."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return np.maximum(rng.standard_normal((1, *shape), np.float32), 0)

    for layer in net.layers(tile, tile):
        h, w, c = layer.output
        maps = [drawn(*layer.input)]
        if layer.kind == "crop + concat":
            maps.append(drawn(h, w, c - layer.input[2]))
        names = [f"{layer.name}.{part}" for part in "wb"] if layer.parameters else []
        weights = [net.parameters[name].numpy() for name in names]
        first = layer.name == "down1.conv1"
        yield Case(layer.name, layer.kind, maps, weights, [], (1, h, w, c), first)
        if layer.name == "bottom.conv2":
            when = np.array([0, 0], np.uint32)
            yield Case("bottom.dropout", "drop-out", [drawn(h, w, c)], [], [when], (1, h, w, c))
    targets = rng.integers(0, c, (1, h, w), np.int32), rng.random((1, h, w), np.float32)
    yield Case("loss", "loss", [drawn(h, w, c)], [], [*targets], ())
