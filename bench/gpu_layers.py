"""One layer of a network on a GPU, ours and PyTorch's: forward, and each gradient by itself.

Ours run through the op classes: a 3x3 convolution's forward has its bias and ReLU in it, its weight
gradient that of the bias. PyTorch's are cuDNN's kernels alone, without bias and ReLU where a
convolution is 3x3. Errors are those of a window or of a few filters, against the
formula in float64 on the same rounded numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gpu_sides import Theirs, Work
from layers import OURS, Case

from unetcu.autograd import Tensor, no_grad
from unetcu.ops.conv3x3 import Conv3x3
from unetcu.precision import FORMS, floats, stored

WINDOW = 12  # pixels, high and wide
FEW = 4  # channels and filters whose weight gradient is checked
CONV = "conv 3x3 + ReLU"


class Job(NamedTuple):
    """Something to time, and what it gives as floats, in our order of dimensions."""

    work: Work
    result: Callable[[], np.ndarray]


class Numbers(NamedTuple):
    """What both sides start from: maps and weights rounded to a precision, as floats."""

    maps: list[np.ndarray]
    weights: list[np.ndarray]
    dy: np.ndarray


def numbers(case: Case, precision: str) -> Numbers:
    """Rounded, whether or not a side rounds by itself; of the loss, logits are not."""
    kind = FORMS[precision if case.kind != "loss" else "fp32"]

    def rounded(a: np.ndarray) -> np.ndarray:
        return floats(stored(a, kind))

    weights = [rounded(w) for w in case.weights[:1]] + case.weights[1:]
    dy = np.random.default_rng(1).standard_normal(case.output).astype(np.float32)
    dy = rounded(dy) if case.output else np.ones((), np.float32)
    return Numbers([rounded(m) for m in case.maps], weights, dy)


def ours(case: Case, given: Numbers, where: Any, precision: str, sets: int) -> dict[str, Job]:
    """work -> job, of unetcu."""
    op = OURS[case.kind]
    kind = FORMS[precision if case.kind != "loss" else "fp32"]

    def one() -> tuple[list[Tensor], Any, Any]:
        maps = [where.put(stored(m, kind)) for m in given.maps]
        inputs = [Tensor.wrap(m, where, needs_grad=not case.first) for m in maps]
        data = [where.put(stored(w, kind)) for w in given.weights[:1]]
        data += [where.put(b) for b in given.weights[1:]]
        inputs += [Tensor.wrap(w, where, needs_grad=True) for w in data]
        inputs += [Tensor(o, where) for o in case.others]
        y = op(*inputs, precision)
        assert y.maker is not None
        y.maker.gated = True  # dy comes as what was behind has let it through
        dy = where.put(stored(given.dy, y.dtype))
        return inputs, y.maker, dy

    copies, made = [one() for _ in range(sets)], {}

    def forward() -> Any:
        with no_grad():
            return [op(*inputs, precision) for inputs, *_ in copies][-1].data

    def gradient(*needs: bool) -> Work:
        def work() -> Any:
            found = None
            for _, maker, dy in copies:
                maker.needs = needs
                found = maker.backward_gpu(dy)
            assert found is not None
            return found[0 if needs[0] else 1]

        return work

    made["forward"] = forward
    if given.weights:
        if not case.first:
            made["input gradient"] = gradient(True, False, False)
        made["weight gradient"] = gradient(False, True, True)
    else:
        made["gradient"] = gradient(True, False, False)

    def job(work: Work) -> Job:
        return Job(work, lambda: floats(np.asarray(where.get(work()))))

    return {name: job(work) for name, work in made.items()}


def theirs(case: Case, given: Numbers, side: Theirs, precision: str, sets: int) -> dict[str, Job]:
    """work -> job, of PyTorch."""
    from torch_net import torch_weight
    from torch_sides import THEIRS

    torch, up = side.torch, case.kind == "up-conv 2x2"
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
    kind = kinds.get(precision, torch.float32) if case.kind != "loss" else torch.float32
    op = THEIRS[case.kind]
    if case.kind == CONV:

        def op(x: Any, w: Any, _: Any) -> Any:
            return torch.nn.functional.conv2d(x, w)

    def leaf(a: np.ndarray) -> Any:
        tensor = torch.tensor(np.ascontiguousarray(a)).to(side.on, kind)
        if a.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.requires_grad_()

    def one() -> tuple[Any, ...]:
        maps = [leaf(m.transpose(0, 3, 1, 2)) for m in given.maps]
        weights = [leaf(torch_weight(w, up) if w.ndim > 1 else w) for w in given.weights]
        others = [torch.tensor(o.astype(np.int64) if o.dtype.kind in "iu" else o).to(side.on)
                  for o in case.others]  # fmt: skip
        inputs = [*maps, *weights, *others]
        y = op(*inputs)
        dy = torch.tensor(given.dy.transpose(0, 3, 1, 2) if given.dy.ndim else given.dy)
        dy = dy.to(side.on, y.dtype)
        if given.dy.ndim:
            dy = dy.contiguous(memory_format=torch.channels_last)
        return inputs, y, dy

    with side.beside():
        copies = [one() for _ in range(sets)]

    def forward() -> Any:
        with torch.no_grad():
            return [op(*inputs) for inputs, *_ in copies][-1]

    def gradient(i: int) -> Work:
        def work() -> Any:
            for inputs, y, dy in copies:
                found = torch.autograd.grad(y, [inputs[i]], dy, retain_graph=True)
            return found[0]

        return work

    def plain(t: Any, weights: bool) -> np.ndarray:
        a = t.detach().float().cpu().numpy()
        if weights and a.ndim == 4:
            return a.transpose((2, 3, 0, 1) if up else (2, 3, 1, 0))
        return a.transpose(0, 2, 3, 1) if a.ndim == 4 else a

    made = {"forward": forward}
    if given.weights:
        if not case.first:
            made["input gradient"] = gradient(0)
        made["weight gradient"] = gradient(1)
    else:
        made["gradient"] = gradient(0)
    return {
        name: Job(work, lambda work=work, name=name: plain(work(), name == "weight gradient"))
        for name, work in made.items()
    }


def error(case: Case, given: Numbers, work: str, found: np.ndarray, relu: bool) -> float | None:
    """Relative L2 of a convolution's result, in a window or for a few filters; else None."""
    if case.kind != CONV:
        return None
    (x,), (w, b) = ([a.astype(np.float64) for a in part] for part in given[:2])
    dy = given.dy
    if work == "forward":
        window = x[:, : WINDOW + 2, : WINDOW + 2]
        right = Conv3x3.reference(window, w, b if relu else 0 * b, relu)
    elif work == "input gradient":
        g = np.pad(dy[:, :WINDOW, :WINDOW].astype(np.float64), [(0, 0), (2, 0), (2, 0), (0, 0)])
        right = Conv3x3.reference(g, w[::-1, ::-1].transpose(0, 1, 3, 2), 0.0)
    else:
        (P, Q), g = dy.shape[1:3], dy[..., :FEW].astype(np.float64)
        taps = [x[:, r : r + P, s : s + Q, :FEW] for r in range(3) for s in range(3)]
        right = np.array([np.tensordot(t, g, ((0, 1, 2), (0, 1, 2))) for t in taps])
        right = right.reshape(3, 3, *right.shape[1:])
        found = found[:, :, :FEW, :FEW]
    if work != "weight gradient":
        found = found[tuple(map(slice, right.shape))]
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))
