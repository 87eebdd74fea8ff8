"""What the fast 3x3 convolution may be off by, and an oracle in float64 that says how much it is.

Its rounding errors are those of a patch, not of a pixel: beside a bright spot all outputs of the
same tile of 4x4 are as inexact as the brightest. So the bound is, with u = 2^-24,

    (c + sqrt(n) / 4) u S        c = 32 for y and dx, 8 for dw

where n is the number of products in a sum, and S the sum of absolute products that has, in place of
each number, the largest of its patch: of the 6x6 inputs, of the 4x4 gradients of a tile. The form
follows from the algorithm; the two constants c were chosen from measurements, not derived: honest
arithmetic stays below 0.6 of the bound. The oracle goes tap by tap and shares no code with the
package.
"""

import numpy as np

U = 2.0**-24


def made(rng, N, H, W, C, K):
    """x, w, b, dy; x and dy with bright spots, since they are what breaks other bounds."""
    x, dy = rng.standard_normal((N, H, W, C)), rng.standard_normal((N, H - 2, W - 2, K))
    for a in (x, dy):
        a[rng.random(a.shape) < 0.01] *= 1000
    w, b = rng.standard_normal((3, 3, C, K)), rng.standard_normal(K)
    return tuple(a.astype(np.float32) for a in (x, w, b, dy))


def right(x, w, b, g):
    """The same in float64, without ReLU."""
    x, w, b, g = (a.astype(np.float64) for a in (x, w, b, g))
    P, Q = g.shape[1:3]
    cuts = {(r, s): np.s_[:, r : r + P, s : s + Q] for r, s in np.ndindex(3, 3)}
    y = b + sum(x[cut] @ w[tap] for tap, cut in cuts.items())
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    flat = g.reshape(-1, g.shape[3])
    for tap, cut in cuts.items():
        dx[cut] += g @ w[tap].T
        dw[tap] = x[cut].reshape(-1, x.shape[3]).T @ flat
    return [y, dx, dw, g.sum(axis=(0, 1, 2))]


def brightest(a, pad=0):
    """|a| (N,H,W,C) -> (N,th,tw,C): the largest of the 6x6 patch of each tile of 4x4 outputs."""
    a = np.abs(a.astype(np.float64))
    N, H, W, C = a.shape
    high, wide = -(-(H + 2 * pad - 2) // 4), -(-(W + 2 * pad - 2) // 4)
    room = np.zeros((N, 4 * high + 2, 4 * wide + 2, C))
    room[:, pad : pad + H, pad : pad + W] = a
    windows = np.lib.stride_tricks.sliding_window_view(room, (6, 6), axis=(1, 2))
    return windows[:, ::4, ::4].max(axis=(-2, -1))


def bounds(x, w, b, g):
    """What y, dx, dw, db may be off by."""
    shapes = (g.shape, x.shape)
    outputs = ((x, w, 0), (g, w.transpose(0, 1, 3, 2), 2))
    found = []
    for (a, filters, pad), (_, H, W, _) in zip(outputs, shapes, strict=True):
        S = brightest(a, pad) @ np.abs(filters.astype(np.float64)).sum(axis=(0, 1))
        S = S.repeat(4, axis=1).repeat(4, axis=2)[:, :H, :W]
        found.append((32 + np.sqrt(a.shape[3]) / 4) * U * S)
    patches = brightest(x)
    N, high, wide, C = patches.shape
    room = np.zeros((N, 4 * high, 4 * wide, g.shape[3]))
    room[:, : g.shape[1], : g.shape[2]] = np.abs(g)
    tiles = room.reshape(N, high, 4, wide, 4, -1).max(axis=(2, 4)).reshape(N * high * wide, -1)
    S = patches.reshape(-1, C).T @ tiles * 16
    dw = np.broadcast_to((8 + np.sqrt(len(tiles)) / 4) * U * S, w.shape)
    db = (4 + 2 * np.sqrt(g[..., 0].size)) * U * np.abs(g).sum(axis=(0, 1, 2))
    return [found[0] + 2 * U * np.abs(b), found[1], dw, db]


def assert_within(got, wanted, allowed):
    """Each of y, dx, dw, db within its bound, and close as a whole."""
    for name, a, z, most in zip(("y", "dx", "dw", "db"), got, wanted, allowed, strict=True):
        assert a.shape == z.shape == most.shape
        error = np.abs(a - z)
        assert (error <= most).all(), f"{name}: {np.max(error / np.maximum(most, 1e-300))} x bound"
        if z.size > 100:  # fewer may all be small by chance
            assert np.linalg.norm(error) <= 5e-6 * np.linalg.norm(z), name
