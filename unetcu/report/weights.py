"""The weight map of a training image, beside the image, and equation 2 that made it."""

import numpy as np

from ..training.samples import Example
from ..training.settings import Settings
from ..weightmap import picture as drawn
from .page import Markup, el, join, section
from .panels import LARGE, picture, reduced, reduced_size

_FORMULA = Markup(
    '<p class="formula"><i>w</i>(<b>x</b>) = <i>w</i><sub><i>c</i></sub>(<b>x</b>) + '
    "<i>w</i><sub>0</sub> · exp( −(<i>d</i><sub>1</sub>(<b>x</b>) + "
    "<i>d</i><sub>2</sub>(<b>x</b>))² / 2<i>σ</i>² )</p>"
)


def weight_map(example: Example, name: str, settings: Settings) -> Markup:
    """The section about the weights of the loss, shown on one training image."""
    from PIL import Image

    told = _told(example, settings)
    if settings.weight_map == "none":
        return section("What counts in training", *told)
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
           "loss; black is 0, yellow the largest weight of this image, as the scale says."),
    )  # fmt: skip
    return section("What counts in training", *told, figure)


def _told(example: Example, s: Settings) -> list[Markup]:
    if s.weight_map == "none":
        return [el("p", "Every pixel counts 1, ignored ones 0.")]
    kinds = [k for k in range(s.classes or 2) if (example.t == k).any()]
    # The border term acts on background only, and not far from borders: the least is w_c.
    least = [f"{float(example.w[example.t == k].min()):.3g} for class {k}" for k in kinds]
    balance = join([Markup("<i>w</i><sub><i>c</i></sub>"), " balances the classes: ",
                    ", ".join(least), ". "])  # fmt: skip
    if s.weight_map == "balance":
        return [el("p", balance, "The paper's border term is left out.")]
    border = join([
        Markup("<i>d</i><sub>1</sub> and <i>d</i><sub>2</sub>"),
        " are the distances to the nearest and to the second nearest object, ",
        Markup("<i>w</i><sub>0</sub>"), f" = {s.w0:g} and ", Markup("<i>σ</i>"),
        f" = {s.sigma:g} pixels. So the thin background between two objects counts most, and the "
        "network learns to keep it open.",
    ])  # fmt: skip
    return [el("p", "Equation 2 of the paper:"), _FORMULA, el("p", balance, border)]
