"""The noise of training tiles: words of a counter-based generator, made normal."""

import math

import numpy as np
import pytest
from scipy import stats

from unetcu.augment import Augment, draw
from unetcu.gray import factors, normals

FULL = 2**64 - 1


def words(key, channel, count):
    """Philox-4x64-10 (Salmon et al., SC 2011, section 4), word by word in whole numbers."""
    found = []
    for block in range(1, count // 4 + 2):
        counter, (k0, k1) = [block, channel, 0, 0], key
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
            counter = [
                (second >> 64) ^ counter[1] ^ k0,
                second & FULL,
                (first >> 64) ^ counter[3] ^ k1,
                first & FULL,
            ]
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & FULL, (k1 + 0xBB67AE8584CAA73B) & FULL
        found += counter
    return found[:count]


# The first number of this key's pixel 445 is the smallest there can be.
SMALLEST = (11530, 0)


def exact_normals(key, channel, count):
    """What `normals` makes of them, in float64."""
    w = np.array(words(key, channel, count), np.uint64)
    u = ((w >> np.uint64(41)).astype(np.float64) + 0.5) / 2**23
    v = (w % np.uint64(2**24)).astype(np.float64) / 2**24
    return np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)


@pytest.mark.parametrize("key", [(0, 0), (5, 2**63 + 7), (FULL, FULL), SMALLEST])
@pytest.mark.parametrize("channel", [0, 3])
def test_each_normal_is_box_and_mullers_of_its_word(key, channel):
    right = exact_normals(key, channel, 450)
    got = normals(np.array(key, np.uint64), channel, 450)
    assert got.dtype == np.float32
    assert np.abs(got - right).max() < 2e-6
    assert len(set(np.round(right, 9))) == 450
    if key == SMALLEST and channel == 0:
        assert words(key, 0, 446)[445] >> 41 == 0
        assert 5.5 < got[445] < 5.8


def test_the_law_is_normal():
    z = np.concatenate([normals(np.array([k, 1], np.uint64), k, 50_000) for k in range(8)])
    z = z.astype(np.float64)
    for power, right, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - right) < 4 * math.sqrt(variance / z.size)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert 4 < np.abs(z).max() < 5.8


def test_a_tile_takes_its_key_from_its_own_stream():
    """Behind all else that is drawn, so that the strengths of the noise move nothing."""
    label = np.zeros((40, 40), np.int32)
    one, two = (draw(label, 2, 30, 10, np.random.default_rng(seed), Augment()) for seed in (1, 2))
    still = draw(label, 2, 30, 10, np.random.default_rng(1), Augment(noise=0))
    assert one.key.dtype == np.uint64
    assert one.key.tolist() == still.key.tolist() != two.key.tolist()
    assert (one.nodes == still.nodes).all()
    assert (one.gray[:, :3] == still.gray[:, :3]).all()
    assert (still.gray[:, 3] == 0).all()


def test_factors():
    drawn = np.array([[1, -1, 0.5, -0.5], [0, 0, 0, 0]])
    got = factors(drawn, contrast=1.0, brightness=0.5, gamma=0.25, noise=0.1)
    assert got.dtype == np.float32
    assert np.array_equal(got, np.float32([[1.25, 0.5, 0.25, 0.05], [1, 1, 0, 0]]))
    assert np.array_equal(factors(drawn, 0, 0, 0, 0), np.float32([[1, 1, 0, 0]] * 2))
