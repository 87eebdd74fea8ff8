"""Tiles cut by kernels (warp.cu) are the CPU's: gray values within 2e-6 of a tile's range, labels
and weights the same wherever no position lies between two pixels; exact crops to the bit."""

from dataclasses import replace

import numpy as np
import pytest
from gpus import CUDA
from test_gray import SMALLEST, exact_normals
from warptools import STRONG, check_tiles, drawn, made, source, warp_of

from unetcu.augment import SYMMETRIES, Augment, sample
from unetcu.device import device

MODES = ["simt:guard", "simt:reverse,guard-before", "simt:shuffled,guard", CUDA]
NONE = Augment.none()
PLAIN = replace(NONE, rotate=180.0, scale=0.2, elastic=10.0)

# Images, channels, tile, its output, tiles a batch, strengths.
CASES = {
    "default": ([(64, 80), (50, 33)], 1, 44, 24, 2, Augment()),
    "strong, channels": ([(61, 47)], 3, 36, 20, 1, STRONG),
    "warp alone": ([(90, 41), (41, 90), (64, 64)], 2, 29, 9, 3, PLAIN),
    "smaller than the tile": ([(1, 1), (1, 9), (7, 1), (2, 3)], 1, 60, 20, 2, Augment()),
    "mirrored twice": ([(11, 15)], 2, 70, 30, 2, STRONG),
    "a long image": ([(3, 20011), (20011, 4)], 1, 60, 60, 2, Augment()),
    "more pixels than threads": ([(70, 90)], 1, 300, 12, 1, Augment()),
    "one pixel": ([(5, 6)], 2, 1, 1, 2, NONE),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", MODES)
def test_tiles_are_those_of_the_cpu(mode, case):
    shapes, channels, tile, out, count, augment = CASES[case]
    sources = [source(s, channels) for s in shapes]
    for seed in range(2):
        check_tiles(mode, sources, augment, tile, out, count, seed)


@pytest.mark.parametrize("case", ["default", "strong, channels", "smaller than the tile"])
def test_checked(case):
    """No race, no read of what was not written, nothing out of bounds."""
    shapes, channels, _, _, count, augment = CASES[case]
    check_tiles("simt:checked", [source(s, channels) for s in shapes], augment, 20, 4, count)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("on", ["simt", CUDA])
def test_every_symmetry(on, symmetry):
    sources = [source((40, 51), 2)] * 12
    ((_, t, _),) = check_tiles(on, sources, replace(NONE, symmetry=symmetry), 30, 12, 12)
    check_tiles(on, sources, replace(STRONG, symmetry=symmetry), 30, 12, 12)
    assert len({one.tobytes() for one in t}) == 12


@pytest.mark.parametrize("name", ["rotate", "scale", "elastic"])
def test_each_deformation_alone(name):
    augment = replace(NONE, **{name: {"rotate": 30.0, "scale": 0.2, "elastic": 3.0}[name]})
    assert not augment.crops
    check_tiles("simt", [source((50, 40))], augment, 40, 20, 1)


@pytest.mark.parametrize("name", ["gamma", "contrast", "brightness", "noise"])
def test_each_variation_alone(name):
    s, augment = source((50, 40)), replace(NONE, **{name: 0.5})
    ((x, _, _),) = check_tiles("simt", [s], augment, 40, 20, 1)
    ((plain, _, _),) = check_tiles("simt", [s], NONE, 40, 20, 1)
    assert np.abs(x - plain).max() > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_crops_are_exact(mode):
    sources = [source((50, 33), 3), source((9, 70), 3)]
    every = replace(NONE, symmetry="all")
    for seed in range(4):
        batches = check_tiles(mode, sources, every, 44, 24, 2, seed)
        for k, s in enumerate(sources):
            right = sample(*s, 44, 24, np.random.default_rng(100 * seed + k), every)
            assert all(np.array_equal(a[k], r) for a, r in zip(batches[0], right, strict=True))


def test_gray_values_by_the_formulas_in_float64():
    """On a range far from 0, where float32 sums of squares would lose the variance."""
    s = source((70, 50), 2)
    s = s._replace(image=s.image * np.float32([3, 1000]) + np.float32([4000, -90000]))
    augment = replace(NONE, contrast=0.5, brightness=0.5, gamma=0.5)
    warp, plain = (warp_of("simt", [s], a, 40, 20, 1) for a in (augment, NONE))
    for seed in range(6):
        d = drawn([s], 0, augment, 40, 20, seed)
        x = made(warp, [(0, d)])[0][0].astype(np.float64)
        p = made(plain, [(0, drawn([s], 0, NONE, 40, 20, seed))])[0][0].astype(np.float64)
        for c, (exponent, factor, shift, noise) in enumerate(d.gray.astype(np.float64)):
            assert noise == 0
            low, span = p[..., c].min(), np.ptp(p[..., c])
            v = low + span * ((p[..., c] - low) / span) ** exponent
            v = v.mean() + factor * (v - v.mean()) + shift * v.std()
            tolerance = 2e-6 * span + 3 * np.spacing(np.abs(p[..., c]).max(), dtype=np.float32)
            assert np.abs(x[..., c] - v).max() <= tolerance


def test_a_constant_image_stays_constant():
    s = source((30, 30))._replace(image=np.full((30, 30, 1), 0.3, np.float32))
    x = made(warp_of("simt", [s], NONE, 30, 10, 1), [(0, drawn([s], 0, Augment(), 30, 10, 0))])[0]
    assert (x == np.float32(0.3)).all()


def noise(seed, key=None):
    """The noise that two channels of a tile get, in units of their spread and strength."""
    s, augment = source((64, 64), 2), replace(NONE, noise=1.0)
    warp, d = warp_of("simt", [s], NONE, 64, 4, 1), drawn([s], 0, augment, 64, 4, seed)
    d = d._replace(gray=np.float32([[1, 1, 0, 1]] * 2), key=d.key if key is None else key)
    plain = made(warp, [(0, d._replace(gray=np.float32([[1, 1, 0, 0]] * 2)))])[0][0]
    x = made(warp, [(0, d)])[0][0].astype(np.float64)
    return np.moveaxis((x - plain) / plain.astype(np.float64).std((0, 1)), -1, 0)


def test_noise_is_another_for_each_key_channel_and_pixel():
    zs = [noise(0), noise(1), *(noise(0, np.array(k, np.uint64)) for k in ((0, 0), (1, 0), (0, 1)))]
    rows = np.reshape(zs, (10, -1))
    assert np.abs(rows.mean(1)).max() < 0.08
    assert np.abs(rows.std(1) - 1).max() < 0.06
    assert np.abs(np.corrcoef(rows) - np.eye(10)).max() < 0.08
    for shift in (1, 2, 4, 64):
        assert abs(np.corrcoef(rows[0, shift:], rows[0, :-shift])[0, 1]) < 0.08
    assert 3 < np.abs(rows).max() < 5.8
    high = np.array([2**63 + 5, 2**64 - 1], np.uint64)
    assert np.abs(noise(0, high) - noise(1, high)).max() < 1e-5, "other tiles, the same noise"


@pytest.mark.parametrize("key", [SMALLEST, (2**64 - 1, 2**63)])
def test_noise_is_that_of_the_formula(key):
    found = noise(0, np.array(key, np.uint64))
    for channel in (0, 1):
        right = exact_normals(key, channel, 64 * 64).reshape(64, 64)
        assert np.abs(found[channel] - right).max() < 3e-6


@pytest.mark.parametrize("gray", [NONE, replace(NONE, gamma=0.5), replace(NONE, noise=0.1)])
@pytest.mark.parametrize("warped", [False, True])
def test_nan_goes_where_it_goes_on_the_cpu(gray, warped):
    """Into all that its channel's statistics reach, and into no other channel."""
    s = source((20, 20), 2)
    s.image[10, 10, 1] = np.nan
    augment = replace(gray, rotate=180.0) if warped else gray
    for seed in range(3):
        x, t, _ = made(
            warp_of("simt", [s], augment, 40, 20, 1),
            [(0, drawn([s], 0, augment, 40, 20, seed))],
        )
        with np.errstate(invalid="ignore"):
            right = sample(*s, 40, 20, np.random.default_rng(seed), augment)
        assert np.isnan(right[0][..., 1]).any()
        assert np.array_equal(np.isnan(x[0]), np.isnan(right[0]))
        assert np.array_equal(t[0], right[1])


def test_the_same_bits_in_every_order_and_every_time():
    sources = [source((60, 60), 2), source((31, 90), 2)]
    ends = set()
    for mode in ("simt", "simt:reverse", "simt:shuffled", "simt"):
        warp = warp_of(mode, sources, STRONG, 44, 24, 2)
        given = [(i, drawn(sources, i, STRONG, 44, 24, i)) for i in (0, 1)]
        ends |= {b"".join(a.tobytes() for a in made(warp, given)) for _ in range(2)}
    assert len(ends) == 1


def test_a_tile_does_not_depend_on_the_others_of_its_batch():
    sources = [source((60, 60)), source((31, 90))]
    given = [(i, drawn(sources, i, Augment(), 44, 24, i)) for i in (0, 1)]
    both = made(warp_of("simt", sources, Augment(), 44, 24, 2), given)
    alone = warp_of("simt", sources, Augment(), 44, 24, 1)
    for k in (0, 1):
        one = made(alone, [given[k]])
        assert all(np.array_equal(a[0], b[k]) for a, b in zip(one, both, strict=True))


@pytest.mark.parametrize("on", ["simt", CUDA])
def test_what_changes_from_tile_to_tile_is_read_from_memory(on, monkeypatch):
    """Arguments stay, arrays are always the same ones: a captured graph can be replayed."""
    where, seen = device(on), []
    start = where._start

    def note(call):
        scalars = [float(a) if isinstance(a, np.generic) else id(a) for a in call.args]
        seen.append((call.entry, call.grid, call.block, *scalars))
        start(call)

    sources = [source((60, 60)), source((31, 90))]
    warp = warp_of(on, sources, Augment(), 44, 24, 1)
    monkeypatch.setattr(where, "_start", note)
    xs = []
    for i in (0, 1):
        xs.append(made(warp, [(i, drawn(sources, i, Augment(), 44, 24, i))])[0])
    assert [s[0] for s in seen] == 2 * ["warp_cut", "warp_gamma", "warp_gray"]
    assert seen[:3] == seen[3:]
    assert not np.array_equal(*xs)
