"""Softmax over the classes and weighted cross entropy (section 3, equation 1), as one op.

    p[x,k] = exp(z[x,k]) / sum_j exp(z[x,j])        L = - sum_x w[x] log p[x, t[x]]  /  sum_x w[x]

    z (N,H,W,K), t (N,H,W) integer class, w (N,H,W)  ->  L ()

The paper sums; we divide by the sum of the weights, so that the learning rate does not depend on
the tile size. A pixel whose t is outside 0..K-1 (we use -1) is ignored: it counts in neither sum.
If the weights sum to 0, L = 0. Logits of any size are safe: the largest is subtracted first.

    dz[x,k] = w[x] (p[x,k] - [k = t[x]]) / sum_x w[x]
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..kernel import constants


class SoftmaxLoss(Op):
    """softmax_loss(z, t, w) -> L, a scalar; the gradient goes to z alone."""

    @staticmethod
    def shape(z, t, w):
        if len(z) != 4 or t != z[:3] or w != z[:3] or not z[3]:
            raise ShapeError(
                f"softmax_loss needs z (N,H,W,K), t and w (N,H,W); got z {z}, t {t}, w {w}"
            )
        return ()

    @staticmethod
    def reference(z, t, w):
        largest = z.max(axis=3, keepdims=True)
        log_p = z - largest - np.log(np.exp(z - largest).sum(axis=3, keepdims=True))
        chosen = t[..., None] == np.arange(z.shape[3])
        counted = (w * chosen.any(axis=3)).sum()
        return (
            -(w[..., None] * chosen * log_p).sum() / counted if counted else np.zeros_like(counted)
        )

    def forward_cpu(self, z, t, w):
        native = self.device.native(z.dtype)
        if native is not None and w.dtype == z.dtype and t.dtype.kind in "iub":
            if t.dtype not in (np.int32, np.int64):
                t = t.astype(np.int64)
            self.dz = self.device.empty(z.shape, z.dtype)
            return np.asarray(native.softmax_loss(z, t, w, self.dz), z.dtype)
        p = z - z.max(axis=3, keepdims=True)
        chosen = t[..., None] == np.arange(z.shape[3])
        at_label = np.sum(p, axis=3, where=chosen)
        np.exp(p, out=p)
        total = p.sum(axis=3)
        w = np.where(chosen.any(axis=3), w, w.dtype.type(0))
        counted = w.sum(dtype=np.float64)
        w = (w / counted if counted else 0 * w).astype(z.dtype)
        loss = np.sum(w * (np.log(total) - at_label), dtype=np.float64)
        p /= total[..., None]
        p -= chosen
        p *= w[..., None]
        self.dz = p
        return np.asarray(loss, z.dtype)

    def backward_cpu(self, dy):
        self.dz *= dy  # in place: it is the op's own, and is used once
        return self.dz, None, None

    def forward_gpu(self, z, t, w):
        K, empty = z.shape[3], self.device.empty
        t = labels(self.device, t, K)
        weight = weight_of(self.device, t, w, K)
        blocks = -(-w.size // constants("softmax_loss")["BLOCK"])
        self.dz, loss, losses = empty(z.shape), empty(()), empty((blocks,), np.float64)
        if blocks:
            given = z, t, w, weight, self.dz, losses
            _launch(self.device, "forward", blocks, *given, w.size, K)
        _launch(self.device, "total", 1, losses, loss, blocks)
        return loss

    def backward_gpu(self, dy):
        dz = self.dz
        self.device.each("softmax_loss", "softmax_loss_scale", dz.size, dz, dy, dz.size)
        return dz, None, None


def labels(where, t, K):
    """t as int32; NumPy's own integers have 64 bits. Others the kernel refuses by name."""
    if t.dtype != np.int64:
        return t
    label = where.empty(t.shape, np.int32)
    where.each("softmax_loss", "softmax_loss_labels", t.size, t, label, t.size, K)
    return label


def weight_of(where, t, w, K):
    """The sum of the weights of the pixels that count, a double on a GPU."""
    slabs = -(-w.size // constants("softmax_loss")["SLAB"])
    sums, weight = where.empty((slabs,), np.float64), where.empty((), np.float64)
    if slabs:
        _launch(where, "weights", slabs, t, w, sums, w.size, K)
        _launch(where, "weight", 1, sums, weight, slabs)
    return weight


def _launch(where, what, grid, *args):
    block = constants("softmax_loss")["BLOCK"]
    where.launch("softmax_loss", "softmax_loss_" + what, grid, block, *args)


softmax_loss = SoftmaxLoss.apply
