"""Reductions of a whole tensor to one number: sum(x) and mean(x), of shape ().

sum: dx = dy everywhere        mean: dx = dy / size everywhere
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError


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


sum, mean = Sum.apply, Mean.apply
