"""One layer of a U-Net, by unetcu and by PyTorch: for torch_layers.py."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch_net import LAYOUTS, crop_cat, torch_weight, weighted_loss

from unetcu.autograd import Tensor, no_grad
from unetcu.device import device
from unetcu.ops.conv1x1 import conv1x1
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.crop_concat import crop_concat
from unetcu.ops.dropout import dropout
from unetcu.ops.maxpool2 import maxpool2
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.ops.upconv2 import upconv2
from unetcu.parameters import Parameters
from unetcu.unet import UNet

CPU = device("cpu")
# kind -> our function and PyTorch's: of maps, then of weights and bias or what else it takes
PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., torch.Tensor]]] = {
    "conv 3x3 + ReLU": (
        lambda x, w, b: conv3x3(x, w, b, relu=True),
        lambda x, w, b: F.conv2d(x, w, b).relu_(),
    ),
    "up-conv 2x2": (upconv2, lambda x, w, b: F.conv_transpose2d(x, w, b, 2)),
    "conv 1x1": (conv1x1, F.conv2d),
    "max-pool 2x2": (maxpool2, lambda x: torch.max_pool2d(x, 2)),
    "crop + concat": (crop_concat, crop_cat),
    "drop-out": (dropout, lambda x, _: F.dropout(x, 0.5)),
    "loss": (softmax_loss, weighted_loss),
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


class Side(NamedTuple):
    """A case by one of the contenders."""

    maps: list[np.ndarray]  # the inputs' memory: it may be written to
    forward: Callable[[], Any]  # as in inference
    record: Callable[[], Any]  # as in training
    backward: Callable[[Any, Any], list[Any]]  # of what `record` gave, and a gradient
    gradient: Callable[[np.ndarray], tuple[Any, np.ndarray]]  # of the output: as such; its memory
    plain: Callable[[Any], np.ndarray]  # an output or a gradient, in PyTorch's order of dimensions


def ours(case: Case) -> Side:
    """By unetcu."""
    op, up = PAIRS[case.kind][0], case.kind == "up-conv 2x2"

    def held(array: np.ndarray) -> np.ndarray:
        np.copyto(room := CPU.empty(array.shape), array)
        return room

    maps = [held(m) for m in case.maps]
    named = dict(zip("wb", case.weights, strict=False))
    parameters = Parameters({name: w.shape for name, w in named.items()}, CPU)
    for name, w in named.items():
        parameters.write(name, w)
    inputs = [Tensor.wrap(m, CPU, needs_grad=not case.first) for m in maps]
    inputs += [*parameters.values(), *(Tensor(o) for o in case.others)]

    def forward():
        with no_grad():
            return op(*inputs)

    def record():
        parameters.forget_gradients()
        return op(*inputs)

    def plain(a):
        a = a.numpy() if isinstance(a, Tensor) else a
        if a.ndim == 4 and a.shape[0] == 1:
            return a.transpose(0, 3, 1, 2)
        return torch_weight(a, up) if a.ndim > 1 else a

    return Side(
        maps,
        forward,
        record,
        lambda y, dy: [gradient for _, gradient in y.maker.run_backward(dy)],
        lambda dy: (array := held(dy), array),
        plain,
    )


def theirs(case: Case, layout: str) -> Side:
    """By PyTorch, in one layout."""
    op, memory = PAIRS[case.kind][1], getattr(torch, LAYOUTS[layout])

    def leaf(array: np.ndarray, needs_grad: bool = True) -> torch.Tensor:
        tensor = torch.tensor(array)
        if array.ndim == 4:
            tensor = tensor.contiguous(memory_format=memory)
        return tensor.requires_grad_(needs_grad)

    up = case.kind == "up-conv 2x2"
    maps = [leaf(m.transpose(0, 3, 1, 2), not case.first) for m in case.maps]
    weights = [leaf(torch_weight(w, up) if w.ndim > 1 else w) for w in case.weights]
    others = [torch.tensor(o.astype(np.int64) if o.dtype.kind in "iu" else o) for o in case.others]
    inputs = [*maps, *weights, *others]
    leaves = [i for i in inputs if i.requires_grad]

    def forward():
        with torch.inference_mode():
            return op(*inputs)

    def gradient(dy):
        made = torch.empty_like(op(*inputs).detach())  # in the layout that it gives
        made.copy_(torch.tensor(dy.transpose(0, 3, 1, 2) if dy.ndim else dy))
        return made, made.numpy()

    return Side(
        [m.detach().numpy() for m in maps],
        forward,
        lambda: op(*inputs),
        lambda y, dy: list(torch.autograd.grad(y, leaves, dy)),
        gradient,
        lambda a: a.detach().numpy(),
    )
