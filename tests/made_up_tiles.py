"""Tiles for the tests of augmentation, from images that carry their own positions.

A cubic spline reproduces a ramp, so the two channels of `ramps` tell from which row and column
each pixel of a tile was read, and every claim about the warp is a claim about these numbers.
"""

import numpy as np

from unetcu.augment import Augment, sample

NONE = Augment.none()
STRONG = Augment(contrast=0, brightness=0, gamma=0, noise=0)


def ramps(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns], axis=-1).astype(np.float32)


def addresses(height, width):
    return np.arange(height * width).reshape(height, width)


def draw(seed, augment, shape=(64, 80), tile_in=40, tile_out=20, label=None, image=None):
    height, width = shape
    label = addresses(height, width) if label is None else label
    weight = addresses(height, width).astype(np.float32) / 7
    image = ramps(height, width) if image is None else image
    rng = np.random.default_rng(seed)
    return sample(image, label, weight, tile_in, tile_out, rng, augment)


def inner(seed, augment, tile_in=61, size=400):
    """Source rows and columns of a tile that lies well inside its image, (2, n, n) float64."""
    label = np.full((size, size), -1)
    middle = slice(size * 2 // 5, size * 3 // 5)
    label[middle, middle] = 1
    x, _, _ = draw(seed, augment, (size, size), tile_in, tile_in - 40, label)
    assert x.min() > 12
    assert x.max() < size - 13
    return np.moveaxis(x, -1, 0).astype(np.float64)
