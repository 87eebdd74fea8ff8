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
        size, K, empty = constants("softmax_loss"), z.shape[3], self.device.empty
        t = self._labels(t, K)
        blocks, slabs = -(-w.size // size["BLOCK"]), -(-w.size // size["SLAB"])
        sums, weight, losses = (empty(s, np.float64) for s in ((slabs,), (), (blocks,)))
        self.dz, loss = empty(z.shape), empty(())
        if blocks:
            self._launch("weights", slabs, t, w, sums, w.size, K)
            self._launch("weight", 1, sums, weight, slabs)
            self._launch("forward", blocks, z, t, w, weight, self.dz, losses, w.size, K)
        self._launch("total", 1, losses, loss, blocks)
        return loss

    def backward_gpu(self, dy):
        dz = self.dz
        self.device.each("softmax_loss", "softmax_loss_scale", dz.size, dz, dy, dz.size)
        return dz, None, None

    def _labels(self, t, K):
        """t as int32; NumPy's own integers have 64 bits. Others the kernel refuses by name."""
        if t.dtype != np.int64:
            return t
        label = self.device.empty(t.shape, np.int32)
        rest = t, label, t.size, K
        self.device.each("softmax_loss", "softmax_loss_labels", t.size, *rest)
        return label

    def _launch(self, what, grid, *args):
        block = constants("softmax_loss")["BLOCK"]
        self.device.launch("softmax_loss", "softmax_loss_" + what, grid, block, *args)


softmax_loss = SoftmaxLoss.apply
