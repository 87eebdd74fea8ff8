"""2x2 up-convolution with stride 2: the green arrows of figure 1.

    y[n, 2i+a, 2j+e, k] = b[k] + sum_c x[n,i,j,c] w[a,e,c,k]        a, e in {0,1}
    x (N,H,W,C), w (2,2,C,K), b (K)  ->  y (N,2H,2W,K)

Each input pixel paints a 2x2 patch and patches do not overlap, so the layer is one matrix product
(C -> 4K) whose result is dealt out to the four places of the patch. Backward collects the
patches again: with g[p, (a,e,k)] the gradients of pixel p's patch,

    dx[p,c] = sum_{a,e,k} g[p,(a,e,k)] w[a,e,c,k]        dw[a,e,c,k] = sum_p x[p,c] g[p,(a,e,k)]
"""

from contextlib import nullcontext
from math import isqrt, prod

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..gemm import product, product_over_rows
from ..kernel import constants
from ..parameters import ASIDE, aside, room
from ..precision import form_of, on_tensor_cores

BLOCKS = 264  # two for each of an H200's 132 multiprocessors: what runs at once
LONGEST = 4096  # pixels a slab: longer sums round more


class UpConv2(Op):
    """upconv2(x, w, b) -> y; see the module's docstring for shapes."""

    @staticmethod
    def shape(x, w, b, precision="fp32"):
        if len(x) != 4 or len(w) != 4 or w[:2] != (2, 2) or w[2] != x[3] or b != w[3:]:
            raise ShapeError(
                f"upconv2 needs x (N,H,W,C), w (2,2,C,K), b (K); got x {x}, w {w}, b {b}"
            )
        return x[0], 2 * x[1], 2 * x[2], w[3]

    @staticmethod
    def reference(x, w, b, precision="fp32"):
        N, H, W, _ = x.shape
        y = np.empty((N, 2 * H, 2 * W, len(b)), x.dtype)
        for a in range(2):
            for e in range(2):
                y[:, a::2, e::2] = x @ w[a, e] + b
        return y

    def forward_cpu(self, x, w, b, precision="fp32"):
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

    def forward_gpu(self, x, w, b, precision="fp32"):
        self.x, self.w, self.b, self.form = x, w, b, form_of(x.dtype, precision)
        return self.again()

    def again(self):
        """What forward makes."""
        x, w, b = self.x, self.w, self.b
        y = self.device.empty(self.out_shape, x.dtype)
        pixels, columns = prod(x.shape[:3]), 4 * len(b)
        if self._on_tensor_cores():
            self._launch_mma("forward", (columns, pixels), x, w, b, y)
        else:
            self._launch("forward", (pixels, columns), x, w, b, y)
        return y

    def backward_gpu(self, dy):
        x, w, dx, dw, db = self.x, self.w, None, None, None
        pixels, C = prod(x.shape[:3]), x.shape[3]
        mma = self._on_tensor_cores()
        if self.needs[1] or self.needs[2]:
            dw, db = room(self, 1, w.shape), room(self, 2, w.shape[3:])
            with aside(self, dw, db) if dy.size <= ASIDE else nullcontext():
                (self._weights_mma if mma else self._weights)(dy, dw, db)
        if self.needs[0]:
            dx = self.device.empty(x.shape, x.dtype)
            self.gates = mma and getattr(self.sources[0], "rectified", False)
            if mma:
                self._launch_mma("backward_x", (C, pixels), dy, x, w, dx, last=(int(self.gates),))
            else:
                self._launch("backward_x", (pixels, C), dy, w, dx)
        return dx, dw, db

    def _weights(self, dy, dw, db):
        x, shape, empty = self.x, self.w.shape, self.device.empty
        C, K = shape[2:]
        pixels = prod(x.shape[:3])
        slabs = -(-pixels // constants("upconv2")["SLAB"])
        part = empty((slabs, *shape))
        self._launch("backward_w", (slabs, C, 4 * K), x, dy, part)
        self._sum(part, dw)
        part = empty((isqrt(4 * pixels), K))
        self.device.each("upconv2", "upconv2_sum_dy", part.size, dy, part, dy.size, part.size)
        self._sum(part, db)

    def _weights_mma(self, dy, dw, db):
        x, shape, empty = self.x, self.w.shape, self.device.empty
        C, K = shape[2:]
        pixels, size = prod(x.shape[:3]), constants(f"upconv2_mma:{self.form}")
        tiles = -(-C // size["W_TILE"]) * -(-4 * K // size["TILE"])
        share = -(-pixels // max(1, BLOCKS // tiles, -(-pixels // LONGEST)))
        share = -(-share // size["DEPTH"]) * size["DEPTH"]
        slabs = -(-pixels // share)
        part, part_b = empty((slabs, *shape)), empty((slabs, 4, K))
        self._launch_mma("backward_w", (4 * K, C, slabs), x, dy, part, part_b, last=(share,))
        self._sum(part, dw)
        self._sum(part_b, db)

    def _sum(self, part, whole):
        self.device.each("upconv2", "upconv2_sum", whole.size, part, whole, part.size, whole.size)

    def _on_tensor_cores(self):
        return self.x.size > 0 and on_tensor_cores(self.form, *self.w.shape[2:])

    def _launch(self, what, result, *arrays):
        """One block for each tile of what comes out: (rows, columns) or (slabs, rows, columns)."""
        size = constants("upconv2")
        grid = *result[:-2], *(-(-n // size["TILE"]) for n in result[-2:])
        if 0 not in grid:
            sizes = prod(self.x.shape[:3]), self.x.shape[2], *self.w.shape[2:]
            self.device.launch("upconv2", "upconv2_" + what, grid, size["BLOCK"], *arrays, *sizes)

    def _launch_mma(self, what, result, *arrays, last=()):
        """One block for each tile of what comes out: (columns, rows) or (columns, rows, slabs)."""
        unit = f"upconv2_mma:{self.form}"
        size = constants(unit)
        side = size["W_TILE" if what == "backward_w" else "TILE"]
        grid = -(-result[0] // size["TILE"]), -(-result[1] // side), *result[2:]
        row, x_row = (size[n] // size["PIECE"] + size["LONGER"] for n in ("TILE", "W_TILE"))
        pieces = {
            "forward": size["TILE"] * size["PITCH"] + size["DEPTH"] * row,
            "backward_x": 2 * size["TILE"] * size["PITCH"],
            "backward_w": size["DEPTH"] * (row + x_row),
        }
        if what == "backward_w":
            grid = grid[::-1]
        sizes = prod(self.x.shape[:3]), self.x.shape[2], *self.w.shape[2:], *last
        shared = 16 * size["STAGES"] * pieces[what]
        entry = "upconv2_mma_" + what
        self.device.launch(unit, entry, grid, size["BLOCK"], *arrays, *sizes, shared=shared)


def _side_by_side(w):
    """w (2,2,C,K) as a (C, 4K) matrix: the four filters of a patch beside each other."""
    C, K = w.shape[2:]
    return np.ascontiguousarray(w.reshape(4, C, K).transpose(1, 0, 2)).reshape(C, 4 * K)


upconv2 = UpConv2.apply
