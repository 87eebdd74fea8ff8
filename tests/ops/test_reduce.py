"""Sum and mean of everything: formula, slopes, accuracy, whole numbers, shapes."""

import math

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.reduce import Mean, Sum, mean
from unetcu.ops.reduce import sum as total

SHAPES = [(), (1,), (7,), (2, 3), (1, 3, 5, 1), (2, 5, 3, 17), (3, 5000), (1, 9, 8, 64)]
SHAPES += [(256,), (257,), (2, 17, 13, 16), (1023,), (1024,), (1025,)]  # slabs of 1024


@pytest.mark.parametrize("op", [Sum, Mean])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, op, shape):
    x = np.asarray(rng.standard_normal(shape))
    check_op(op, on, x, terms=(x.size, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_numbers_are_exact(on, rng, shape):
    x, dy = integers(rng, *shape), np.float32(3)
    y, dx = run(Sum, on, [x], np.asarray(dy), [0])
    assert y == sum(int(v) for v in x.ravel())
    same(dx, np.full(shape, 3), "dx")
    assert inner(y, np.asarray(dy)) == inner(x, dx)
    y, dx = run(Mean, on, [x], np.asarray(dy), [0])
    assert y == np.float32(sum(int(v) for v in x.ravel()) / x.size)
    same(dx, np.full(shape, np.float32(3 / x.size)), "dx")


def test_a_long_sum_is_rounded_once(on, rng):
    x = rng.random(300_003, np.float32)  # 293 slabs
    assert total(Tensor(x, on)).numpy() == np.float32(math.fsum(x.tolist()))
    assert mean(Tensor(x, on)).numpy() == np.float32(math.fsum(x.tolist()) / x.size)


def test_one_nan_is_seen(on):
    x = Tensor(np.array([1, np.nan, 2], np.float32), on)
    assert np.isnan(total(x).item())
    assert np.isnan(mean(x).item())


def test_the_mean_of_nothing(on):
    assert total(Tensor(np.zeros((0, 3), "f"), on)).item() == 0
    with pytest.raises(ShapeError, match=r"mean of no elements .* \(0, 3\)"):
        mean(Tensor(np.zeros((0, 3), "f"), on))
