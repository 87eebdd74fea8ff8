"""ReLU: formula, slopes, the values that go wrong easily."""

import numpy as np
import pytest
from check import check_op, run, same

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.errors import KernelError
from unetcu.ops.relu import ReLU, relu

SHAPES = [(), (1,), (7,), (2, 3), (1, 3, 5, 1), (2, 5, 3, 17), (3, 5000), (1, 9, 8, 64)]
SHAPES += [(255,), (256,), (257,), (2, 17, 13, 16)]  # blocks of 256


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    x = rng.integers(-9, 9, shape) + 0.5  # no nearer than a half to the kink
    check_op(ReLU, on, x, terms=(0, 0), scale="own", step=0.2)


def test_nothing(on):
    y, dx = run(ReLU, on, [np.zeros((0, 3), "f")], np.zeros((0, 3), "f"), [0])
    assert y.shape == dx.shape == (0, 3)


def test_zeros_infinities_and_nan(on):
    tiny = np.float32(1e-45)  # the smallest denormal: flushed to 0 it would lose its gradient
    x = np.array([0.0, -0.0, tiny, -tiny, np.inf, -np.inf, np.nan, 1, -1], np.float32)
    dy = np.arange(1, 10, dtype=np.float32)
    y, dx = run(ReLU, on, [x], dy, [0])
    same(y, np.array([0, 0, tiny, 0, np.inf, 0, np.nan, 1, 0], np.float32), "y")
    same(dx, np.array([0, 0, 3, 0, 5, 0, 0, 8, 0], np.float32), "dx")


def test_nan_in_dy_passes_only_where_x_is_positive(on):
    _y, dx = run(ReLU, on, [np.array([2, -2], "f")], np.array([np.nan, np.nan], "f"), [0])
    same(dx, np.array([np.nan, 0], "f"), "dx")


def test_integers_stay_integers_on_the_cpu_and_are_refused_by_kernels(on):
    x = Tensor(np.array([-2, 3]), on)
    if device(on).kind == "cpu":
        assert relu(x).numpy().tolist() == [0, 3]
    else:
        with pytest.raises(KernelError, match="x must be a contiguous float32 array, got int64"):
            relu(x)
