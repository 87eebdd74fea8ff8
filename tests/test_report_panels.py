"""Pictures on a page: what lies over the image, in which colour, how large, in how many bytes."""

import numpy as np
import pytest
from pagecheck import Page
from pagecheck import pixels as decoded

from unetcu.colours import PALETTE, SKY, VERMILION, YELLOW
from unetcu.pictures import overlay, visible
from unetcu.report.panels import (
    FEW,
    LARGE,
    MOST,
    SMALL,
    Shown,
    class_swatch,
    data_uri,
    figures,
    legend,
    reduced,
    reduced_size,
)


def scene(side=300, image=True):
    """Three classes with known errors and an ignored corner."""
    rows, columns = np.mgrid[:side, :side]
    truth = ((rows - 150) ** 2 + (columns - 150) ** 2 < 60**2).astype(np.int32)
    truth[250:] = 2
    truth[:50, :50] = -1
    found = np.maximum(truth, 0)
    found[:100, 200:] = 1
    found[140:160, 140:160] = 0
    found[280:] = 1
    found[:30, :30] = 1  # ignored: no error
    gray = (1000 + 50 * columns + rows).astype(np.float32)
    return Shown(gray if image else None, truth, found, truth, found, "A caption")


def drawn(*all_shown, objects=True):
    page = Page(str(figures(all_shown, len(all_shown), objects)).encode())
    return page, {a["id"]: decoded(a["href"]) for a in page.of("image")}


def test_the_image_stands_once_and_the_layers_are_right():
    page, pictures = drawn(scene())
    assert list(pictures) == [f"image-1{k}" for k in ("", "-truth", "-prediction", "-errors")]
    s = scene()
    assert np.array_equal(pictures["image-1"][..., :3], visible(s.image))
    assert {a["href"] for a in page.of("use")} == {"#image-1", "#image-1-prediction"}
    for name, labels in (("truth", s.truth), ("prediction", s.found)):
        layer = pictures[f"image-1-{name}"].astype(float)
        over = visible(s.image) * (1 - layer[..., 3:] / 255) + layer[..., :3] * layer[..., 3:] / 255
        assert np.abs(over - overlay(s.image, labels)).max() < 2, "as pictures.overlay draws it"
    errors = pictures["image-1-errors"]
    for colour, count in ((VERMILION, 100 * 100), (SKY, 400), (YELLOW, 20 * 300)):
        assert (errors == (*colour, 255)).all(-1).sum() == count
    assert (errors[:50, :50, 3] == 255).all()
    assert set(np.unique(errors[:50, :50, :3])) == {90, 150}
    assert (errors[200, 50:100] == 0).all()
    known = 300 * 300 - 2500
    told = f"errors: {10000 / known:.2%} false positive, {400 / known:.2%} false negative, "
    assert f"{told}{6000 / known:.2%} wrong class" in page.text
    assert "A caption" in page.text


def test_the_wipe_needs_a_script_and_hides_without_one():
    page, _ = drawn(scene())
    (wipe,) = [a for a in page.of("div") if a.get("class") == "wipe"]
    assert "hidden" in wipe
    (knob,) = page.of("input")
    assert (knob["type"], knob["min"], knob["max"]) == ("range", "0", "100")
    assert "wipe" in knob["aria-label"]
    assert all(a.get("aria-label") for a in page.of("svg") if "role" in a)


def test_without_the_image_there_are_three_panels():
    page, pictures = drawn(scene(image=False))
    assert list(pictures) == [f"image-1-{k}" for k in ("truth", "prediction", "errors")]
    assert page.of("input") == []
    assert len(page.of("rect")) == 3
    assert [t for t in ("image", "truth", "prediction") if f"<small>{t}<" in page.source] == [
        "truth", "prediction"]  # fmt: skip


def test_objects_have_outlines_and_neighbours_differ():
    ids = np.zeros((60, 60), np.int64)
    ids[10:30, 10:30], ids[10:30, 30:50] = 8, 2**40 + 7  # 8 and 8 + 7 would be of one colour
    _, pictures = drawn(Shown(ids * 0.0, ids, ids, ids > 0, ids > 0, ""))
    layer = pictures["image-1-truth"]
    colours = {tuple(c) for c in layer[layer[..., 3] == 255][:, :3].tolist()}
    assert len(colours) == 2
    assert colours <= {tuple(c) for c in PALETTE.tolist()}
    assert (layer[15, 29], layer[15, 30])[0][3] == 255, "the border between them is drawn"
    assert layer[20, 20, 3] == 96
    assert layer[0, 0, 3] == 0


