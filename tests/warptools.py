"""Tiles made by the kernels of warp.cu from what was drawn, and the CPU's tiles beside them."""

from typing import NamedTuple

import numpy as np

from unetcu.augment import Augment, Drawn, draw, sample
from unetcu.device import device
from unetcu.resample import coefficients, positions, spline
from unetcu.warp import Picture, Warp, numbers

BOUND = 2e-6  # of the range of a tile's gray values; 5e-7 is seen
ULPS = 8  # of the largest of them, for a tile without a range; 6 is seen


class Source(NamedTuple):
    """One image with its labels and weights, and those strengths and sizes that a tile has."""

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray


def source(shape, channels=1, seed=0):
    rng = np.random.default_rng([seed, *shape])
    image = rng.gamma(2.0, 0.2, (*shape, channels)).astype(np.float32)
    label = rng.integers(-1, 5, shape).astype(np.int32)
    return Source(image, label, rng.random(shape, np.float32))


def warp_of(on, sources, augment, tile, out, count):
    """A Warp for these sources on a device, or that of a name."""
    exact = augment.crops

    def pictures():
        for s in sources:
            planes = np.moveaxis(s.image, -1, 0)
            yield Picture(
                planes if exact else np.stack([coefficients(p) for p in planes]), s.label, s.weight
            )

    where, shapes = device(on) if isinstance(on, str) else on, [s.label.shape for s in sources]
    channels = sources[0].image.shape[2]
    return Warp(where, shapes, pictures(), channels, spline(tile), count, out, exact)


def drawn(sources, which, augment, tile, out, seed) -> Drawn:
    s = sources[which]
    return draw(s.label, s.image.shape[2], tile, out, np.random.default_rng(seed), augment)


def made(warp, given):
    """(x, t, w) on the host, of what was drawn: pairs of the picture's number and a Drawn."""
    warp.cut(np.stack([numbers(i, d.nodes, d.gray, d.key) for i, d in given]))
    return tuple(np.array(warp.where.get(a)) for a in (warp.x, warp.t, warp.w))


def check_tiles(on, sources, augment, tile, out, count, seed=0):
    """Assert that the kernels' tiles of all sources are the CPU's; returns the kernels' batches."""
    warp, batches = warp_of(on, sources, augment, tile, out, count), []
    for first in range(0, len(sources), count):
        which = [(first + k) % len(sources) for k in range(count)]
        seeds = [100 * seed + first + k for k in range(count)]
        given = [
            (i, drawn(sources, i, augment, tile, out, s)) for i, s in zip(which, seeds, strict=True)
        ]
        batches.append(made(warp, given))
        for k, (i, d) in enumerate(given):
            rng = np.random.default_rng(seeds[k])
            right = sample(*sources[i], tile, out, rng, augment)
            compare([a[k] for a in batches[-1]], right, d)
    return batches


def compare(got, right, d: Drawn):
    (x, t, w), (rx, rt, rw) = got, right
    assert [a.dtype for a in got] == [a.dtype for a in right]
    assert [a.shape for a in got] == [a.shape for a in right]
    tile, out = len(rx), len(rt)
    span = np.ptp(rx, axis=(0, 1)).astype(np.float64)
    bound = BOUND * span + ULPS * np.spacing(np.abs(rx).max(axis=(0, 1)))
    assert (np.abs(x.astype(np.float64) - rx) <= bound).all()
    at = positions(d.nodes, tile)[:, (tile - out) // 2 :, (tile - out) // 2 :][:, :out, :out]
    tie = (np.abs(at - np.floor(at) - 0.5) < 1e-4).any(axis=0)
    assert ((t == rt) | tie).all()
    assert ((w == rw) | tie).all()
    assert np.mean(tie) < 0.01


STRONG = Augment(rotate=180.0, scale=0.3, elastic=15.0)
