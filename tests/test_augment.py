"""Augmentation against images that carry their own positions: ramps, and labels y · W + x.

A cubic spline reproduces a ramp, so the two channels of `ramps` tell from which row and column
each pixel of a tile was read, and every claim about the warp is a claim about these numbers.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline, RectBivariateSpline

from unetcu.augment import SYMMETRIES, Augment, _interpolate, sample
from unetcu.errors import ShapeError, UsageError

NONE = Augment.none()


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


def test_without_augmentation_a_tile_is_an_exact_crop():
    height, width = 50, 33
    rng = np.random.default_rng(3)
    image = rng.standard_normal((height, width, 3)).astype(np.float32)
    padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), mode="reflect")
    for seed in range(40):
        x, t, w = draw(seed, NONE, (height, width), 44, 24, image=image)
        assert (x.dtype, t.dtype, w.dtype) == (np.float32, np.int32, np.float32)
        assert (x.shape, t.shape, w.shape) == ((44, 44, 3), (24, 24), (24, 24))
        assert x.flags.c_contiguous
        assert t.flags.c_contiguous
        assert w.flags.c_contiguous
        y0, x0 = divmod(int(t[0, 0]), width)
        assert np.array_equal(t, addresses(height, width)[y0 : y0 + 24, x0 : x0 + 24])
        assert np.array_equal(w, t.astype(np.float32) / 7)
        assert np.array_equal(x, padded[y0 + 30 : y0 + 74, x0 + 30 : x0 + 74])


def eight(block):
    """The eight views of a square, by name, made by NumPy."""
    return {
        "same": block,
        "flip rows": np.flipud(block),
        "flip columns": np.fliplr(block),
        "half turn": np.rot90(block, 2),
        "transpose": np.swapaxes(block, 0, 1),
        "antitranspose": np.rot90(np.swapaxes(block, 0, 1), 2),
        "quarter turn": np.rot90(block, 1),
        "three quarter turn": np.rot90(block, 3),
    }


@pytest.mark.parametrize(
    ("symmetry", "allowed"),
    [
        ("all", set(eight(np.zeros((1, 1))))),
        ("none", {"same"}),
        ("left-right", {"same", "flip columns"}),
        ("up-down", {"same", "flip rows"}),
        ("transpose", {"same", "transpose"}),
        ("antitranspose", {"same", "antitranspose"}),
    ],
)
@pytest.mark.parametrize(("tile_in", "tile_out"), [(40, 20), (41, 21)])
def test_flips_and_quarter_turns_are_numpys(symmetry, allowed, tile_in, tile_out):
    height, width = 64, 80
    image = np.random.default_rng(4).random((height, width, 2), dtype=np.float32)
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="reflect")
    seen = set()
    for seed in range(120):
        augment = replace(NONE, symmetry=symmetry)
        x, t, w = draw(seed, augment, (height, width), tile_in, tile_out, image=image)
        y0, x0 = divmod(int(t.min()), width)
        labels = eight(addresses(height, width)[y0 : y0 + tile_out, x0 : x0 + tile_out])
        images = eight(padded[y0 + 10 : y0 + 10 + tile_in, x0 + 10 : x0 + 10 + tile_in])
        (name,) = [name for name, block in labels.items() if np.array_equal(t, block)]
        assert np.array_equal(x, images[name])
        assert np.array_equal(w, t.astype(np.float32) / 7)
        seen.add(name)
    assert seen == allowed
    assert set(SYMMETRIES) == {"all", "none", "left-right", "up-down", "transpose", "antitranspose"}


STRONG = Augment(contrast=0, brightness=0, gamma=0, noise=0)


@pytest.mark.parametrize(
    "augment",
    [
        STRONG,
        replace(NONE, elastic=10.0),
        replace(NONE, rotate=180.0),
        replace(NONE, scale=0.3),
        replace(STRONG, symmetry="transpose"),
    ],
)
def test_label_and_weight_are_those_of_the_pixel_the_image_was_read_from(augment):
    checked = 0
    for seed in range(12):
        x, t, w = draw(seed, augment, (300, 320), 140, 100)
        rows, columns = np.moveaxis(x[20:-20, 20:-20].astype(np.float64), -1, 0)
        label_rows, label_columns = np.divmod(t, 320)
        assert np.mean(np.abs(rows - np.rint(rows)) > 0.01) > 0.5, "interpolated, not copied"
        # Nearest means at most half a pixel away; near the edges a mirrored ramp has a kink.
        away = (label_rows > 9) & (label_rows < 290) & (label_columns > 9) & (label_columns < 310)
        assert np.abs(label_rows - rows)[away].max() < 0.5005
        assert np.abs(label_columns - columns)[away].max() < 0.5005
        assert np.array_equal(w, (t / np.float32(7)).astype(np.float32))
        checked += away.mean() > 0.5
    assert checked > 6


def test_an_image_that_shows_its_labels_still_shows_them():
    rows, columns = np.mgrid[:256, :256]
    label = ((rows - 128) ** 2 + (columns - 100) ** 2 < 70**2).astype(np.int64)
    label[:, 200:] = 2
    for seed in range(8):
        image = label[..., None].astype(np.float32)
        x, t, _ = draw(seed, STRONG, (256, 256), 140, 100, label, image)
        shown = np.rint(x[20:-20, 20:-20, 0])
        jump = np.zeros(t.shape, bool)  # pixels within two of a change of label
        for axis in (0, 1):
            for step in (-2, -1, 1, 2):
                jump |= np.roll(t, step, axis) != t
        jump[:2] = jump[-2:] = jump[:, :2] = jump[:, -2:] = True
        assert np.array_equal(shown[~jump], t[~jump])


def test_labels_are_never_invented():
    label = np.random.default_rng(5).choice([-1, 0, 7, 300], (90, 90))
    found = set()
    for seed in range(10):
        _, t, w = draw(seed, STRONG, (90, 90), 60, 40, label)
        found |= set(np.unique(t).tolist())
        assert set(np.unique(w)) <= set(addresses(90, 90).astype(np.float32).ravel() / 7)
    assert found == {-1, 0, 7, 300}


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
    planes = _interpolate(image, source)
    for channel in (0, 1):
        rows, columns = (np.arange(-pad, n + pad) for n in shape)
        spline = RectBivariateSpline(rows, columns, padded[..., channel], s=0)
        assert np.abs(planes[channel] - spline.ev(*source)).max() < 2e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 3), (11, 15)])
def test_an_image_smaller_than_the_tile(shape):
    image = np.random.default_rng(7).random((*shape, 1), dtype=np.float32)
    for seed in range(5):
        x, t, _ = draw(seed, Augment(), shape, 60, 20, image=image)
        assert np.isfinite(x).all()
        assert ((t >= 0) & (t < shape[0] * shape[1])).all()
        x, t, _ = draw(seed, NONE, shape, 60, 20, image=image)
        assert set(range(shape[0] * shape[1])) <= set(t.ravel().tolist()), "the image fits the tile"
        assert np.array_equal(x[20:-20, 20:-20, 0], image[..., 0].ravel()[t])


@pytest.mark.parametrize("augment", [NONE, Augment()])
def test_tiles_cover_the_whole_image(augment):
    seen = np.zeros((60, 60), int)
    for seed in range(300):
        _, t, _ = draw(seed, augment, (60, 60), 26, 20)
        np.add.at(seen.ravel(), t.ravel(), 1)
    blocks = seen.reshape(10, 6, 10, 6).mean((1, 3))
    blocks /= blocks.mean()
    assert seen.min() > 0
    assert blocks[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 0.25, "corners"
    assert blocks.max() < 2.5


def test_tiles_are_taken_where_there_are_labels():
    label = np.full((200, 200), -1)
    label[150:190, 10:50] = 1  # 4 %
    for seed in range(60):
        assert (draw(seed, NONE, (200, 200), 40, 20, label)[1] == 1).any()
    label[:] = -1
    label[[5, 180], [7, 190]] = 1
    found = [draw(seed, NONE, (200, 200), 40, 20, label)[2].min() > 3e3 for seed in range(60)]
    assert 15 < sum(found) < 45, "both of two labelled pixels are found"
    assert (draw(0, NONE, (50, 50), 40, 20, np.full((50, 50), -1))[1] == -1).all()


def test_a_tile_is_a_function_of_its_generator():
    image = np.random.default_rng(8).random((64, 80, 1), dtype=np.float32)
    label, weight = addresses(64, 80), np.ones((64, 80), np.float32)
    for array in (image, label, weight):
        array.setflags(write=False)
    tiles = [
        [a.tobytes() for a in sample(image, label, weight, 40, 20, rng, Augment())]
        for rng in map(np.random.default_rng, (1, 1, 2))
    ]
    assert tiles[0] == tiles[1]
    assert tiles[0][0] != tiles[2][0]
    assert tiles[0][1] != tiles[2][1]


def test_switching_one_variation_off_leaves_the_others():
    """What is drawn does not depend on the strengths."""
    plain = draw(9, replace(STRONG, elastic=0.0))
    assert np.array_equal(draw(9, replace(STRONG, elastic=0.0, gamma=0.5, noise=0.1))[1], plain[1])
    assert not np.array_equal(draw(9, STRONG)[1], plain[1])


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


def test_defaults():
    assert Augment().rotate == 180
    assert Augment().elastic == 10
    assert Augment(symmetry="transpose").rotate == 10
    assert Augment(symmetry="none", rotate=3).rotate == 3


def test_senseless_strengths_are_refused():
    with pytest.raises(UsageError, match="symmetry 'both' is not known: give one of all, none"):
        Augment(symmetry="both")
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="elastic"):
            Augment(elastic=value)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"\(64, 80, 2\), \(64, 81\)"):
        draw(0, NONE, label=np.zeros((64, 81), int))
    for tile_out in (19, 42, 0, -2):
        with pytest.raises(ShapeError, match=f"output of {tile_out} pixels.*tile of 40"):
            draw(0, NONE, tile_out=tile_out)
