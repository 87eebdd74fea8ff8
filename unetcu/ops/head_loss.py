"""The network's end as one op: conv1x1, then softmax_loss, of which nothing is left in between.

    L = softmax_loss(conv1x1(x, w, b), t, weights)
    x (N,H,W,C), w (C,K), b (K), t (N,H,W) integer class, weights (N,H,W)  ->  L ()

On a GPU one kernel reads x once and makes the loss and all gradients. For that it must know dy, by
which they are multiplied before they are rounded (fp16: the scale of the loss), when the loss is
made: it may be given as one input more, a tensor of shape (), and then `L.backward(dy)` with this
very tensor has nothing left to do. With any other dy, backward makes the pass again.

Elsewhere, and for more channels or classes than the kernel takes, the two ops do the work.
"""

from math import prod

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..kernel import constants
from .conv1x1 import Conv1x1
from .softmax_loss import SoftmaxLoss, labels, weight_of


class HeadLoss(Op):
    """head_loss(x, w, b, t, weights[, dy]) -> L, a scalar; gradients go to x, w and b."""

    @staticmethod
    def shape(x, w, b, t, weights, dy=()):
        if len(x) != 4 or len(w) != 2 or (w[0], b, t, weights) != (x[3], w[1:], x[:3], x[:3]):
            raise ShapeError(
                "head_loss needs x (N,H,W,C), w (C,K), b (K), t and weights (N,H,W); "
                f"got x {x}, w {w}, b {b}, t {t}, weights {weights}"
            )
        if not w[1] or dy != ():
            raise ShapeError(f"head_loss needs a class, and dy of shape (); got w {w}, dy {dy}")
        return ()

    @staticmethod
    def reference(x, w, b, t, weights, dy=None):
        return SoftmaxLoss.reference(Conv1x1.reference(x, w, b), t, weights)

    def forward_cpu(self, x, w, b, t, weights, dy=None):
        return self._in_two(x, w, b, t, weights)

    def backward_cpu(self, dy):
        return self._back_in_two(dy)

    def forward_gpu(self, x, w, b, t, weights, dy=None):
        size = constants("head_loss")
        if w.shape[0] > size["WIDEST"] or w.shape[1] > size["MOST"]:
            return self._in_two(x, w, b, t, weights)
        t = labels(self.device, t, w.shape[1])
        self.given = x, w, b, t, weights, weight_of(self.device, t, weights, w.shape[1])
        self.dy = dy if self.sources else None  # where nothing is recorded, L is all
        self.gates = bool(self.sources) and getattr(self.sources[0], "rectified", False)
        loss, *self.gradients = self._pass(self.dy)
        return loss

    def backward_gpu(self, dy):
        if hasattr(self, "two"):
            return self._back_in_two(dy)
        if dy is not self.dy:
            _, *self.gradients = self._pass(dy)
        return (*self.gradients, *(None for _ in self.sources[3:]))

    def _pass(self, dy):
        """L, dx, dw, db; without dy L alone, and nothing in the others."""
        (x, w, b, t, weights, weight), empty = self.given, self.device.empty
        size, (C, K), pixels = constants("head_loss"), w.shape, prod(x.shape[:3])
        blocks, wanted = -(-pixels // size["SPAN"]), int(dy is not None)
        loss, losses = empty(()), empty((blocks,), np.float64)
        dx = empty(x.shape if wanted else (0,), x.dtype)
        part, dw, db = (empty(s if wanted else (0,)) for s in ((C * K + K, blocks), w.shape, (K,)))
        most = next(k for k in (2, 4, size["MOST"]) if k >= K)
        if blocks:
            given = x, w, b, t, weights, weight, dy if wanted else loss, dx, part, losses
            rest = pixels, C, K, wanted, int(self.gates)
            self._launch(f"pass_{most}", blocks, *given, *rest)
        self._launch("sum", 1 + part.shape[0], part, losses, dw, db, loss, blocks, C * K)
        return loss, dx, dw, db

    def _launch(self, what, grid, *args):
        block = constants("head_loss")["BLOCK"]
        self.device.launch("head_loss", "head_loss_" + what, grid, block, *args)

    def _in_two(self, x, w, b, t, weights):
        """L by the two ops, which keep what backward needs."""
        head, loss = self.two = Conv1x1(), SoftmaxLoss()
        head.device = loss.device = self.device
        head.out_shape, loss.out_shape = Conv1x1.shape(x.shape, w.shape, b.shape), ()
        z = getattr(head, "forward_" + self.device.kind)(x, w, b)
        return getattr(loss, "forward_" + self.device.kind)(z, t, weights)

    def _back_in_two(self, dy):
        head, loss = self.two
        head.needs, head.sources = self.needs[:3], self.sources[:3]
        dz = getattr(loss, "backward_" + self.device.kind)(dy)[0]
        gradients = getattr(head, "backward_" + self.device.kind)(dz)
        return (*gradients, *(None for _ in self.sources[3:]))


head_loss = HeadLoss.apply
