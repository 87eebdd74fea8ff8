"""One layer of a U-Net, by unetcu and by PyTorch: for torch_layers.py."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from layers import OURS, Case
from torch.nn import functional as F
from torch_net import LAYOUTS, crop_cat, torch_weight, weighted_loss

from unetcu.autograd import Tensor, no_grad
from unetcu.device import device
from unetcu.parameters import Parameters

CPU = device("cpu")
# kind -> PyTorch's function, of what that of layers.OURS takes
THEIRS: dict[str, Callable[..., torch.Tensor]] = {
    "conv 3x3 + ReLU": lambda x, w, b: F.conv2d(x, w, b).relu_(),
    "up-conv 2x2": lambda x, w, b: F.conv_transpose2d(x, w, b, 2),
    "conv 1x1": F.conv2d,
    "max-pool 2x2": lambda x: torch.max_pool2d(x, 2),
    "crop + concat": crop_cat,
    "drop-out": lambda x, _: F.dropout(x, 0.5),
    "loss": weighted_loss,
}


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
    op, up = OURS[case.kind], case.kind == "up-conv 2x2"

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
    op, memory = THEIRS[case.kind], getattr(torch, LAYOUTS[layout])

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
