"""Gray values of training tiles: gamma, contrast, brightness and noise, of each channel alone.

    v <- low + span ((v - low) / span)^exponent      low, span of the plane: its darkest, brightest
    v <- mean + factor (v - mean) + shift spread     of what has come of it: mean, std. deviation
    v <- v + spread noise z                          z: standard normal, another at every pixel

The four numbers are drawn by augment.py. The z of a pixel is a function of (key, channel, pixel):
word number `pixel` of a counter-based generator, made normal by the Box-Muller transform. So it
depends on no other draw, and kernels/warp.cu makes the same one.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FACTORS = 4  # exponent, factor, shift, noise: one channel's; (1, 1, 0, 0) changes nothing
TURN = np.float32(2 * math.pi)


def factors(drawn: Array, contrast: float, brightness: float, gamma: float, noise: float) -> Array:
    """(C, FACTORS) float32 from numbers in [-1, 1] and the strengths (augment.Augment)."""
    rows = [
        ((1 + gamma) ** a, (1 + contrast) ** b, brightness * c, noise * abs(d))
        for a, b, c, d in drawn
    ]
    return np.array(rows, np.float32).reshape(-1, FACTORS)


def vary(plane: NDArray[np.float32], by: Array, key: Array, channel: int) -> None:
    """Change a plane in place; by: its four factors, key: two uint64."""
    exponent, factor, shift, noise = by
    low, span = plane.min(), np.ptp(plane)
    if exponent != 1 and span > 0:
        plane[...] = low + span * ((plane - low) / span) ** exponent
    mean, spread = plane.mean(), plane.std()
    if factor != 1 or shift != 0:
        plane[...] = mean + factor * (plane - mean) + shift * spread
    if noise != 0:
        plane += spread * noise * normals(key, channel, plane.size).reshape(plane.shape)


def normals(key: Array, channel: int, count: int) -> NDArray[np.float32]:
    """Standard normal numbers: z = sqrt(-2 log u) cos(2 pi v) of pixel 0, 1, 2, ...

    u and v are the two ends of the pixel's word of 64 bits: 23 bits for u, in the middle of 2^23
    equal parts of (0, 1), so |z| < 5.8; 24 bits for v, from -1/2 to 1/2. The words are those of
    Philox-4x64-10 (Salmon et al., SC 2011) in NumPy's order: counters (1 + pixel // 4, channel, 0, 0).
    """
    words = np.random.Philox(counter=[0, channel, 0, 0], key=key).random_raw(count)
    u = (words >> np.uint64(41)).astype(np.float32)
    v = ((words << np.uint64(40)).view(np.int64) >> 40).astype(np.float32)
    u += np.float32(0.5)
    u *= np.float32(2.0**-23)
    v *= TURN * np.float32(2.0**-24)
    radius = np.sqrt(np.float32(-2) * np.log(u))
    normal: NDArray[np.float32] = radius * np.cos(v)
    return normal
