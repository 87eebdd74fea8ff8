"""The warp: rotation, scale, elastic deformation, and the interpolation of the image."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tiles import NONE, inner
from scipy.interpolate import CubicSpline, RectBivariateSpline

from unetcu.resample import interpolate


def test_rotation_and_scale_cover_their_range():
    angles, factors = [], []
    for seed in range(150):
        field = inner(seed, replace(NONE, rotate=180.0, scale=0.2))
        down = field[:, -1, 30] - field[:, 0, 30]
        across = field[:, 30, -1] - field[:, 30, 0]
        assert abs(down @ across) < 1, "right angles stay right"
        assert np.linalg.det([down, across]) > 0, "no flip"
        angles.append(np.degrees(np.arctan2(down[1], down[0])))
        factors.append(np.linalg.norm(down) / 60)
    assert max(np.diff(sorted(angles))) < 30
    assert (min(angles), max(angles)) == pytest.approx((-180, 180), abs=15)
    assert 1 / 1.2 - 1e-3 < min(factors) < 0.86
    assert 1.16 < max(factors) < 1.2 + 1e-3


def test_a_small_rotation_stays_small():
    angles = []
    for seed in range(60):
        field = inner(seed, replace(NONE, rotate=10.0))
        down = field[:, -1, 30] - field[:, 0, 30]
        angles.append(np.degrees(np.arctan2(down[1], down[0])))
        assert abs(field[:, 30, 30] - np.rint(field[:, 30, 30])).max() < 1e-3
        assert max(np.abs(np.diff(field, 2, axis)).max() for axis in (1, 2)) < 2e-3
    assert -10.01 < min(angles) < -8
    assert 8 < max(angles) < 10.01


NODES = np.ix_([0, 1], [0, 94, 188], [0, 94, 188])


@pytest.fixture(scope="module")
def displacements():
    """Elastic displacement fields of 50 tiles of 189 pixels: (50, 2, 189, 189)."""
    elastic = replace(NONE, elastic=10.0)
    pairs = [(inner(s, elastic, 189, 500), inner(s, NONE, 189, 500)) for s in range(50)]
    return np.array([bent - straight for bent, straight in pairs])


def test_nodes_move_by_ten_pixels_and_independently(displacements):
    vectors = np.array([field[NODES] for field in displacements])  # 50 × 18 numbers
    assert vectors.std() == pytest.approx(10, abs=4 * 10 / np.sqrt(2 * vectors.size))
    assert abs(vectors.mean()) < 4 * 10 / np.sqrt(vectors.size)
    assert vectors.std(axis=0).min() > 6
    assert vectors.std(axis=0).max() < 14
    between = np.corrcoef(vectors.reshape(50, 18).T)[~np.eye(18, dtype=bool)]
    assert np.abs(between).max() < 0.6


def test_displacements_between_the_nodes_are_a_bicubic_spline(displacements):
    at, everywhere = [0.0, 94.0, 188.0], np.arange(189.0)
    for field in displacements[:10]:
        for component, nodes in zip(field, field[NODES], strict=True):
            rows = CubicSpline(at, nodes, axis=0, bc_type="natural")(everywhere)
            wanted = CubicSpline(at, rows, axis=1, bc_type="natural")(everywhere)
            assert np.abs(component - wanted).max() < 2e-3


def test_a_small_tile_is_not_folded():
    moves = []
    for seed in range(60):
        field = inner(seed, replace(NONE, elastic=10.0), tile_in=41)
        moves.append(field[0, ::40, ::40] - inner(seed, NONE, tile_in=41)[0, ::40, ::40])
        assert (np.diff(field[0], axis=0) > 0).all()
        assert (np.diff(field[1], axis=1) > 0).all()
    assert np.std(moves) == pytest.approx(20 / 8, rel=0.2)


@pytest.mark.parametrize(
    ("shape", "low", "high"), [((40, 31), -45, 75), ((200, 150), 60, 100), ((3, 50), -20, 60)]
)
def test_cubic_interpolation_and_mirrored_borders(shape, low, high):
    """Against FITPACK's spline through the image padded by np.pad."""
    rng = np.random.default_rng(6)
    image = rng.random((*shape, 2), dtype=np.float32)
    pad = 100
    padded = np.pad(image.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    source = rng.uniform(low, high, (2, 25, 25))
    planes = interpolate(image, source)
    for channel in (0, 1):
        rows, columns = (np.arange(-pad, n + pad) for n in shape)
        spline = RectBivariateSpline(rows, columns, padded[..., channel], s=0)
        assert np.abs(planes[channel] - spline.ev(*source)).max() < 2e-6
