"""2x2 max-pool with stride 2: the red arrows of figure 1.

    y[n,i,j,c] = max(x[n, 2i:2i+2, 2j:2j+2, c])        x (N,H,W,C) -> y (N,H/2,W/2,C)

Backward sends dy to the place the maximum came from. Where entries tie, the first in row order
takes it all: the maximum has no derivative there and any choice is as good, but every device must
make the same one. NaN counts as the largest value, so that it is never lost. In the network x is a
skip map too, whose gradient from there is added in the same pass.
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..ops._fused import Framed, Pooled, plain
from ..ops.relu import gate
from ..threads import each

PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]  # of a window, in row order


class MaxPool2(Op):
    """maxpool2(x) -> y; see the module's docstring for shapes."""

    adds = True

    @staticmethod
    def shape(x):
        if len(x) != 4 or x[1] % 2 or x[2] % 2:
            raise ShapeError(
                f"maxpool2 needs x (N,H,W,C) with even H and W, got {x}; "
                "unet.valid_sizes() lists the input sizes that fit every level"
            )
        return x[0], x[1] // 2, x[2] // 2, x[3]

    @staticmethod
    def reference(x):
        return np.maximum.reduce([x[:, a::2, e::2] for a, e in PLACES])

    def forward_cpu(self, x):
        y = self.device.empty(self.out_shape, x.dtype)
        self.winner = self.device.empty(self.out_shape, np.uint8)  # its number in PLACES
        native = self.device.native(x.dtype)
        if native is not None:
            native.maxpool2_forward(x, y, self.winner)
            return y

        def part(i):
            n, row = divmod(i, self.out_shape[1])
            best, winner = y[n, row], self.winner[n, row]
            best[...], winner[...] = x[n, 2 * row, ::2], 0
            for k, (a, e) in enumerate(PLACES[1:], 1):
                v = x[n, 2 * row + a, e::2]
                better = ~(v <= best) & (best == best)  # v is larger, or the first NaN
                np.maximum(winner, k * better.view(np.uint8), out=winner)
                np.maximum(best, v, out=best)

        each(part, self.out_shape[0] * self.out_shape[1])
        return y

    def backward_cpu(self, dy):
        N, H, W, C = dy.shape
        dx = self.device.empty((N, 2 * H, 2 * W, C), dy.dtype)
        native = self.device.native(dy.dtype)
        if native is not None:
            native.maxpool2_backward(dy, self.winner, self.so_far, dx)
            return (dx,)
        so_far = self.so_far

        def part(i):
            n, row = divmod(i, H)
            for k, (a, e) in enumerate(PLACES):
                out = dx[n, 2 * row + a, e::2]
                gate(dy[n, row], self.winner[n, row] == k, out)
                if so_far is not None:
                    out += so_far[n, 2 * row + a, e::2]

        each(part, N * H)
        return (dx,)

    def forward_gpu(self, x):
        self.x, self.cheap = plain(x), True
        y = x.pooled if isinstance(x, Pooled) else self.again()
        self.winner = None  # made again with y, which the convolution behind asks for in backward
        return y

    def again(self):
        """What forward makes."""
        y = self.device.empty(self.out_shape, self.x.dtype)
        self.winner = self.device.empty(self.out_shape, np.uint8)
        self._launch("forward", (self.x, y, self.winner), *self.out_shape[2:])
        return y

    def backward_gpu(self, dy):
        so_far, x = self.so_far, self.x
        if self.winner is None:
            self.again()
        dx = self.device.empty(x.shape, dy.dtype)
        self.gates = getattr(self.sources[0], "rectified", False)
        so_far = so_far.centre if isinstance(so_far, Framed) else so_far
        _, H, W, C = self.out_shape
        around = (0, 0) if so_far is None else so_far.shape[1:3]
        given = dy, self.winner, dy if so_far is None else so_far, x, dx
        self._launch("backward", given, H, W, C, *around, int(self.gates))
        return (dx,)

    def _launch(self, what, arrays, *sizes):
        N, H, W, C = self.out_shape
        count = N * H * W * -(-C // 4)
        self.device.each("maxpool2", "maxpool2_" + what, count, *arrays, count, *sizes)


maxpool2 = MaxPool2.apply
