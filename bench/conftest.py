"""Benchmarks: `pytest bench` times every op and a training step with pytest-benchmark.

`pytest bench --on cuda` (or simt) times the CUDA kernels there, `--precision bf16` and the like in
that precision (ops that do not have it are skipped). Each file times one op at the sizes of one
layer of the paper's network and of the small default network, and reports GFLOP/s or GB/s beside
the time; on a GPU that model.py knows, % of the floor too; and PyTorch's median, if that is
installed. Times belong to the machine they were taken on: compare columns of one run, never figures
of two. `python -m bench.report` is the comparison by turns.
"""

import inspect
from importlib.util import find_spec

import numpy as np
import pytest
from model import card
from turns import repeated, take_turns

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.kernel import formats
from unetcu.precision import FORMS, HALVES, PRECISION_HELP, stored

# Ops that PyTorch has, too, as layers.py calls them.
KINDS = {
    "conv3x3": "conv 3x3 + ReLU",
    "upconv2": "up-conv 2x2",
    "conv1x1": "conv 1x1",
    "maxpool2": "max-pool 2x2",
}


def pytest_addoption(parser):
    parser.addoption("--on", default="cpu", help="the device to time: cpu, cuda, cuda:N or simt")
    parser.addoption("--precision", default="fp32", choices=list(FORMS), help=PRECISION_HELP)


@pytest.fixture
def on(request):
    """The device that is timed."""
    return device(request.config.getoption("--on"))


@pytest.fixture
def precision(request, on):
    """In what ops multiply."""
    asked = request.config.getoption("--precision")
    if asked != "fp32" and on.kind != "gpu":
        pytest.skip(f"{on.name} computes in fp32: --on cuda or --on simt")
    return asked


@pytest.fixture
def random(on):
    """random(shape, needs_grad=True) -> a float32 Tensor of normal numbers."""
    rng = np.random.default_rng(0)

    def make(shape, needs_grad=True):
        return Tensor(rng.standard_normal(shape, dtype=np.float32), on, needs_grad=needs_grad)

    return make


def stem_of(op):
    """conv3x3 of `Conv3x3.apply`."""
    return op.__self__.__module__.rpartition(".")[2]


def in_precision(op, inputs, precision):
    """(inputs, options) of an op in a precision; skips where it has no such."""
    if precision == "fp32":
        return inputs, {}
    known = "precision" in inspect.signature(op.__self__.shape).parameters
    stem, kind = stem_of(op), FORMS[precision]
    if not known and precision not in formats(stem):
        pytest.skip(f"{stem} is not computed in {precision}")

    def rounded(t):  # images and filters; biases stay floats
        if kind not in HALVES or len(t.shape) < 2 or t.dtype != np.float32:
            return t
        data = t.device.put(stored(t.numpy(), kind))
        return Tensor.wrap(data, t.device, needs_grad=t.needs_grad)

    return tuple(map(rounded, inputs)), {"precision": precision} if known else {}


@pytest.fixture
def time_op(benchmark, on, precision):
    """time_op(op, inputs, direction, flops=..., **options): time forward or backward alone."""

    wait = getattr(on, "synchronize", lambda: None)  # a GPU's launches return before they are done

    def forward(op, inputs, options):
        op(*inputs, **options)
        wait()

    def backward(dy, y):
        y.backward(dy)
        wait()

    def run(op, inputs, direction, flops=0, **options):
        inputs, more = in_precision(op, inputs, precision)
        options |= more
        if direction == "forward":
            benchmark(forward, op, inputs, options)
        else:

            def fresh():  # a graph can be used once, so each round gets its own
                y = op(*inputs, **options)
                dy = on.put(stored(np.ones(y.shape, np.float32), y.dtype))
                wait()
                return (dy, y), {}

            benchmark.pedantic(backward, setup=fresh, rounds=5, warmup_rounds=1)
        if benchmark.disabled:  # by --benchmark-disable: does it run at all?
            return
        seconds, about = benchmark.stats.stats.median, benchmark.extra_info
        read = sum(t.data.nbytes for t in inputs)
        about["GB/s of its inputs"] = round(read / seconds / 1e9, 2)
        flops *= 2 if direction == "backward" else 1  # dx and dw each cost a forward
        if flops:
            about["GFLOP/s"] = round(flops / seconds / 1e9, 1)
        if (known := card(on.describe())) is not None:
            moved = op(*inputs, **options).data.nbytes + read
            about["% of the floor"] = round(100 * known.floor(flops, moved, precision) / seconds)
        if find_spec("torch") and (kind := KINDS.get(stem_of(op))):
            about["PyTorch ms"] = round(by_torch(kind, inputs, direction, precision, on), 4)

    return run


def by_torch(kind, inputs, direction, precision, on):
    """PyTorch's median for the same op, eager, in channels_last, all gradients; ms."""
    from gpu_sides import Theirs
    from torch_net import torch_weight
    from torch_sides import THEIRS

    side = Theirs(on.name.startswith("cuda"), [])
    torch, up = side.torch, kind == "up-conv 2x2"
    side.multiply_in(precision)
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}

    def leaf(i, t):
        shape = t.shape  # of a bias
        if i == 0:
            shape = shape[0], shape[3], *shape[1:3]
        elif len(shape) > 1:
            shape = torch_weight(np.empty(shape), up).shape
        made = torch.randn(shape, device=side.on).to(types.get(precision, torch.float32))
        if len(shape) == 4:
            made = made.contiguous(memory_format=torch.channels_last)
        return made.requires_grad_()

    leaves = [leaf(i, t) for i, t in enumerate(inputs)]
    y = THEIRS[kind](*leaves)
    dy = torch.ones_like(y)

    def forward():
        with torch.no_grad():
            return THEIRS[kind](*leaves)

    def backward():
        return torch.autograd.grad(y, leaves, dy, retain_graph=True)

    work = forward if direction == "forward" else backward
    return float(np.median(take_turns([repeated(work, side.wait)], 0.2, 0)))


def pytest_generate_tests(metafunc):
    """Every benchmark that asks for it runs forward and backward."""
    if "direction" in metafunc.fixturenames:
        metafunc.parametrize("direction", ["forward", "backward"])
