"""What the built-in pages are drawn with, against plain loops and cases computed by hand."""

import numpy as np
import pytest
from scipy import ndimage

from unetcu.rng import stream
from unetcu.synth.shapes import (
    depth_inside,
    distance_to_contact,
    field,
    grain,
    numbered,
    whole,
    without_slits,
)


def random_labels(seed, n=24):
    r = np.random.default_rng(seed)
    seeds = r.integers(0, n, (6, 2))
    yy, xx = np.mgrid[:n, :n]
    away = np.array([(yy - y) ** 2 + (xx - x) ** 2 for y, x in seeds])
    return np.where(away.min(0) < 36, away.argmin(0) + 1, 0).astype(np.int32)


def nearest(mask, y, x):
    return min((np.hypot(y - v, x - u) for v, u in np.argwhere(mask)), default=np.inf)


@pytest.mark.parametrize("seed", [0, 1])
def test_distances_against_their_definitions(seed):
    labels = random_labels(seed)
    n = len(labels)
    border, contact = np.zeros((2, n, n), bool)
    for y in range(n):
        for x in range(n):
            four = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            four = [labels[p] for p in four if min(p) >= 0 and max(p) < n]
            border[y, x] = labels[y, x] == 0 or any(v != labels[y, x] for v in four)
            eight = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].ravel()
            contact[y, x] = labels[y, x] > 0 and any(v not in (0, labels[y, x]) for v in eight)
    inside, seam = depth_inside(labels), distance_to_contact(labels)
    for y in range(n):
        for x in range(n):
            assert inside[y, x] == pytest.approx(nearest(border, y, x))
            assert seam[y, x] == pytest.approx(nearest(contact, y, x))
    assert np.isinf(distance_to_contact(np.eye(5, dtype=np.int32))).all()


def test_numbered_splits_and_drops():
    labels = np.array([[7, 7, 0, 7, 7], [7, 7, 0, 7, 7], [0, 2, 2, 2, 0], [0, 0, 0, 0, 5]])
    got = numbered(labels.astype(np.int32), 3)
    assert got.tolist() == [[2, 2, 0, 3, 3], [2, 2, 0, 3, 3], [0, 1, 1, 1, 0], [0] * 5]


def test_without_slits():
    labels = np.zeros((40, 60), np.int32)
    labels[:, :20], labels[:, 24:40] = 1, 2  # a slit of 4 pixels, then open background
    labels[10:16, 30:36] = 0  # a hole of 36 pixels
    got = without_slits(labels)
    assert set(np.unique(got[:, :22])) == {1}
    assert set(np.unique(got[:, 22:40])) == {2}
    assert (got[:, 40:] == 0).all()


def test_whole_cuts_threads_and_keeps_the_largest_part():
    labels = np.zeros((30, 60), np.int32)
    labels[5:25, 5:25] = 3  # a square ...
    labels[14:16, 25:45] = 3  # ... a thread ...
    labels[10:20, 45:55] = 3  # ... and a smaller square
    labels[0:4, 0:4] = 1
    got = whole(labels, 20)
    assert set(np.unique(got)) == {0, 3}
    assert got[15, 15] == 3
    assert (got[:, 27:] == 0).all()
    assert (got == 3).sum() >= 390


def test_fields_have_unit_variance_and_the_asked_scale():
    r = stream(0, 0, "test fields")
    for scale in (4, 13.7, 30):
        f = np.stack([field(r, 150, scale) for _ in range(20)])
        assert f.dtype == np.float32
        assert abs(f.mean()) < 0.2
        assert 0.8 < f.std() < 1.2
        lag = int(2.5 * scale)
        assert abs((f[:, :-lag] * f[:, lag:]).mean()) < 0.25
        assert (f[:, :-1] * f[:, 1:]).mean() > 0.85 * f.var()
    for scale in (5, 22.5):  # SciPy's own spline
        f = field(stream(1, 0, "test fields"), 80, scale)
        r = stream(1, 0, "test fields")
        knots = r.standard_normal((int(80 / scale) + 5,) * 2).astype(np.float32)
        start = 1.5 + r.random(2)
        want = ndimage.affine_transform(
            knots, np.eye(2) / scale, start, (80, 80), order=3, prefilter=False
        )
        assert np.abs(f * (151 / 315) - want)[:60, :60].max() < 1e-5
    for sigma in (1.0, 2.4):
        assert 0.85 < grain(r, 200, sigma).std() < 1.15
