"""Dropout "at the end of the contracting path" (section 3.1), with randomness that is a formula.

    y[i] = x[i] / (1 - rate)  if  word(i) >= rate * 2^32,  else 0        any shape, i the flat index

word(i) is 32 bits of Philox-2x32-10 (Salmon et al., SC 2011): counter (i / 2, step), key from
(seed, layer), word i % 2 of the two it gives. No generator is carried along: every device, any
number of threads, and a run resumed at this step draw the same bits. Seed and step are read from
`when`, a uint32 array (seed, step) that lives on the device, so that a captured CUDA graph, whose
scalar arguments are frozen, still draws anew at each step.
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError, UsageError


class Dropout(Op):
    """dropout(x, when, rate=0.5, layer=0) -> y, of x's shape; when is uint32 (2,): seed, step."""

    @staticmethod
    def shape(x, when, rate=0.5, layer=0):
        if when != (2,):
            raise ShapeError(f"dropout needs when = (seed, step), got an array of shape {when}")
        if not 0 <= rate < 1:
            raise UsageError(f"the dropout rate must be at least 0 and below 1, got {rate}")
        return x

    @staticmethod
    def reference(x, when, rate=0.5, layer=0):
        keep = words(x.size, int(when[0]), int(when[1]), layer) >= np.uint32(rate * 2**32)
        return x * keep.reshape(x.shape) / (1 - rate)

    def forward_cpu(self, x, when, rate=0.5, layer=0):
        native = self.device.native(x.dtype)
        if native is not None:
            key = (int(when[0]) + layer * 0x632BE5AB) & 0xFFFFFFFF
            self.fixed = key, int(when[1]), int(rate * 2**32), 1 / (1 - rate)
            return self._native(native, x)
        keep = words(x.size, int(when[0]), int(when[1]), layer) >= np.uint32(rate * 2**32)
        self.scale = np.multiply(keep.reshape(x.shape), 1 / (1 - rate), dtype=x.dtype)
        return x * self.scale

    def backward_cpu(self, dy):
        native = self.device.native(dy.dtype)
        if native is not None:
            return self._native(native, dy), None
        return dy * self.scale, None

    def _native(self, native, x):
        y = self.device.empty(x.shape, x.dtype)
        native.dropout(x, y, *self.fixed)  # the words are drawn anew in backward: cheaper than kept
        return y

    def forward_gpu(self, x, when, rate=0.5, layer=0):
        self.when, self.fixed = when, (layer & 0xFFFFFFFF, int(rate * 2**32), 1 / (1 - rate))
        return self._scaled(x)

    def backward_gpu(self, dy):
        return self._scaled(dy), None

    def _scaled(self, x):
        y = self.device.empty(x.shape, x.dtype)
        pairs = -(-x.size // 2)
        rest = self.when, y, x.size, *self.fixed
        self.device.each("dropout", "dropout_scale", pairs, x, *rest)
        return y


def words(n, seed, step, layer):
    """n random uint32: Philox-2x32 with 10 rounds, counters (0, step), (1, step), ..."""
    mask = np.uint64(0xFFFFFFFF)
    left = np.arange((n + 1) // 2, dtype=np.uint64)
    right = np.full_like(left, step & 0xFFFFFFFF)
    key = (seed + layer * 0x632BE5AB) & 0xFFFFFFFF
    for _ in range(10):
        product = left * np.uint64(0xD256D193)
        left = (product >> np.uint64(32)) ^ np.uint64(key) ^ right
        right = product & mask
        key = (key + 0x9E3779B9) & 0xFFFFFFFF
    return np.stack([left, right], axis=1).astype(np.uint32).ravel()[:n]


dropout = Dropout.apply