def test_a_class_has_the_colour_of_the_legend_whatever_is_beside_it():
    classes = np.ones((60, 60), np.int64)
    classes[:, 30:] = 8  # the palette's first colour again
    _, pictures = drawn(Shown(classes * 0.0, classes, classes, classes, classes, ""), objects=False)
    layer = pictures["image-1-truth"]
    assert {tuple(c) for c in layer[layer[..., 3] > 0][:, :3].tolist()} == {
        tuple(PALETTE[0].tolist())
    }
    assert class_swatch(8) == class_swatch(1)


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [((300, 300), 384, (300, 300)), ((768, 500), 384, (384, 250)), ((2, 5000), 256, (1, 256)),
     ((385, 10), 384, (384, 10))],
)  # fmt: skip
def test_large_images_are_reduced(shape, side, size):
    assert reduced_size(shape, side) == size
    assert reduced(np.zeros((*shape, 3)), size).shape == (*size, 3)


def test_a_reduced_image_is_a_mean_and_labels_are_those_in_the_middle():
    side = 2 * LARGE
    rows, columns = np.mgrid[:side, :side]
    image = ((rows + columns) % 2).astype(float)
    labels = (columns >= side // 2).astype(np.int32)
    _, pictures = drawn(Shown(image, labels, labels, labels, labels, ""))
    assert pictures["image-1"].shape == (LARGE, LARGE, 4)
    assert set(np.unique(pictures["image-1"][..., :3])) <= {127, 128}
    inside = pictures["image-1-truth"][..., 3] > 0
    assert np.array_equal(inside, np.mgrid[:LARGE, :LARGE][1] >= LARGE // 2)


def test_thin_lines_in_the_middle_of_what_is_reduced_are_kept():
    lines = (np.mgrid[: 3 * LARGE, : 3 * LARGE][1] % 3 == 1).astype(np.int32)
    _, pictures = drawn(Shown(lines * 0.0, lines, 1 - lines, lines, 1 - lines, ""))
    assert (pictures["image-1-truth"][..., 3] > 0).all()
    assert (pictures["image-1-prediction"][..., 3] == 0).all()


@pytest.mark.parametrize(("channels", "most"), [(1, 4e6), (3, 8e6)])
def test_the_most_images_take_a_few_megabytes_even_of_noise(channels, most):
    rng = np.random.default_rng(0)
    noise = rng.random((SMALL + 40, SMALL + 40, channels))
    labels = rng.integers(0, 4, noise.shape[:2])
    labels = np.kron(labels[::8, ::8], np.ones((8, 8), int))[: SMALL + 40, : SMALL + 40]
    shown = Shown(noise, labels, labels.T, labels > 0, labels.T > 0, "")
    made = figures([shown] * MOST, MOST, objects=False)
    assert len(made) < most
    sizes = {a["width"] for a in Page(made.encode()).of("image")}
    assert sizes == {str(SMALL)}
    few = figures([shown], FEW, objects=False)
    assert {a["width"] for a in Page(few.encode()).of("image")} == {str(SMALL + 40)}


@pytest.mark.parametrize("kind", ["gray", "few", "rgb", "layer", "one"])
def test_png_keeps_every_pixel(kind):
    rng = np.random.default_rng(1)
    pixels = {
        "gray": np.repeat(rng.integers(0, 256, (20, 30, 1)), 3, 2),
        "few": rng.choice([0, 77, 255], (20, 30, 3)),
        "rgb": rng.integers(0, 256, (20, 30, 3)),
        "layer": rng.choice([0, 96, 255], (20, 30, 4)),
        "one": np.array([[[1, 2, 3]]]),
    }[kind].astype(np.uint8)
    back = decoded(data_uri(pixels))
    assert np.array_equal(back[..., : pixels.shape[2]], pixels)
    if kind != "layer":
        assert (back[..., 3] == 255).all()


def test_the_legend_names_what_there_is():
    assert "Every object has an outline" in legend(2, True)
    assert "wrong class" not in legend(2, False)
    many = legend(4, False)
    assert all(text in many for text in ("class 1", "class 3", "wrong class", "ignored"))
    assert "class 4" not in many
