"""Benchmarks: `pytest bench` times every op and a training step with pytest-benchmark.

`pytest bench --on cuda` (or simt) times the CUDA kernels there. Each file times one op at the sizes
of one layer of the paper's network and of the small default network, and reports GFLOP/s or GB/s
beside the time. Times belong to the machine they were taken on: compare columns of one run, never
figures of two.
"""

import numpy as np
import pytest

from unetcu.autograd import Tensor
from unetcu.device import device


def pytest_addoption(parser):
    parser.addoption("--on", default="cpu", help="the device to time: cpu, cuda, cuda:N or simt")


@pytest.fixture
def on(request):
    """The device that is timed."""
    return device(request.config.getoption("--on"))


@pytest.fixture
def random(on):
    """random(shape, needs_grad=True) -> a float32 Tensor of normal numbers."""
    rng = np.random.default_rng(0)

    def make(shape, needs_grad=True):
        return Tensor(rng.standard_normal(shape, dtype=np.float32), on, needs_grad=needs_grad)

    return make


@pytest.fixture
def time_op(benchmark, on):
    """time_op(op, inputs, direction, flops=..., **options): time forward or backward alone."""

    wait = getattr(on, "synchronize", lambda: None)  # a GPU's launches return before they are done

    def forward(op, inputs, options):
        op(*inputs, **options)
        wait()

    def backward(dy, y):
        y.backward(dy)
        wait()

    def run(op, inputs, direction, flops=0, **options):
        if direction == "forward":
            benchmark(forward, op, inputs, options)
        else:

            def fresh():  # a graph can be used once, so each round gets its own
                y = op(*inputs, **options)
                dy = on.put(np.ones(y.shape, np.float32))
                wait()
                return (dy, y), {}

            benchmark.pedantic(backward, setup=fresh, rounds=5, warmup_rounds=1)
        if benchmark.disabled:  # by --benchmark-disable: does it run at all?
            return
        seconds = benchmark.stats.stats.median
        read = sum(t.data.nbytes for t in inputs)
        benchmark.extra_info["GB/s of its inputs"] = round(read / seconds / 1e9, 2)
        if flops:
            share = 2 if direction == "backward" else 1  # dx and dw each cost a forward
            benchmark.extra_info["GFLOP/s"] = round(share * flops / seconds / 1e9, 1)

    return run


def pytest_generate_tests(metafunc):
    """Every benchmark that asks for it runs forward and backward."""
    if "direction" in metafunc.fixturenames:
        metafunc.parametrize("direction", ["forward", "backward"])
