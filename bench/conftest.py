"""Benchmarks: `pytest bench` times every op and a training step with pytest-benchmark.

Each file times one op at the sizes of one layer of the paper's network and of the small default
network, and reports GFLOP/s or GB/s beside the time. Times belong to the machine they were taken
on: compare columns of one run, never figures of two.
"""

import numpy as np
import pytest

from unetcu.autograd import Tensor


@pytest.fixture
def random():
    """random(shape, needs_grad=True) -> a float32 Tensor of normal numbers."""
    rng = np.random.default_rng(0)

    def make(shape, needs_grad=True):
        return Tensor(rng.standard_normal(shape, dtype=np.float32), needs_grad=needs_grad)

    return make


@pytest.fixture
def time_op(benchmark):
    """time_op(op, inputs, direction, flops=..., **options): time forward or backward alone."""

    def run(op, inputs, direction, flops=0, **options):
        if direction == "forward":
            benchmark(op, *inputs, **options)
        else:

            def fresh():  # a graph can be used once, so each round gets its own
                y = op(*inputs, **options)
                return (np.ones(y.shape, np.float32), y), {}

            benchmark.pedantic(lambda dy, y: y.backward(dy), setup=fresh, rounds=5, warmup_rounds=1)
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
