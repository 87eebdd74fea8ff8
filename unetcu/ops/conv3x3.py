"""Valid 3x3 convolution, with bias and (if asked) ReLU: the blue arrows of figure 1.

    y[n,i,j,k] = act( b[k] + sum_{r,s,c} x[n, i+r, j+s, c] w[r,s,c,k] )        r, s in {0,1,2}
    x (N,H,W,C), w (3,3,C,K), b (K)  ->  y (N,H-2,W-2,K)

"Valid" (section 2: unpadded): only pixels whose whole neighbourhood exists are computed, so a
tile's result never depends on what lies outside it. Backward, with g = dy where act let through:

    dw[r,s,c,k] = sum_{n,i,j} x[n,i+r,j+s,c] g[n,i,j,k]        db[k] = sum_{n,i,j} g[n,i,j,k]
    dx[n,i,j,c] = sum_{r,s,k} g[n,i-r,j-s,k] w[r,s,c,k]        (g is 0 outside)

so dx is again such a convolution: of g padded by 2, with w turned by 180 degrees and C, K swapped.

On the CPU our compiled kernels do it by Winograd F(4x4,3x3): a quarter of the multiplications, at
the price that the last bits of a pixel depend on a 6x6 patch (kernels/cpu/README.md); inside
`exact()`, directly, in one order at every position. Without them each is a matrix product over
"columns": row p of the column matrix holds the 9C numbers that output pixel p sees. It is made a
few image rows at a time, to stay in the cache.
"""

from contextlib import nullcontext

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..autograd import Op
from ..device.cpu import exact_wanted
from ..errors import ShapeError
from ..gemm import ordered_sum, rows_a_part, rows_times
from ..ops import _conv3x3_gpu as gpu
from ..ops._fused import keep, kept, plain
from ..ops.relu import gate
from ..parameters import ASIDE, aside, room
from ..threads import each, scratch

FEW = 4  # channels of x, so few that a GPU makes y in the time it takes to write it


