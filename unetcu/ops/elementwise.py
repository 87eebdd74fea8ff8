"""Sums and products of two tensors, element by element: a + b, a * b.

b has a's shape, or the shape of a's last dimensions and is then repeated over the first ones (a
bias (K) on maps (N,H,W,K); a scalar () on anything). Its gradient is summed over the repeats.
"""

from math import isqrt

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
        return self.device.add(a, b) if a.shape == b.shape else np.asarray(a + b)

    def backward_cpu(self, dy):
        return dy, _sum_repeats(dy, self.b_shape)

    def forward_gpu(self, a, b):
        self.b_shape = b.shape
        return self.device.add(a, b)

    def backward_gpu(self, dy):
        return dy, _sum_repeats_gpu(self.device, self.b_shape, dy) if self.needs[1] else None


class Multiply(Op):
    """multiply(a, b) -> a * b, of a's shape."""

    shape = Add.shape

    @staticmethod
    def reference(a, b):
        return a * b

    def forward_cpu(self, a, b):
        self.a, self.b = a, b
        return _multiply_cpu(self.device, a, b)

    def backward_cpu(self, dy):
        a, b, where = self.a, self.b, self.device
        return _multiply_cpu(where, dy, b), _sum_repeats(_multiply_cpu(where, dy, a), b.shape)

    def forward_gpu(self, a, b):
        self.a, self.b = a, b
        return _multiply_gpu(self.device, a, b)

    def backward_gpu(self, dy):
        a, b, where = self.a, self.b, self.device
        da = _multiply_gpu(where, dy, b) if self.needs[0] else None
        return da, _sum_repeats_gpu(where, b.shape, dy, a) if self.needs[1] else None


def _sum_repeats(g, shape):
    """g summed over the leading dimensions that `shape` lacks."""
    repeats = int(np.prod(g.shape[: g.ndim - len(shape)], dtype=np.int64))
    return np.asarray(g.reshape((repeats, *shape)).sum(0))


def _multiply_cpu(device, a, b):
    native = device.native(a.dtype)
    if native is None or (a.shape, a.dtype) != (b.shape, b.dtype):
        return np.asarray(a * b)
    y = device.empty(a.shape, a.dtype)
    native.multiply(a, b, y)
    return y


def _multiply_gpu(device, a, b):
    y = device.empty(a.shape)
    device.each("elementwise", "elementwise_multiply", y.size, a, b, y, y.size, b.size)
    return y


def _sum_repeats_gpu(device, shape, *factors):
    """The product of the factors summed over the repeats, in two rounds: see elementwise.cu."""
    db, count = device.empty(shape), factors[0].size
    if db.size:
        part = device.empty((isqrt(count // db.size), *shape))
        first = "elementwise_sum" if len(factors) == 1 else "elementwise_sum_products"
        device.each("elementwise", first, part.size, *factors, part, count, part.size)
        rest = part, db, part.size, db.size
        device.each("elementwise", "elementwise_sum", db.size, *rest)
    return db


add, multiply = Add.apply, Multiply.apply
Tensor.operators.update(add=add, multiply=multiply)
