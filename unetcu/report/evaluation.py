"""The page of `unetcu evaluate --html`: all scores, and pictures of each page, the worst first."""

import math
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..progress import progress
from ..scores.meaning import MEANING
from ..scores.metrics import Confusion
from ..scores.pages import maps
from ..scores.predictions import Compared, Plane
from .page import Markup, beside, document, el, join, score, section, table
from .panels import MOST, Shown, figures, legend
from .parts import Reliability, confusion


def page(
    name: str,
    what: str,
    result: dict[str, Any],
    compared: Compared,
    counted: Confusion,
    images: Sequence[Plane] | None,
) -> bytes:
    """The page as a file's bytes.

    name: its title. what: what was compared with what. result: what `evaluate` returns. counted:
    all pages together. images: of each page of `compared`, or None.
    """
    pages = result["pages"]
    first = "ap50" if compared.instances else "iou"
    keys = [first, "seg" if compared.instances else "dice"]

    def rank(i: int) -> tuple[float, ...]:
        values = [pages[i][k] for k in keys]
        error = pages[i]["pixel_error"]
        return (*(math.inf if v is None else v for v in values),
                math.inf if error is None else -error)  # fmt: skip

    order = sorted(range(len(pages)), key=rank)
    columns = [k for k in MEANING if k in pages[0]]
    columns = [first, *(k for k in columns if k != first)]
    listed = table(
        ["page", *(MEANING[k][0] for k in columns)],
        [[pages[i]["name"], *(pages[i][k] for k in columns)] for i in order],
        sortable=True,
    )
    told = f"One line a page, the worst first, by {MEANING[first][0]}. A click on a column's head "
    told += "sorts by it."
    notes = join(el("p", note, class_="legend") for note in result["notes"])
    return document(
        f"{name}: unetcu evaluate",
        el("header", el("h1", name), el("p", f"{what}; {_pages(len(pages))}."), notes),
        section("Scores", _scores(result)),
        section("Pages", el("p", told), listed),
        section("What was predicted", *_pictures(order, result, compared, images)),
        section("Pixels", beside(confusion(counted, _names(compared)), _reliability(compared))),
        el("footer", el("p", f"Made by unetcu {__version__}; nothing was fetched or sent.")),
    )


def _pages(count: int) -> str:
    return f"{count} page{'s' if count != 1 else ''}"


def _scores(result: dict[str, Any]) -> Markup:
    scores, best = result["scores"], result["best_threshold"]
    rows = []
    for key in (k for k in MEANING if k in scores):
        label, meaning = MEANING[key]
        if key in best and scores[key] is not None:
            meaning += f"; at threshold {best[key]:g}"
        rows.append((label, scores[key], meaning))
    return table(["score", "value", "what it says"], rows, class_="headline")


def _names(compared: Compared) -> list[str]:
    if compared.instances:
        return ["background", "object"]
    return [f"class {k}" for k in range(compared.classes)]


def _reliability(compared: Compared) -> Markup:
    measured = Reliability()
    if compared.kind == "probability":
        for prediction, truth in progress(compared.pages, "probabilities"):
            measured.add(prediction, truth)
    return measured.drawing()


def _pictures(
    order: Sequence[int],
    result: dict[str, Any],
    compared: Compared,
    images: Sequence[Plane] | None,
) -> list[Markup]:
    def shown(i: int) -> Shown:
        threshold = 0.5 if result["threshold"] is None else result["threshold"]
        m = maps(compared.pages[i], compared, threshold)
        image = None if images is None else images[i][0][images[i][1]]
        of_page = result["pages"][i]
        first = "ap50" if compared.instances else "iou"
        told = ", ".join(f"{MEANING[k][0]} {score(of_page[k])}" for k in (first, "pixel_error"))
        caption = join([el("b", of_page["name"]), el("span", told)])
        return Shown(image, m.truth, m.found, m.true_classes, m.found_classes, caption)

    chosen = order[:MOST]
    some = "" if len(chosen) == len(order) else f" Shown are the {MOST} worst of {len(order)}."
    told = "The same order."
    if images is None:
        told += " With --images, evaluate shows the images as well."
    else:
        told += " In the large picture the slider wipes between the prediction and the image; all "
        told += "panels show the same pixels."
    return [
        el("p", told + some),
        legend(compared.classes, compared.instances),
        figures((shown(i) for i in progress(chosen, "drawing")), len(chosen), compared.instances),
    ]
