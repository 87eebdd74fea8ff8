"""Pictures: what is drawn where, in which colour. How they look was judged by eye."""

import subprocess
import sys

import numpy as np
import pytest

from unetcu.colours import PALETTE, SKY, VERMILION, YELLOW
from unetcu.errors import ShapeError
from unetcu.pictures import overlay, sample_panel


def holds(picture, colour):
    """Share of the pixels that have exactly this colour."""
    return np.mean((picture == np.array(colour, np.uint8)).all(axis=-1))


def scene(height=300, width=300):
    """An image, its truth with an ignored corner, and a prediction with known errors."""
    rows, columns = np.mgrid[:height, :width]
    truth = ((rows - 150) ** 2 + (columns - 150) ** 2 < 60**2).astype(int)
    truth[:50, :50] = -1
    prediction = np.maximum(truth, 0)
    prediction[:100, 200:] = 1  # 100 × 100 false positives
    prediction[140:160, 140:160] = 0  # 20 × 20 false negatives
    prediction[:30, :30] = 1  # ignored: no error
    image = (1000 + 50 * columns + rows).astype(np.float32)[..., None]
    return image, truth, prediction * 0.5, prediction


def cells(picture, count, size=(300, 300)):
    """The pictures of a panel, cut out of it: they stand on the bottom line with gaps of 8."""
    height, width = size
    top = picture.shape[0] - 8 - height
    left = [8 + i * (max(width, 190) + 8) for i in range(count)]
    assert picture.shape[1] == left[-1] + max(width, 190) + 8
    return [picture[top : top + height, x : x + width] for x in left]


def test_a_panel_shows_image_truth_probability_and_errors():
    picture = sample_panel(*scene())
    assert picture.dtype == np.uint8
    image, truth, probability, errors = cells(picture, 4)
    assert image[150, 0].max() < 5
    assert image[150, 299].min() > 250
    assert (np.diff(image[150, :, 0].astype(int)) >= 0).all()
    assert truth[150, 150].tolist() == [255, 255, 255]
    assert truth[290, 290].tolist() == [0, 0, 0]
    assert np.unique(truth[:50, :50]).tolist() == [90, 150], "ignored pixels are hatched"
    assert probability[50, 250].tolist() == [128, 128, 128]
    assert probability[290, 290].tolist() == [0, 0, 0]
    assert holds(errors, VERMILION) * 90000 == 10000
    assert holds(errors, SKY) * 90000 == 400
    assert tuple(errors[50, 250]) == VERMILION
    assert tuple(errors[150, 150]) == SKY
    assert np.unique(errors[:50, :50]).tolist() == [90, 150]
    right = errors[200, 290]
    assert right.min() == right.max(), "what is right stays gray"
    captions = picture[:-308]
    assert holds(captions, VERMILION) > 0, "a legend"
    assert holds(captions, SKY) > 0
    assert holds(captions, YELLOW) == 0
    assert (captions[:, :300] < 100).any(), "a title"


def test_what_is_predicted_where_truth_is_ignored_does_not_count():
    image, truth, probability, prediction = scene()
    other = np.where(truth < 0, 1 - prediction, prediction)
    assert np.array_equal(
        sample_panel(image, truth, probability, prediction),
        sample_panel(image, truth, probability, other),
    )


def test_classes_have_colours_and_can_be_confused():
    image, truth, probability, prediction = scene()
    truth[250:, :] = 2
    prediction[250:, :] = 2
    prediction[280:, :] = 1
    picture = sample_panel(image, truth, probability, prediction)
    _, shown, _, errors = cells(picture, 4)
    assert tuple(shown[150, 150]) == tuple(PALETTE[0])
    assert tuple(shown[260, 10]) == tuple(PALETTE[1])
    assert holds(errors, YELLOW) * 90000 == 20 * 300
    assert holds(picture[:-308], YELLOW) > 0


def test_a_panel_without_truth_shows_the_prediction():
    image, _, probability, prediction = scene()
    _, _, shown = cells(sample_panel(image, None, probability, prediction), 3)
    assert np.array_equal(shown, overlay(image, prediction))


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((60, 90), (180, 270)),
        ((1, 1), (256, 256)),
        ((2000, 1000), (640, 320)),
        ((3, 2000), (1, 640)),
        ((256, 200), (256, 200)),
        ((600, 100), (600, 100)),
    ],
)
def test_small_images_are_enlarged_and_large_ones_reduced(shape, shown):
    truth = np.ones(shape, int)
    picture = sample_panel(np.zeros((*shape, 1)), truth, truth * 1.0, truth)
    parts = cells(picture, 4, shown)
    assert (parts[1] == 255).all()
    assert (parts[2] == 255).all()


def test_enlarged_pixels_stay_squares():
    truth = np.indices((64, 100)).sum(0) % 2
    picture = sample_panel(truth * 1.0, truth, truth * 1.0, truth)
    assert np.array_equal(
        cells(picture, 4, (192, 300))[1][..., 0], np.kron(truth, np.full((3, 3), 255))
    )


