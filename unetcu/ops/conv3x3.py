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

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..autograd import Op
from ..device.cpu import exact_wanted
from ..errors import ShapeError
from ..gemm import ordered_sum, rows_a_part, rows_times
from ..kernel import constants
from ..ops.relu import gate
from ..parameters import room
from ..threads import each, scratch


class Conv3x3(Op):
    """conv3x3(x, w, b, relu=False) -> y; see the module's docstring for shapes."""

    @staticmethod
    def shape(x, w, b, relu=False):
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
    def reference(x, w, b, relu=False):
        H, W = x.shape[1] - 2, x.shape[2] - 2
        y = b + sum(x[:, r : r + H, s : s + W] @ w[r, s] for r in range(3) for s in range(3))
        return np.maximum(y, 0) if relu else y

    def forward_cpu(self, x, w, b, relu=False):
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

    def forward_gpu(self, x, w, b, relu=False):
        y = self.device.empty(self.out_shape, x.dtype)
        self.x, self.w, self.y = x, w, y if relu else None
        self._correlate("forward", y, x, w, b, y, relu=relu)
        return y

    def backward_gpu(self, dy):
        x, w = self.x, self.w
        relu = self.y is not None
        y = self.y if relu else dy  # without ReLU the kernels do not read it
        dx = dw = db = None
        if self.needs[0]:
            dx = self.device.empty(x.shape, x.dtype)
            self._correlate("backward_x", dx, dy, y, w, dx, relu=relu)
        if self.needs[1] or self.needs[2]:
            N, H, W, C = x.shape
            K = w.shape[3]
            tile = chosen("backward_w", C, K)
            dw, db = self.device.empty(w.shape), self.device.empty((K,))
            n, parts = slabs(tile, N, H, W, C, K), (dw, db)
            if n > 1:
                parts = self.device.empty((n, *w.shape)), self.device.empty((n, K))
            grid, threads = (n, -(-C // tile.c), -(-K // tile.k)), constants(STEM)["W_THREADS"]
            sizes = N, H, W, C, K, int(relu)
            self.device.launch(STEM, tile.entry, grid, threads, x, dy, y, *parts, *sizes)
            if n > 1:
                sizes = n, dw.size, K
                self.device.each(STEM, "conv3x3_sum_slabs", dw.size + K, *parts, dw, db, *sizes)
        return dx, dw, db

    def _correlate(self, what, out, *arrays, relu):
        """Launch forward or backward_x, which makes `out`: a block for each tile of it."""
        H, W, C = self.x.shape[1:]
        K = self.w.shape[3]
        tile = chosen(what, C, K)
        N, P, Q, M = out.shape
        blocks = -(-P // tile.h) * -(-Q // tile.w) * -(-M // tile.k)
        threads = constants(STEM)["THREADS"]
        self.device.launch(STEM, tile.entry, (blocks, N), threads, *arrays, H, W, C, K, int(relu))


STEM = "conv3x3"


class Variant(NamedTuple):
    """One form of a kernel: all give right results for all shapes, each is fastest for some."""

    what: str  # forward, backward_x or backward_w
    suffix: str  # of the entry point
    constants: str  # in conv3x3.cu: the prefix of its tile sizes
    fits: Callable[[int, int], bool]  # of C, K: is it the one to take? The first that fits is.


VARIANTS = (
    Variant("forward", "_narrow", "NARROW", lambda C, K: K <= 32),
    Variant("forward", "", "WIDE", lambda C, K: True),
    Variant("backward_x", "_narrow", "NARROW", lambda C, K: C <= 32),
    Variant("backward_x", "", "WIDE", lambda C, K: True),
    Variant("backward_w", "_few", "W_FEW", lambda C, K: C <= 4 and K > 16),
    Variant("backward_w", "_narrow", "W_NARROW", lambda C, K: C <= 16 or K <= 32),
    Variant("backward_w", "", "W_WIDE", lambda C, K: True),
)


class Tile(NamedTuple):
    """What a block of `entry` owns: h x w pixels, k filters; of dw, c channels x k filters."""

    entry: str
    h: int
    w: int
    c: int
    k: int


def chosen(what: str, C: int, K: int) -> Tile:
    """The kernel for these channels. It depends on nothing else: a pixel's bits must not change
    with the size of the image round it."""
    v = next(v for v in VARIANTS if v.what == what and v.fits(C, K))
    size = constants(STEM)
    w = size["W_TILE_W" if what == "backward_w" else "TILE_W"]
    h, c, k = (size.get(f"{v.constants}_{d}", 0) for d in "HCK")
    return Tile(f"{STEM}_{what}{v.suffix}", h, w, c, k)


BLOCKS = 264  # two for each of an H200's 132 multiprocessors: what runs at once
LONGEST = 64  # tiles a slab: longer sums round more


def slabs(tile: Tile, N: int, H: int, W: int, C: int, K: int) -> int:
    """Into how many parts the pixels are split whose sums make the weight gradient.

    As many as fill the GPU in one go, more only where sums would grow long. A function of the
    shape alone, because it decides the order of additions, and so the bits.
    """
    tiles = N * -(-(H - 2) // tile.h) * -(-(W - 2) // tile.w)
    wanted = max(BLOCKS // (-(-C // tile.c) * -(-K // tile.k)), -(-tiles // LONGEST), 1)
    share = -(-tiles // wanted)
    return -(-tiles // share)  # so that none is empty


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
