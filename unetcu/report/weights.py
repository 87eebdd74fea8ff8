"""The weight map of a training image, beside the image, and equation 2 that made it."""

from collections.abc import Sequence

import numpy as np

from ..training.samples import Example
from ..training.settings import Settings
from ..weightmap import class_weights
from ..weightmap import picture as drawn
from .page import Markup, el, join, section
from .panels import LARGE, picture, reduced, reduced_size

_FORMULA = Markup(
    '<p class="formula"><i>w</i>(<b>x</b>) = <i>w</i><sub><i>c</i></sub>(<b>x</b>) + '
    "<i>w</i><sub>0</sub> · exp( −(<i>d</i><sub>1</sub>(<b>x</b>) + "
    "<i>d</i><sub>2</sub>(<b>x</b>))² / 2<i>σ</i>² )</p>"
)


def weight_map(training: Sequence[Example], name: str, settings: Settings) -> Markup:
    """The section about the weights of the loss, shown on the first image; name: that one's."""
    from PIL import Image

    told = _told(training, settings)
    if not settings.balance and not settings.w0:
        return section("What counts in training", *told)
    example = training[0]
    size = reduced_size(example.t.shape, LARGE)
    weights = Image.fromarray(example.w).resize(size[::-1], Image.Resampling.BOX)
    pictures = [
        picture(reduced(example.x, size), "a training image"),
        picture(drawn(np.asarray(weights)), "its weight map with a scale"),
    ]
    figure = el(
        "figure",
        el("div", *pictures, class_="pair"),
        el("figcaption", "Left ", el("b", name), ", right the weight of each of its pixels in the "
           "loss, as the scale says; a pixel of the picture is the mean of those it stands for."),
    )  # fmt: skip
    return section("What counts in training", *told, figure)


def _told(training: Sequence[Example], s: Settings) -> list[Markup]:
    if not s.balance and not s.w0:
        return [el("p", "Every pixel counts 1, ignored ones 0.")]
    of_class = class_weights((e.t for e in training), s.classes or 2, s.balance)
    listed = ", ".join(f"{w:.3g} for class {k}" for k, w in enumerate(of_class))
    balance = join([Markup("<i>w</i><sub><i>c</i></sub>"), f" balances the classes: {listed}. "])
    if not s.w0:
        return [el("p", balance, "The paper's border term is left out.")]
    border = join([
        Markup("<i>d</i><sub>1</sub> and <i>d</i><sub>2</sub>"),
        " are the distances to the nearest and to the second nearest object, ",
        Markup("<i>w</i><sub>0</sub>"), f" = {s.w0:g} and ", Markup("<i>σ</i>"),
        f" = {s.sigma:g} pixels. So the thin background between two objects counts most, and the "
        "network learns to keep it open.",
    ])  # fmt: skip
    return [el("p", "Equation 2 of the paper:"), _FORMULA, el("p", balance, border)]
