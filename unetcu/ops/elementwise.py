"""Sums and products of two tensors, element by element: a + b, a * b.

b has a's shape, or the shape of a's last dimensions and is then repeated over the first ones (a
bias (K) on maps (N,H,W,K); a scalar () on anything). Its gradient is summed over the repeats.
"""

import numpy as np

from ..autograd import Op, Tensor
from ..errors import ShapeError


class Add(Op):
    """add(a, b) -> a + b, of a's shape."""

    @staticmethod
    def shape(a, b):
        if a[len(a) - len(b) :] != b:
            raise ShapeError(f"b must have a's shape or its last dimensions; got a {a}, b {b}")
        return a

    @staticmethod
    def reference(a, b):
        return a + b

    def forward_cpu(self, a, b):
        self.b_shape = b.shape
        return np.asarray(a + b)

    def backward_cpu(self, dy):
        return dy, _sum_repeats(dy, self.b_shape)


class Multiply(Op):
    """multiply(a, b) -> a * b, of a's shape."""

    shape = Add.shape

    @staticmethod
    def reference(a, b):
        return a * b

    def forward_cpu(self, a, b):
        self.a, self.b = a, b
        return np.asarray(a * b)

    def backward_cpu(self, dy):
        return np.asarray(dy * self.b), _sum_repeats(dy * self.a, self.b.shape)


def _sum_repeats(g, shape):
    """g summed over the leading dimensions that `shape` lacks."""
    repeats = int(np.prod(g.shape[: g.ndim - len(shape)], dtype=np.int64))
    return np.asarray(g.reshape((repeats, *shape)).sum(0))


add, multiply = Add.apply, Multiply.apply
Tensor.operators.update(add=add, multiply=multiply)
