"""The U-Net with its loss, written a second time, for one purpose: exact slopes.

Shares nothing with the package but the names and shapes of the weights. Every number may be
complex, and derivatives come from the complex step: for an analytic L,

    d/dh L(p + h s) at h = 0  =  Im L(p + i h s) / h        with h = 1e-30,

exact to rounding, since nothing is subtracted. Comparisons (ReLU, max-pool, the largest logit)
look at real parts, so no step, however small, moves across a kink.
"""

from collections.abc import Mapping

import numpy as np

H = 1e-30


def slope(weights: Mapping[str, np.ndarray], direction: Mapping[str, np.ndarray], *data, **net):
    """d/dh loss(weights + h direction) at h = 0; names missing in `direction` stay as they are."""
    moved = {
        name: w + 1j * H * direction[name] if name in direction else w
        for name, w in weights.items()
    }
    return loss(moved, *data, **net).imag / H


def loss(weights, x, t, w, *, depth, rate=0.0, seed=0, step=0):
    """Equation 1 of the paper, over the sum of weights; labels below 0 are ignored."""
    z = logits(weights, x, depth=depth, rate=rate, seed=seed, step=step)
    w = w.astype(np.float64)
    total, weight = 0, 0.0
    for place in np.argwhere(t >= 0):
        place = tuple(place)
        v = z[place]
        v = v - v.real.max()
        total = total - w[place] * (v[t[place]] - np.log(np.exp(v).sum()))
        weight += w[place]
    return total / weight


def logits(weights, x, *, depth, rate=0.0, seed=0, step=0):
    """Figure 1. x: (N,H,W,C) real or complex."""
    x = x.astype(np.complex128)
    skips = []
    for level in range(1, depth + 1):
        x = two_convolutions(weights, f"down{level}", x)
        skips.append(x)
        x = pool(x)
    x = two_convolutions(weights, "bottom", x)
    if rate:
        x = x * mask(x.shape, rate, seed, step)
    for level in range(depth, 0, -1):
        x = up(x, weights[f"up{level}.upconv.w"], weights[f"up{level}.upconv.b"])
        skip = skips[level - 1]
        cut_y, cut_x = (skip.shape[1] - x.shape[1]) // 2, (skip.shape[2] - x.shape[2]) // 2
        centre = skip[:, cut_y : skip.shape[1] - cut_y, cut_x : skip.shape[2] - cut_x]
        x = two_convolutions(weights, f"up{level}", np.concatenate([centre, x], axis=3))
    return np.tensordot(x, weights["head.w"], 1) + weights["head.b"]


def two_convolutions(weights, where, x):
    for name in (f"{where}.conv1", f"{where}.conv2"):
        w, b = weights[name + ".w"], weights[name + ".b"]
        high, wide = x.shape[1] - 2, x.shape[2] - 2
        y = np.zeros((x.shape[0], high, wide, w.shape[3]), np.complex128) + b
        for r in range(3):
            for s in range(3):
                y += np.tensordot(x[:, r : r + high, s : s + wide], w[r, s], 1)
        x = np.where(y.real > 0, y, 0)
    return x


def pool(x):
    n, h, w, c = x.shape
    four = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
    four = four.reshape(n, h // 2, w // 2, c, 4)
    best = four.real.argmax(axis=4)[..., None]
    return np.take_along_axis(four, best, axis=4)[..., 0]


def up(x, w, b):
    n, h, wide, _ = x.shape
    y = np.empty((n, 2 * h, 2 * wide, w.shape[3]), np.complex128)
    for a in (0, 1):
        for e in (0, 1):
            y[:, a::2, e::2] = np.tensordot(x, w[a, e], 1) + b
    return y


def mask(shape, rate, seed, step):
    """Dropout's factors: Philox-2x32-10 on counter (i / 2, step) with key `seed`, word i % 2."""
    factors = []
    for i in range(int(np.prod(shape))):
        low, high, key = i // 2, step, seed
        for _ in range(10):
            both = 0xD256D193 * low
            low, high = (both >> 32) ^ key ^ high, both & 0xFFFFFFFF
            key = (key + 0x9E3779B9) & 0xFFFFFFFF
        word = high if i % 2 else low
        factors.append(1 / (1 - rate) if word >= rate * 2**32 else 0.0)
    return np.array(factors).reshape(shape)
