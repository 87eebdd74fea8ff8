"""The engine: nothing is recorded under no_grad, depth is no limit, memory is freed as it goes."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from unetcu import no_grad
from unetcu.autograd import Tensor
from unetcu.ops.reduce import sum as total


def leaf(values, on="cpu", name=""):
    return Tensor(np.array(values, np.float64), on, needs_grad=True, name=name)


def test_no_grad_records_nothing(on):
    x = leaf([1.0], on)
    with no_grad():
        y = x * x
        with no_grad():
            pass
        z = x * x
    assert y.maker is None
    assert z.maker is None
    assert not y.needs_grad
    assert (x * x).maker is not None
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 // 0
    assert (x * x).maker is not None


def test_a_chain_of_5000_ops(on):
    x, one = leaf([1.0], on), Tensor([1.0], on)
    y = x
    for _ in range(5000):
        y = y * one + x
    y.backward()
    assert x.grad.tolist() == [5001]


def test_a_chain_that_is_never_used_is_freed_without_recursion(on):
    x, one = leaf([1.0], on), Tensor([1.0], on)
    y = x
    for _ in range(20_000):
        y = y * one
    assert "Multiply" in str(y.graph())
    del y


def test_backward_frees_as_it_goes(on):
    """Of a chain of n arrays, few are alive at the end of backward, without any collection."""
    size, n = 100_000, 40
    x = leaf(np.ones(size), on)
    kept = leaf(np.ones(size), on)
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        y = x
        for _ in range(n):
            y = y * kept
        y = total(y)
        forward = tracemalloc.get_traced_memory()[0]
        assert forward > (n - 1) * size * 8
        tracemalloc.reset_peak()
        y.backward()
        after, peak = tracemalloc.get_traced_memory()
        assert after < 4 * size * 8, "the two gradients and hardly more"
        assert peak < forward + 8 * size * 8, "gradients of inner tensors are freed at once"
    finally:
        tracemalloc.stop()
        gc.enable()


def test_what_no_op_keeps_dies_at_once_and_the_rest_in_backward(on):
    x = leaf([1.0], on)
    inner = x * x  # kept by the next op, which needs it for its gradient
    sums = inner * x + x  # kept by none
    y = total(sums)
    sums, inner, op = (weakref.ref(o) for o in (sums.data, inner.data, inner.maker))
    gc.disable()
    try:
        assert sums() is None
        assert inner() is not None
        y.backward()
        assert inner() is None
        assert op() is None
    finally:
        gc.enable()


def test_under_no_grad_nothing_is_kept(on):
    x = leaf(np.ones(10), on)
    gc.disable()
    try:
        with no_grad():
            inner = x * x
            y = inner * x
            inner = weakref.ref(inner.data)
            assert inner() is None
        assert y.numpy().tolist() == [1] * 10
    finally:
        gc.enable()
