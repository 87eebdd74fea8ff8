"""Objects cut apart where they touch: against the same watershed, pixel by pixel, in loops."""

import numpy as np
import pytest
from scipy import ndimage

from unetcu.scores.flood import LEVELS, flood

NEAR = ((-1, 0), (1, 0), (0, -1), (0, 1))


def hills(*centres, size=(40, 60), radius=9.0):
    """A probability with a round summit of 1 at each centre."""
    y, x = np.mgrid[: size[0], : size[1]]
    heights = [1.25 - np.hypot(y - a, x - b) / (2 * radius) for a, b in centres]
    return np.clip(np.max(heights, axis=0), 0, 1).astype(np.float32)


def by_loops(p, threshold, seed, seed_size):
    """Level by level, part by part, step by step: what `flood` does without smoothing."""
    labels = np.zeros(p.shape, int)
    levels = [seed + (threshold - seed) * i / LEVELS for i in range(LEVELS)]
    for level, least in [*((v, seed_size) for v in levels), (threshold, 1)]:
        land, number = p > np.float32(level), labels.max()
        seen = np.zeros(p.shape, bool)
        for start in zip(*np.nonzero(land), strict=True):
            if seen[start]:
                continue
            part, todo = set(), [start]
            while todo:
                y, x = todo.pop()
                if (y, x) in part:
                    continue
                part.add((y, x))
                todo += [
                    (y + a, x + b)
                    for a, b in NEAR
                    if 0 <= y + a < p.shape[0] and 0 <= x + b < p.shape[1] and land[y + a, x + b]
                ]
            for q in part:
                seen[q] = True
            inside = {int(labels[q]) for q in part} - {0}
            if not inside and len(part) >= least:
                number += 1
                inside = {number}
            if len(inside) == 1:
                for q in part:
                    labels[q] = next(iter(inside))
            while inside and any(labels[q] == 0 for q in part):
                reached = {}
                for y, x in part:
                    beside = {int(labels[y + a, x + b]) for a, b in NEAR if (y + a, x + b) in part}
                    if labels[y, x] == 0 and beside - {0}:
                        reached[y, x] = min(beside - {0})
                for q, i in reached.items():
                    labels[q] = i
    return labels


def test_two_hills_with_a_saddle_are_two_objects_that_meet_on_it():
    p = hills((20, 20), (20, 36))
    assert ndimage.label(p > 0.5)[1] == 1
    labels = flood(p, 0.5, 0.9, 5, 0)
    assert labels.max() == 2
    assert np.array_equal(labels > 0, p > 0.5)
    left, right = labels[20, 20], labels[20, 36]
    assert (labels[:, :28][p[:, :28] > 0.5] == left).all()
    assert (labels[:, 29:][p[:, 29:] > 0.5] == right).all()


def test_a_summit_that_is_too_small_is_none():
    p = hills((20, 20), (20, 36))
    small = int((p[:, :28] > 0.9).sum())
    assert flood(p, 0.5, 0.9, small, 0).max() == 2
    assert flood(p, 0.5, 0.9, 4000, 0).max() == 1


def test_smoothing_forgets_summits_that_are_noise():
    rng = np.random.default_rng(0)
    p = np.clip(hills((20, 30)) + 0.2 * rng.standard_normal((40, 60)).astype(np.float32), 0, 1)
    assert flood(p, 0.5, 0.95, 1, 0).max() > 20
    middle = flood(p, 0.5, 0.95, 20, 4)
    assert len(np.unique(middle[20, 25:36][p[20, 25:36] > 0.5])) == 1


def test_low_hills_are_objects_too():
    p = hills((20, 20), (20, 36)) + 0
    p[:10, 50:] = 0.6
    assert flood(p, 0.5, 0.95, 5, 0).max() == 3


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_loops(seed):
    rng = np.random.default_rng(seed)
    p = ndimage.gaussian_filter(rng.random((24, 30)), 1.5).astype(np.float32)
    p = (p - p.min()) / np.ptp(p)
    least = int(rng.integers(1, 12))
    assert np.array_equal(flood(p, 0.4, 0.75, least, 0), by_loops(p, 0.4, 0.75, least))


@pytest.mark.parametrize("seed", range(6))
def test_every_object_is_one_piece(seed):
    rng = np.random.default_rng(seed)
    p = ndimage.gaussian_filter(rng.random((50, 50)), 2).astype(np.float32)
    p = (p - p.min()) / np.ptp(p)
    labels = flood(p, 0.4, 0.8, 3, 0)
    for i in range(1, labels.max() + 1):
        assert ndimage.label(labels == i)[1] == 1


def test_around_a_lake():
    """A pixel goes to the nearest object of its own part, not across water to another's."""
    p = np.zeros((9, 30), np.float32)
    p[4, :20] = 0.6  # a long arm ...
    p[3:6, :4] = p[3:6, 16:20] = 1.0  # ... with a summit at either end
    p[2, 8:12] = 1.0  # an object of its own, beside the arm's middle
    labels = flood(p, 0.5, 0.9, 3, 0)
    assert labels.max() == 3
    arm = labels[4, :20]
    assert set(arm.tolist()) == {labels[4, 0], labels[4, 19]}
    assert labels[2, 9] not in arm


def test_empty_and_full():
    assert flood(np.zeros((5, 6), np.float32), 0.5, 0.9, 1, 0).max() == 0
    assert (flood(np.ones((5, 6), np.float32), 0.5, 0.9, 1, 1.0) == 1).all()
