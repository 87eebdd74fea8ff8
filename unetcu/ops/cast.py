"""Floats rounded to the 16 bits in which a GPU stores images: where a network begins.

    y[i] = x[i], to the nearest bfloat16 or float16        any shape
    dx[i] = dy[i]

The CPU computes in float32 and has no use for it.
"""

import numpy as np

from ..autograd import Op
from ..errors import GraphError
from ..precision import HALVES, floats, stored


class Cast(Op):
    """cast(x, to=BF16) -> y, of x's shape; to: BF16 or FP16 (precision.py)."""

    @staticmethod
    def shape(x, to):
        return x

    @staticmethod
    def reference(x, to):
        return floats(stored(np.asarray(x, np.float32), to)).astype(x.dtype)

    def forward_cpu(self, x, to):
        raise GraphError("the CPU has no 16-bit numbers to compute with; use a GPU or simt")

    def forward_gpu(self, x, to):
        if to not in HALVES:
            raise GraphError(f"cast makes 16-bit numbers, not {np.dtype(to)}")
        y = self.device.empty(x.shape, to)
        self.device.each("cast", "cast_forward", x.size, x, y, x.size)
        return y

    def backward_gpu(self, dy):
        dx = self.device.empty(dy.shape)
        self.device.each("cast", "cast_backward", dy.size, dy, dx, dy.size)
        return (dx,)


cast = Cast.apply
