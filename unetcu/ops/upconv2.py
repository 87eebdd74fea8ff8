"""2x2 up-convolution with stride 2: the green arrows of figure 1.

    y[n, 2i+a, 2j+e, k] = b[k] + sum_c x[n,i,j,c] w[a,e,c,k]        a, e in {0,1}
    x (N,H,W,C), w (2,2,C,K), b (K)  ->  y (N,2H,2W,K)

Each input pixel paints a 2x2 patch and patches do not overlap, so the layer is one matrix product
(C -> 4K) whose result is dealt out to the four places of the patch. Backward collects the
patches again: with g[p, (a,e,k)] the gradients of pixel p's patch,

    dx[p,c] = sum_{a,e,k} g[p,(a,e,k)] w[a,e,c,k]        dw[a,e,c,k] = sum_p x[p,c] g[p,(a,e,k)]
"""

from math import isqrt, prod

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..gemm import product, product_over_rows
from ..kernel import constants
from ..parameters import room


class UpConv2(Op):
    """upconv2(x, w, b) -> y; see the module's docstring for shapes."""

    @staticmethod
    def shape(x, w, b):
        if len(x) != 4 or len(w) != 4 or w[:2] != (2, 2) or w[2] != x[3] or b != w[3:]:
            raise ShapeError(
                f"upconv2 needs x (N,H,W,C), w (2,2,C,K), b (K); got x {x}, w {w}, b {b}"
            )
        return x[0], 2 * x[1], 2 * x[2], w[3]

    @staticmethod
    def reference(x, w, b):
        N, H, W, _ = x.shape
        y = np.empty((N, 2 * H, 2 * W, len(b)), x.dtype)
        for a in range(2):
            for e in range(2):
                y[:, a::2, e::2] = x @ w[a, e] + b
        return y

    def forward_cpu(self, x, w, b):
        self.x, self.w = x, w
        N, H, W, C = x.shape
        K = len(b)
        native = self.device.native(x.dtype)
        if native is not None:
            y = self.device.empty(self.out_shape, x.dtype)
            native.upconv2_forward(x, w, b, y)
            return y
        patches = product(x.reshape(-1, C), _side_by_side(w)).reshape(N, H, W, 2, 2, K)
        y = self.device.empty((N, H, 2, W, 2, K), x.dtype)
        np.add(patches.transpose(0, 1, 3, 2, 4, 5), b, out=y)
        return y.reshape(self.out_shape)

    def backward_cpu(self, dy):
        native = self.device.native(dy.dtype)
        if native is not None:
            dx, dw, db = None, room(self, 1, self.w.shape), room(self, 2, dy.shape[3:])
            native.upconv2_backward_w(self.x, dy, dw, db)
            if self.needs[0]:
                dx = self.device.empty(self.x.shape)
                native.upconv2_backward_x(dy, self.w, dx)
            return dx, dw, db
        x, w = self.x, self.w
        N, H, W, C = x.shape
        K = w.shape[3]
        g = dy.reshape(N, H, 2, W, 2, K).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4 * K)
        dx = product(g, np.ascontiguousarray(_side_by_side(w).T)).reshape(x.shape)
        dw = product_over_rows(x.reshape(-1, C), g).reshape(C, 2, 2, K).transpose(1, 2, 0, 3)
        db = g.sum(0).reshape(4, K).sum(0)
        return dx, np.ascontiguousarray(dw), db

    def forward_gpu(self, x, w, b):
        self.x, self.w = x, w
        y = self.device.empty(self.out_shape, x.dtype)
        self._launch("forward", (prod(x.shape[:3]), 4 * len(b)), x, w, b, y)
        return y

    def backward_gpu(self, dy):
        x, w, dx, dw, db = self.x, self.w, None, None, None
        C, K = w.shape[2:]
        pixels, empty = prod(x.shape[:3]), self.device.empty
        if self.needs[0]:
            dx = empty(x.shape, x.dtype)
            self._launch("backward_x", (pixels, C), dy, w, dx)
        if self.needs[1]:
            slabs = -(-pixels // constants("upconv2")["SLAB"])
            part, dw = empty((slabs, *w.shape)), empty(w.shape)
            self._launch("backward_w", (slabs, C, 4 * K), x, dy, part)
            self.device.each("upconv2", "upconv2_sum", dw.size, part, dw, part.size, dw.size)
        if self.needs[2]:
            part, db = empty((isqrt(4 * pixels), K)), empty((K,))
            self.device.each("upconv2", "upconv2_sum_dy", part.size, dy, part, dy.size, part.size)
            self.device.each("upconv2", "upconv2_sum", K, part, db, part.size, K)
        return dx, dw, db

    def _launch(self, what, result, *arrays):
        """One block for each tile of what comes out: (rows, columns) or (slabs, rows, columns)."""
        size = constants("upconv2")
        grid = *result[:-2], *(-(-n // size["TILE"]) for n in result[-2:])
        if 0 not in grid:
            sizes = prod(self.x.shape[:3]), self.x.shape[2], *self.w.shape[2:]
            self.device.launch("upconv2", "upconv2_" + what, grid, size["BLOCK"], *arrays, *sizes)


def _side_by_side(w):
    """w (2,2,C,K) as a (C, 4K) matrix: the four filters of a patch beside each other."""
    C, K = w.shape[2:]
    return np.ascontiguousarray(w.reshape(4, C, K).transpose(1, 0, 2)).reshape(C, 4 * K)


upconv2 = UpConv2.apply
