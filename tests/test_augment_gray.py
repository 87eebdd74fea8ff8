"""Gray value variations: each alone, within its range, whatever the range of the data."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tiles import NONE, draw

from unetcu.augment import Augment

GRAY = np.random.default_rng(10).gamma(2.0, 1.0, (64, 80, 2)).astype(np.float32)


def gray(seed, **strengths):
    """A tile with its gray values varied, and the same tile as it was."""
    varied = draw(seed, replace(NONE, **strengths), image=GRAY)[0]
    return varied.astype(np.float64), draw(seed, NONE, image=GRAY)[0].astype(np.float64)


def test_contrast():
    factors = []
    for seed in range(60):
        varied, plain = gray(seed, contrast=0.3)
        assert varied.mean((0, 1)) == pytest.approx(plain.mean((0, 1)), rel=1e-4)
        factors += (varied.std((0, 1)) / plain.std((0, 1))).tolist()
    assert 1 / 1.3 - 1e-3 < min(factors) < 0.8
    assert 1.25 < max(factors) < 1.3 + 1e-3
    assert np.abs(np.subtract(factors[::2], factors[1::2])).max() > 0.2, "channels vary apart"


def test_brightness():
    shifts = []
    for seed in range(60):
        varied, plain = gray(seed, brightness=0.3)
        difference = (varied - plain) / plain.std((0, 1))
        assert np.ptp(difference, axis=(0, 1)).max() < 1e-4
        shifts += difference[0, 0].tolist()
    assert -0.301 < min(shifts) < -0.25
    assert 0.25 < max(shifts) < 0.301


def test_gamma_contrast_and_brightness_vary_apart():
    drawn = []
    for seed in range(60):
        bent, plain = gray(seed, gamma=0.3)
        varied, _ = gray(seed, gamma=0.3, contrast=0.3, brightness=0.3)
        shift = (varied.mean((0, 1)) - bent.mean((0, 1))) / bent.std((0, 1))
        factor = np.log(varied.std((0, 1)) / bent.std((0, 1)))
        exponent = np.median(bent, (0, 1)) - np.median(plain, (0, 1))
        drawn += zip(shift, factor, exponent, strict=True)
    assert np.abs(np.corrcoef(np.transpose(drawn))[~np.eye(3, dtype=bool)]).max() < 0.3


def test_gamma():
    exponents = []
    for seed in range(60):
        varied, plain = gray(seed, gamma=0.5)
        for channel in (0, 1):
            v, p = varied[..., channel], plain[..., channel]
            assert (v.min(), v.max()) == pytest.approx((p.min(), p.max()), rel=1e-5)
            unit_v, unit_p = ((a - a.min()) / np.ptp(a) for a in (v, p))
            inside = (unit_p > 0.05) & (unit_p < 0.9)
            exponent = np.log(unit_v[inside]) / np.log(unit_p[inside])
            assert np.ptp(exponent) < 1e-3
            exponents.append(exponent[0])
    assert 1 / 1.5 - 1e-3 < min(exponents) < 0.75
    assert 1.4 < max(exponents) < 1.5 + 1e-3


def test_noise():
    levels = []
    for seed in range(60):
        varied, plain = gray(seed, noise=0.2)
        noise = (varied - plain) / plain.std((0, 1))
        assert np.abs(noise.mean((0, 1))).max() < 0.03
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.15
        levels += noise.std((0, 1)).tolist()
    assert 0 <= min(levels) < 0.03
    assert 0.17 < max(levels) < 0.21


def test_gray_values_vary_alike_in_every_range():
    for seed in range(5):
        one = draw(seed, Augment(), image=GRAY)[0]
        other = draw(seed, Augment(), image=GRAY * 1000 - 300)[0]
        assert other == pytest.approx(one * 1000 - 300, abs=0.2)


def test_a_constant_image_stays_constant():
    x = draw(0, Augment(), image=np.full((64, 80, 1), 0.3, np.float32))[0]
    assert x == pytest.approx(0.3, abs=1e-6)
