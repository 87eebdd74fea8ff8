"""1x1 convolution: the last layer, from 64 channels to the classes (section 2).

    y[n,i,j,k] = b[k] + sum_c x[n,i,j,c] w[c,k]        x (N,H,W,C), w (C,K), b (K) -> y (N,H,W,K)

Pixels do not mix, so it is one matrix product over all of them; backward is two:

    dx[p,c] = sum_k dy[p,k] w[c,k]      dw[c,k] = sum_p x[p,c] dy[p,k]      db[k] = sum_p dy[p,k]
"""

from math import prod

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..gemm import product, product_over_rows
from ..kernel import constants
from ..parameters import room


class Conv1x1(Op):
    """conv1x1(x, w, b) -> y; see the module's docstring for shapes."""

    @staticmethod
    def shape(x, w, b):
        if len(x) != 4 or len(w) != 2 or w[0] != x[3] or b != w[1:]:
            raise ShapeError(f"conv1x1 needs x (N,H,W,C), w (C,K), b (K); got x {x}, w {w}, b {b}")
        return *x[:3], w[1]

    @staticmethod
    def reference(x, w, b):
        return x @ w + b

    def forward_cpu(self, x, w, b):
        self.x, self.w = x, w
        native = self.device.native(x.dtype)
        if native is not None:
            y = self.device.empty(self.out_shape, x.dtype)
            native.conv1x1_forward(x, w, b, y)
            return y
        y = product(x.reshape(-1, x.shape[3]), w)
        y += b
        return y.reshape(self.out_shape)

    def backward_cpu(self, dy):
        native = self.device.native(dy.dtype)
        if native is not None:
            dx, dw, db = None, room(self, 1, self.w.shape), room(self, 2, dy.shape[3:])
            native.conv1x1_backward_w(self.x, dy, dw, db)
            if self.needs[0]:
                dx = self.device.empty(self.x.shape)
                native.conv1x1_backward_x(dy, self.w, dx)
            return dx, dw, db
        x, g = self.x.reshape(-1, self.x.shape[3]), dy.reshape(-1, dy.shape[3])
        dx = product(g, np.ascontiguousarray(self.w.T)).reshape(self.x.shape)
        return dx, product_over_rows(x, g), g.sum(0)

    def forward_gpu(self, x, w, b):
        self.x, self.w = x, w
        size, (C, K) = constants("conv1x1"), w.shape
        y, pixels = self.device.empty(self.out_shape), prod(x.shape[:3])
        grid = -(-pixels // size["BLOCK"]), -(-K // size["CLASSES"])
        if y.size:
            self._launch("forward", grid, x, w, b, y, pixels, C, K)
        return y

    def backward_gpu(self, dy):
        x, w, dx, dw, db = self.x, self.w, None, None, None
        size, (C, K), empty = constants("conv1x1"), w.shape, self.device.empty
        pixels = prod(x.shape[:3])
        if self.needs[0]:
            dx = empty(x.shape, x.dtype)
            self.device.each("conv1x1", "conv1x1_backward_x", dx.size, dy, w, dx, dx.size, C, K)
        if self.needs[1] or self.needs[2]:
            sums, slabs = C * K + K, -(-pixels // size["SLAB"])
            part, dw, db = empty((slabs, sums)), empty(w.shape), empty((K,))
            if part.size:
                grid = slabs, -(-sums // size["BLOCK"])
                self._launch("backward_w", grid, x, dy, part, pixels, C, K)
            rest = part, dw, db, part.size, sums, K
            self.device.each("conv1x1", "conv1x1_sum", sums, *rest)
        return dx, dw, db

    def _launch(self, what, grid, *args):
        block = constants("conv1x1")["BLOCK"]
        self.device.launch("conv1x1", "conv1x1_" + what, grid, block, *args)


conv1x1 = Conv1x1.apply