@pytest.mark.parametrize("values", ["constant", "nan", "huge", "uint16", "bool"])
def test_any_gray_values_can_be_shown(values):
    image, truth, probability, prediction = scene()
    image = {
        "constant": np.full_like(image, 7),
        "nan": np.where(truth[..., None] < 0, np.nan, image),
        "huge": image * 1e30,
        "uint16": image.astype(np.uint16),
        "bool": image > 5000,
    }[values]
    if values == "nan":
        probability[0, 0], probability[0, 1] = np.nan, np.inf
    shown, *_ = cells(sample_panel(image, truth, probability, prediction), 4)
    assert (len(np.unique(shown[100:])) == 1) == (values == "constant")


def test_colour_images_keep_their_colours():
    image = np.zeros((300, 300, 3))
    image[:, :150, 0] = 0.5
    image[:, 150:, 2] = 0.5
    shown, *_ = cells(sample_panel(image, *scene()[1:]), 4)
    assert shown[10, 10].tolist() == [255, 0, 0]
    assert shown[10, 290].tolist() == [0, 0, 255]
    two = np.dstack([image[..., 0], image[..., 0]])
    assert (np.ptp(overlay(two, np.zeros((300, 300), int)), axis=2) == 0).all()


def test_shapes_that_differ_are_refused():
    image, truth, probability, prediction = scene()
    for bad in (
        (image[1:], truth, probability, prediction),
        (image, truth[:, 1:], probability, prediction),
        (image, truth, probability[1:], prediction),
        (image, None, probability, prediction[1:]),
        (image[None], truth, probability, prediction),
    ):
        with pytest.raises(ShapeError, match="one height and width"):
            sample_panel(*bad)
    with pytest.raises(ShapeError, match="do not lie"):
        overlay(image, truth[1:])


def test_inputs_are_left_as_they_are():
    arrays = scene()
    for array in arrays:
        array.setflags(write=False)
    sample_panel(*arrays)
    overlay(arrays[0], arrays[1])


def test_overlay_fills_and_outlines():
    labels = np.zeros((40, 50), int)
    labels[10:20, 10:30] = 1
    labels[30:, 40:] = -1
    image = np.zeros((40, 50))
    image[:, ::2] = 1
    picture = overlay(image, labels)
    assert picture.shape == (40, 50, 3)
    assert tuple(picture[10, 15]) == tuple(picture[19, 29]) == tuple(PALETTE[0])
    assert holds(picture, PALETTE[0]) * 2000 == 2 * 20 + 2 * 8, "an outline of one pixel"
    assert picture[15, 15].tolist() == [3 * int(c) // 8 for c in PALETTE[0]]
    assert picture[15, 16].tolist() == [(5 * 255 + 3 * int(c)) // 8 for c in PALETTE[0]]
    for row in (5, 9):
        assert picture[row, 15].tolist() == [0, 0, 0]
        assert picture[row, 16].tolist() == [255, 255, 255]
    assert set(np.unique(picture[30:, 40:])) == {90, 150}


def test_classes_keep_the_colours_of_their_numbers():
    labels = np.repeat(np.arange(8), 4)[None].repeat(10, 0)
    picture = overlay(np.zeros((10, 32)), labels)
    for label in range(1, 8):
        assert tuple(picture[0, 4 * label]) == tuple(PALETTE[label - 1])


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_neighbouring_instances_differ_in_colour(gap):
    """Cells of a Voronoi diagram with shuffled numbers, their colours read off the outlines."""
    rng = np.random.default_rng(0)
    points = rng.random((120, 2)) * 240
    rows, columns = np.mgrid[:240, :240]
    distance = np.hypot(rows[..., None] - points[:, 0], columns[..., None] - points[:, 1])
    labels = rng.permutation(1000)[:120][distance.argmin(-1)] + 1
    border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in range(1, gap + 1):
            border |= labels != np.roll(labels, step, axis)
    labels[border] = 0
    picture = overlay(np.zeros(labels.shape), labels)
    outline = (picture[..., None, :] == PALETTE).all(-1)
    colour = {int(k): outline[labels == k].any(0).argmax() for k in np.unique(labels) if k}
    assert all(outline[labels == k].any(0).sum() == 1 for k in colour), "one colour each"
    met = 0
    for axis in (0, 1):
        for step in (1, gap + 1):
            first = labels.take(range(240 - step), axis)
            second = labels.take(range(step, 240), axis)
            for a, b in set(zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)):
                if a and b and a != b:
                    met += 1
                    assert colour[a] != colour[b]
    assert met > 200
    assert len(set(colour.values())) > 4


def test_an_empty_overlay_is_the_image():
    image = np.arange(100.0).reshape(10, 10)
    picture = overlay(image, np.zeros((10, 10), np.uint16))
    assert (np.ptp(picture, axis=2) == 0).all()
    assert picture[0, 0, 0] == 0
    assert picture[9, 9, 0] == 255
    assert overlay(np.zeros((1, 1)), np.ones((1, 1), int)).shape == (1, 1, 3)


def test_panels_do_not_load_matplotlib():
    code = (
        "import sys, numpy as np, unetcu.pictures as p; assert 'PIL' not in sys.modules;"
        "z = np.zeros((9, 9)); p.sample_panel(z, None, z, z.astype(int));"
        "assert 'PIL' in sys.modules; sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
