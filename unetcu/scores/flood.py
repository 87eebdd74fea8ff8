"""Objects that touch, told apart: a watershed of the probability from its summits.

Two cells whose foreground hangs together by a bridge still have two summits of probability, with a
saddle between them. The page is flooded from above, level by level: what stands out of the water
and holds no object yet becomes one, if it is large enough, and objects grow as the water sinks, but
never into each other. At the last level, the threshold, every pixel of foreground has its object.
"""

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int32]

LEVELS = 6


def flood(
    probability: npt.NDArray[np.floating],
    threshold: float,
    seed: float,
    seed_size: int,
    smooth: float,
) -> Labels:
    """(H, W) probability of foreground -> (H, W) object ids from 1 on, 0 = background.

    Foreground is what lies above `threshold`. Summits are looked for from the level `seed` down, in
    the probability after a Gaussian of `smooth` pixels. One of fewer than `seed_size` pixels is
    none yet at its level; a part of the foreground without any is one object at last.
    """
    from scipy import ndimage

    hills = ndimage.gaussian_filter(probability, smooth) if smooth else probability
    labels = np.zeros(probability.shape, np.int32)
    for level in np.linspace(seed, threshold, LEVELS, endpoint=False):
        _settle(labels, hills > level, seed_size)
    labels[probability <= threshold] = 0
    _settle(labels, probability > threshold, 1)
    return labels


def _settle(labels: Labels, land: npt.NDArray[np.bool_], least: int) -> None:
    """Grow the objects over the parts of the land they stand on, in place, and make a new one of
    every part of at least `least` pixels that holds none."""
    from scipy import ndimage

    parts, count = ndimage.label(land)
    lowest = np.full(count + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count + 1, np.int32)
    there = (labels > 0) & land
    np.minimum.at(lowest, parts[there], labels[there])
    np.maximum.at(highest, parts[there], labels[there])
    size = np.bincount(parts.ravel(), minlength=count + 1)
    fresh = (highest == 0) & (size >= least)
    fresh[0] = False
    sole = np.where(lowest == highest, highest, 0)
    sole[fresh] = labels.max(initial=0) + np.arange(1, np.count_nonzero(fresh) + 1)
    sole[0] = 0
    np.copyto(labels, sole[parts], where=(labels == 0) & land)
    _share_out(labels, (lowest < highest)[parts] & (labels == 0) & land)


def _share_out(labels: Labels, open_: npt.NDArray[np.bool_]) -> None:
    """Give each open pixel to the object that is nearest by a way over open pixels, in place; of
    several to the one with the lowest number."""
    around = np.pad(labels, 1)
    flat, wide = around.ravel(), around.shape[1]
    left = np.flatnonzero(np.pad(open_, 1))
    none = np.iinfo(np.int32).max
    while left.size:  # one step from all objects at once
        beside = flat[left + np.array([[-1], [1], [-wide], [wide]])]
        first = np.where(beside > 0, beside, none).min(axis=0)
        reached = first < none
        flat[left[reached]] = first[reached]
        left = left[~reached]
    labels[:] = around[1:-1, 1:-1]
