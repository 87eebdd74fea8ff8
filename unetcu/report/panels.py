"""Pictures of one image on a page: the image, and over it what is true, found and wrong.

The pixels of an image stand once in the page; every panel shows them (SVG's `use`) under a layer of
few colours, so that four panels and the wipe cost little more than one picture.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..colours import Picture, drawn, hatched, mistakes
from ..pictures import visible
from .page import Markup, el, join

Array = NDArray[Any]

MOST = 24  # images that are shown
FEW, LARGE, SMALL = 8, 384, 256  # up to so many images, their longer side in pixels; and of more
_FILL = 96  # opacity of a label's inside, of 255; its outline is opaque
_TINY = 200  # pixels; below, enlarged pixels stay squares


class Shown(NamedTuple):
    """What is drawn of one image. image: (H, W) or (H, W, C), or None. truth, found: (H, W) ids of
    objects or classes, 0 = background, -1 = ignored. true_classes, found_classes: (H, W), for the
    errors. caption: what stands above."""

    image: Array | None
    truth: Array
    found: Array
    true_classes: Array
    found_classes: Array
    caption: object


def figures(all_shown: Iterable[Shown], count: int, objects: bool) -> Markup:
    """One figure each, in this order; count: how many they are; objects: labels are ids of these,
    not classes."""
    side = LARGE if count <= FEW else SMALL
    return join(_figure(f"image-{i}", shown, side, objects) for i, shown in enumerate(all_shown, 1))


def legend(classes: int, objects: bool) -> Markup:
    """How to read the figures."""
    kinds = [("false-positive", "false positive"), ("false-negative", "false negative")]
    kinds += [("wrong-class", "wrong class")] if classes > 2 else []
    errors = join((el("span", swatch(kind), name, class_="key") for kind, name in kinds), ", ")
    if objects:
        what: object = "Every object has an outline of its own; neighbours differ in colour."
    elif classes > 2:
        names = [el("span", class_swatch(k), f"class {k}", class_="key") for k in range(1, classes)]
        what = join(["Outlines and tints are the classes: ", join(names, ", "), "."])
    else:
        what = join(["Outline and tint are ", el("span", class_swatch(1), "class 1", class_="key"),
                     ", the foreground."])  # fmt: skip
    return el("p", what, " Errors: ", errors, ". Hatched pixels are ignored.", class_="legend")


def swatch(kind: str) -> Markup:
    """A small square in a colour of report.css."""
    return el("i", class_=f"swatch {kind}")


def class_swatch(k: int) -> Markup:
    """The colour of a class in the panels; background has none."""
    return swatch(f"c{(k - 1) % 7}" if k else "none")


def picture(pixels: Picture, label: str) -> Markup:
    """A picture in the page: uint8 (H, W, 3) or, with opacity, (H, W, 4)."""
    high, wide = pixels.shape[:2]
    return el("img", src=data_uri(pixels), width=wide, height=high, alt=label)


def _figure(name: str, shown: Shown, side: int, objects: bool) -> Markup:
    size = reduced_size(shown.truth.shape, side)
    high, wide = size
    truth, found, true_classes, found_classes = (
        _picked(a, size) for a in (shown.truth, shown.found, shown.true_classes,
                                   shown.found_classes)
    )  # fmt: skip
    layers = {
        "truth": _layer(truth, objects),
        "prediction": _layer(found, objects),
        "errors": _error_layer(true_classes, found_classes),
    }
    box = {"viewBox": f"0 0 {wide} {high}", "role": "img"}
    whole = {"width": wide, "height": high}
    if shown.image is None:
        base = el("rect", **whole, class_="ground")
        first = []
    else:
        pixels = data_uri(reduced(shown.image, size))
        tiny = "tiny" if max(shown.truth.shape) < _TINY else None
        kept = el("image", id=name, href=pixels, **whole, preserveAspectRatio="none", class_=tiny)
        base = el("use", href=f"#{name}")
        first = [_panel(el("svg", kept, **box, aria_label="image"), "image")]
    panels = []
    for kind, layer in layers.items():
        drawing = el("image", id=f"{name}-{kind}", href=data_uri(layer), **whole, class_="layer")
        under = el("g", base, class_="pale") if kind == "errors" else base
        caption: object = kind
        if kind == "errors":
            caption = join(["errors: ", _told(shown)])
        panels.append(_panel(el("svg", under, drawing, **box, aria_label=kind), caption))
    parts = [*first, *panels]
    if shown.image is not None:
        over = el("svg", base, el("use", href=f"#{name}-prediction"), width=wide / 2, height=high)
        edge = el("line", x1=wide / 2, x2=wide / 2, y1=0, y2=high, class_="edge")
        both = el("svg", base, over, edge, **box, aria_label="prediction over the image")
        knob = el(
            "input",
            type="range",
            min=0,
            max=100,
            value=50,
            step=1,
            aria_label="wipe: how much of the width shows the prediction, in per cent",
        )
        wipe = el("div", both, el("label", knob), _wipe_caption(), class_="wipe", hidden=True)
        parts = [wipe, *parts]
    kind = "panels" if shown.image is not None else "panels bare"
    return el("figure", el("figcaption", shown.caption), el("div", *parts, class_=kind))


def _wipe_caption() -> Markup:
    return el("small", "left of the line the prediction, right of it the image")


def _panel(drawing: Markup, caption: object) -> Markup:
    return el("div", drawing, el("small", caption), class_="panel")


def _told(shown: Shown) -> str:
    """The share of each kind of error, of all pixels that are not ignored."""
    known = max(1, int((shown.true_classes >= 0).sum()))
    found = mistakes(shown.true_classes, shown.found_classes)
    shares = [(name, int(where.sum()) / known) for name, _, where in found]
    return ", ".join(f"{s:.2%} {name}" for name, s in shares if s or name != "wrong class")


def reduced_size(shape: Sequence[int], side: int) -> tuple[int, int]:
    """(height, width) with the longer side at most `side`; small images stay as they are."""
    scale = min(1.0, side / max(shape[:2]))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def reduced(image: Array, size: tuple[int, int]) -> Picture:
    """An image as it is looked at, uint8 RGB of this (height, width), means over what it loses."""
    from PIL import Image

    step = max(1, min(image.shape[0] // (4 * size[0]), image.shape[1] // (4 * size[1])))
    picture = Image.fromarray(visible(image[::step, ::step]))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BOX))


def _picked(labels: Array, size: tuple[int, int]) -> NDArray[np.int64]:
    """Labels of this (height, width): of each pixel the one in its middle."""
    rows, columns = (
        ((np.arange(n) + 0.5) * old / n).astype(int)
        for n, old in zip(size, labels.shape, strict=True)
    )
    picked = labels[rows[:, None], columns].astype(np.int64)
    if picked.max(initial=0) > 0xFFFF:  # ids of objects: colours need no larger numbers
        kinds, index = np.unique(np.maximum(picked, 0), return_inverse=True)
        first = 0 if kinds[0] == 0 else 1
        picked = np.where(picked > 0, index.reshape(picked.shape) + first, picked)
    return picked


def _layer(labels: Array, objects: bool) -> Picture:
    """Labels as tints with outlines, to be laid over an image: (h, w, 4)."""
    colours, fill, edge = drawn(labels, apart=objects)
    opacity = np.where(edge, 255, np.where(fill, _FILL, 0)).astype(np.uint8)
    return _with_ignored(colours, opacity, labels < 0)


def _error_layer(truth: Array, prediction: Array) -> Picture:
    colours = np.zeros((*truth.shape, 3), np.uint8)
    opacity = np.zeros(truth.shape, np.uint8)
    for _, colour, where in mistakes(truth, prediction):
        colours[where], opacity[where] = colour, 255
    return _with_ignored(colours, opacity, truth < 0)


def _with_ignored(colours: Picture, opacity: Picture, ignored: NDArray[np.bool_]) -> Picture:
    colours = np.where(opacity[..., None] > 0, colours, 0).astype(np.uint8)
    return np.dstack([hatched(colours, ignored), np.where(ignored, 255, opacity).astype(np.uint8)])


def data_uri(pixels: Picture) -> str:
    """A PNG as a data: URI, as small as its colours allow: a palette, grays, or RGB."""
    from PIL import Image

    opaque = pixels.shape[2] == 3
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]) if opaque else pixels
    keys = np.ascontiguousarray(rgba).view(np.uint32)[..., 0]
    kinds, index = np.unique(keys, return_inverse=True)
    options: dict[str, Any] = {}
    if opaque and (np.ptp(pixels, axis=2) == 0).all():
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    elif len(kinds) <= 256:
        image = Image.fromarray(index.reshape(keys.shape).astype(np.uint8))
        palette = kinds.view(np.uint8).reshape(-1, 4)
        image.putpalette(palette[:, :3].tobytes())
        if not opaque:
            options["transparency"] = palette[:, 3].tobytes()
    else:
        image = Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