class Conv3x3(Op):
    """conv3x3(x, w, b, relu=False) -> y; see the module's docstring for shapes."""

    @staticmethod
    def shape(x, w, b, relu=False, precision="fp32", pool=False):
        if len(x) != 4 or len(w) != 4 or w[:2] != (3, 3) or w[2] != x[3] or b != w[3:]:
            raise ShapeError(
                f"conv3x3 needs x (N,H,W,C), w (3,3,C,K), b (K); got x {x}, w {w}, b {b}"
            )
        if x[1] < 3 or x[2] < 3:
            raise ShapeError(f"conv3x3 needs at least 3x3 pixels, got {x[1]}x{x[2]}")
        if not (x[0] and x[3] and w[3]):
            raise ShapeError(f"conv3x3 needs an image, a channel and a filter; got x {x}, w {w}")
        return x[0], x[1] - 2, x[2] - 2, w[3]

    @staticmethod
    def reference(x, w, b, relu=False, precision="fp32", pool=False):
        H, W = x.shape[1] - 2, x.shape[2] - 2
        y = b + sum(x[:, r : r + H, s : s + W] @ w[r, s] for r in range(3) for s in range(3))
        return np.maximum(y, 0) if relu else y

    def forward_cpu(self, x, w, b, relu=False, precision="fp32", pool=False):
        y = self.device.empty(self.out_shape, x.dtype)
        native = self.device.native(x.dtype) if y.size else None
        self.native, self.exact = native, exact_wanted()  # backward does as forward did
        if native is None:
            correlate(x, w, y, b, relu)
        elif self.exact:
            native.conv3x3_exact_forward(x, w, b, y, relu)
        else:
            native.conv3x3_fast_forward(x, w, b, y, relu)
        self.x, self.w, self.y = x, w, y if relu else None
        return y

    def _backward_native(self, dy):
        form, y, shape = "exact" if self.exact else "fast", self.y, self.x.shape
        dx, dw, db = None, room(self, 1, self.w.shape), room(self, 2, dy.shape[3:])
        getattr(self.native, f"conv3x3_{form}_backward_w")(self.x, dy, y, dw, db)
        del self.x  # its memory may be needed for dx
        if self.needs[0]:
            dx = self.device.empty(shape)
            getattr(self.native, f"conv3x3_{form}_backward_x")(dy, y, self.w, dx)
        return dx, dw, db

    def backward_cpu(self, dy):
        if self.native is not None:
            return self._backward_native(dy)
        x, w, y = self.x, self.w, self.y
        N, H, W, K = dy.shape
        C = x.shape[3]
        wants_dx = self.needs[0]
        pad = 2 if wants_dx else 0
        padded = self.device.zeros((N, H + 2 * pad, W + 2 * pad, K), dy.dtype)
        rows = rows_a_part(H, 9 * C, W)
        parts = -(-H // rows)

        def part(i):
            n, top = i // parts, i % parts * rows
            here = slice(top, min(top + rows, H))
            g = scratch("g", dy[n, here].shape, dy.dtype)
            if y is None:
                np.copyto(g, dy[n, here])
            else:
                gate(dy[n, here], y[n, here] > 0, g)
            if wants_dx:
                padded[n, pad + here.start : pad + here.stop, pad : pad + W] = g
            g = g.reshape(-1, K)
            db = g.reshape(-1, W * K).sum(0).reshape(W, K).sum(0, keepdims=True)
            return np.concatenate([columns(x[n], here).T @ g, db])

        both = ordered_sum(part, N * parts)  # dw and, in the last row, db
        dw, db = both[:-1].reshape(w.shape), both[-1].copy()
        if not wants_dx:
            return None, dw, db
        dx = self.device.empty(x.shape, dy.dtype)
        turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
        correlate(padded, turned, dx)
        return dx, dw, db

    def forward_gpu(self, x, w, b, relu=False, precision="fp32", pool=False):
        self.x, self.w, self.b, self.rectified = keep(self, x), w, b, relu
        self.form, self.cheap = gpu.Form(self.device, x, w, precision), x.shape[3] <= FEW
        self.pool = pool
        y = self.form.forward(x, w, b, relu, pool)
        self.y = plain(y) if relu and not self.cheap else None
        return y

    def again(self):
        """What forward made."""
        return self.form.forward(kept(self), self.w, self.b, self.rectified, False)

    def backward_gpu(self, dy):
        where, form, w, y = self.device, self.form, self.w, self.y
        self.y = None  # its memory may be needed
        if self.gated or not self.rectified:
            y = None
        elif y is None:
            y = self.again()
        if y is not None and form.tensor_cores:  # they copy dy as it is
            g = where.empty(dy.shape, dy.dtype)
            where.each("relu", "relu_backward", dy.size, dy, y, g, dy.size)
            dy, y = g, None
        dx = dw = db = None
        x = kept(self)
        small = x.size <= ASIDE
        if self.needs[1] or self.needs[2]:  # first, so that its sums need no memory beside dx
            dw, db = room(self, 1, w.shape), room(self, 2, dy.shape[3:])
            with aside(self, dw, db) if small else nullcontext():
                form.backward_w(dy, y, x, dw, db)
        if self.needs[0]:
            before = self.sources[0]
            self.gates = form.tensor_cores and getattr(before, "rectified", False)
            x = x if self.gates else None  # what was made again may go
            dx = form.backward_x(dy, y, x, w, getattr(before, "framed", False))
        return dx, dw, db


def correlate(x, w, y, b=None, relu=False):
    """y = act(b + x * w) for x (N,H,W,C), w (3,3,C,K), y (N,H-2,W-2,K), all contiguous."""
    N, H, W, K = y.shape
    C = x.shape[3]
    flat = np.ascontiguousarray(w).reshape(9 * C, K)
    row_of_b = None if b is None else np.tile(b, W)  # K numbers at a time would be slow
    rows = rows_a_part(H, 9 * C, W)
    parts = -(-H // rows)

    def part(i):
        n, top = i // parts, i % parts * rows
        here = slice(top, min(top + rows, H))
        out = y[n, here].reshape(-1, W * K)
        rows_times(columns(x[n], here), flat, out.reshape(-1, K))
        if b is not None:
            out += row_of_b
        if relu:
            np.maximum(out, 0, out=out)

    each(part, N * parts)


def columns(x, rows):
    """x (H,W,C) -> (len(rows) * (W-2), 9C): what each pixel of these output rows sees."""
    W, C = x.shape[1:]
    high, across, size = rows.stop - rows.start, x.strides[0], x.itemsize
    shape, strides = (high, W - 2, 3, 3 * C), (across, C * size, across, size)
    seen = as_strided(x[rows.start :], shape, strides, writeable=False)
    out = scratch("columns", shape, x.dtype)
    np.copyto(out, seen)
    return out.reshape(-1, 9 * C)


conv3x3 = Conv3x3.apply
