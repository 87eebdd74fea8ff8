"""Augmented tiles: exact crops and symmetries, labels that stay aligned, where tiles are taken."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tiles import NONE, STRONG, addresses, draw

from unetcu.augment import SYMMETRIES, Augment, sample
from unetcu.errors import ShapeError, UsageError


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
