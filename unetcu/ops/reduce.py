"""Reductions of a whole tensor to one number: sum(x) and mean(x), of shape ().

sum: dx = dy everywhere        mean: dx = dy / size everywhere
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..kernel import constants


class Sum(Op):
    """sum(x) -> the sum of all elements."""

    @staticmethod
    def shape(x):
        return ()

    @staticmethod
    def reference(x):
        return x.sum()

    def forward_cpu(self, x):
        self.x_shape = x.shape
        return np.asarray(x.sum(dtype=np.float64), x.dtype)

    def backward_cpu(self, dy):
        return (np.full(self.x_shape, dy, dy.dtype),)

    def forward_gpu(self, x):
        self.x_shape = x.shape
        return _total(self.device, x, 1)

    def backward_gpu(self, dy):
        return (_spread(self.device, dy, self.x_shape, 1),)


class Mean(Op):
    """mean(x) -> the mean of all elements."""

    @staticmethod
    def shape(x):
        if 0 in x:
            raise ShapeError(f"the mean of no elements is undefined; got shape {x}")
        return ()

    @staticmethod
    def reference(x):
        return x.mean()

    def forward_cpu(self, x):
        self.x_shape, self.size = x.shape, x.size
        return np.asarray(x.mean(dtype=np.float64), x.dtype)

    def backward_cpu(self, dy):
        return (np.full(self.x_shape, dy / self.size, dy.dtype),)

    def forward_gpu(self, x):
        self.x_shape, self.size = x.shape, x.size
        return _total(self.device, x, x.size)

    def backward_gpu(self, dy):
        return (_spread(self.device, dy, self.x_shape, self.size),)


def _total(device, x, divisor):
    size = constants("reduce")
    slabs = -(-x.size // size["SLAB"])
    part, y = device.empty((slabs,), np.float64), device.empty(())
    if slabs:
        device.launch("reduce", "reduce_partial", slabs, size["BLOCK"], x, part, x.size)
    device.launch("reduce", "reduce_total", 1, size["BLOCK"], part, y, slabs, divisor)
    return y


def _spread(device, dy, shape, divisor):
    dx = device.empty(shape)
    device.each("reduce", "reduce_backward", dx.size, dy, dx, dx.size, divisor)
    return dx


sum, mean = Sum.apply, Mean.apply
