"""1x1 convolution: the last layer, from 64 channels to the classes (section 2).

    y[n,i,j,k] = b[k] + sum_c x[n,i,j,c] w[c,k]        x (N,H,W,C), w (C,K), b (K) -> y (N,H,W,K)

Pixels do not mix, so it is one matrix product over all of them; backward is two:

    dx[p,c] = sum_k dy[p,k] w[c,k]      dw[c,k] = sum_p x[p,c] dy[p,k]      db[k] = sum_p dy[p,k]
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..gemm import product, product_over_rows


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
        y = product(x.reshape(-1, x.shape[3]), w)
        y += b
        return y.reshape(self.out_shape)

    def backward_cpu(self, dy):
        x, g = self.x.reshape(-1, self.x.shape[3]), dy.reshape(-1, dy.shape[3])
        dx = product(g, np.ascontiguousarray(self.w.T)).reshape(self.x.shape)
        return dx, product_over_rows(x, g), g.sum(0)


conv1x1 = Conv1x1.apply
