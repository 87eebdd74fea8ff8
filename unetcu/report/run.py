"""RUN/report.html: what a training has reached, how it went, and how to repeat it."""

import math
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..data.dataset import Dataset
from ..progress import progress
from ..scores.instances import Rule, label_instances
from ..scores.meaning import MEANING
from ..scores.metrics import Confusion, ObjectCounts, mean_of
from ..training.loop import Loop
from ..training.prepare import Prepared
from ..training.samples import Example
from ..training.settings import Settings
from ..training.validation import Predicted
from .again import Asked, again
from .page import Markup, beside, document, el, join, score, section, table, whole
from .panels import MOST, Shown, figures, legend
from .parts import Reliability, confusion, objects_rule
from .svg import Line, chart
from .weights import weight_map


class _Image:
    """What one validation image scores. objects: None where labels are classes."""

    def __init__(self, name: str, e: Example, p: Predicted, classes: int, rule: Rule) -> None:
        self.name, self.example, self.predicted = name, e, p
        self.confusion = Confusion.of(p.classes, e.t, classes)
        self.found = self.objects = None
        if e.instances is not None:
            self.found = label_instances(p.foreground, rule)
            self.objects = ObjectCounts.of(self.found, e.instances)
        self.iou = mean_of(self.confusion.iou[1:])
        self.dice = mean_of(self.confusion.dice[1:])

    def rank(self) -> tuple[float, ...]:
        """Worst first; what is not defined comes last."""
        of_objects = [self.objects.ap50, self.objects.seg] if self.objects else []
        keys = [*of_objects, self.iou, -self.confusion.pixel_error]
        return tuple(math.inf if math.isnan(k) else k for k in keys)

    def row(self) -> list[Any]:
        """Its line of the table."""
        o = self.objects
        counted = [o.ap50, o.seg, o.matched_share, o.true, o.predicted] if o else []
        return [self.name, *counted, self.iou, self.dice, self.confusion.pixel_error]

    def shown(self) -> Shown:
        """Its pictures."""
        e, p = self.example, self.predicted
        truth, found = (e.t, p.classes) if self.found is None else (e.instances, self.found)
        assert truth is not None
        told = f"IoU {score(self.iou)}, pixel error {score(self.confusion.pixel_error)}"
        if self.objects:
            o = self.objects
            told = f"AP50 {score(o.ap50)}, {o.matched} of {o.true} objects matched, {told}"
        caption = join([el("b", self.name), el("span", told)])
        return Shown(e.x, truth, found, e.t, p.classes, caption)


def write(
    loop: Loop,
    prepared: Prepared,
    predicted: Sequence[Predicted],
    rule: Rule | None,
    chosen: bool,
    asked: Asked,
) -> None:
    """Write the page of a run that has made at least one epoch, over the one before it.

    predicted: of every validation image, by the best model. rule: how objects are found, and
    whether it was chosen on these images; None where labels are classes.
    """
    classes = prepared.dataset.classes
    pairs = list(zip(prepared.names[1], prepared.validation, predicted, strict=True))
    images = [_Image(n, e, p, classes, rule or Rule()) for n, e, p in progress(pairs, "scoring")]
    images.sort(key=_Image.rank)
    name = loop.run.path.resolve().name
    parts = [el("header", el("h1", name), el("p", _summary(loop, prepared)), _warnings(loop))]
    if images:
        parts += [_scores(loop, images), _course(loop), *_judged(images, prepared)]
    else:
        none = "There are no validation images: the scores below would be those of images that the "
        none += "network was trained on, so none are given, and the newest model counts as best."
        parts += [section("Scores", el("p", none)), _course(loop)]
    if rule and images:
        parts.append(objects_rule(rule, chosen, loop.unfinished))
    parts.append(weight_map(prepared.training, prepared.names[0][0], loop.settings))
    parts += again(loop, prepared, asked)
    parts.append(el("footer", el("p", f"Made by unetcu {__version__}; nothing was fetched or sent, "
                    "and the same run in a folder of this name gives this page again, byte for "
                    "byte.")))  # fmt: skip
    loop.run.write(loop.run.report, document(f"{name}: unetcu train", *parts).decode())


def _summary(loop: Loop, prepared: Prepared) -> Markup:
    t, s = loop.trainer, loop.settings
    judged = len(prepared.validation)
    parts = [
        f"A U-Net of depth {t.net.depth} and base {t.net.base}, ",
        whole(t.net.parameters.size), " parameters, trained for ", whole(t.done), " steps on ",
        f"{_images(len(prepared.training))}",
        f" and judged on {_images(judged)} that it was not trained on." if judged else ".",
    ]  # fmt: skip
    if loop.unfinished:
        parts.append(f" It was interrupted: {t.total} steps were planned.")
    elif t.done < t.total:
        parts.append(f" It stopped early: no new best in {s.patience} epochs.")
    return join(parts)


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


def _warnings(loop: Loop) -> Markup:
    """What the run warned of, out of its log, each warning once."""
    lines = loop.run.log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = dict.fromkeys(line for line in lines if line.startswith("warning: "))
    items = (el("li", line.removeprefix("warning: ")) for line in told)
    return (
        el("div", el("h2", "Warnings"), el("ul", *items), class_="warnings") if told else join([])
    )


def _best(loop: Loop) -> dict[str, Any]:
    return next(row for row in reversed(loop.rows) if row["best"])


def _scores(loop: Loop, images: Sequence[_Image]) -> Markup:
    total = sum((i.confusion for i in images[1:]), images[0].confusion)
    best = _best(loop)
    loss = best["val_loss"]
    rows: list[tuple[Any, ...]] = [
        ("IoU", mean_of(total.iou[1:]), "intersection over union of the foreground"
         + (", mean over its classes" if len(total.iou) > 2 else "")),
        ("Dice", mean_of(total.dice[1:]), "2 x intersection / (truth + prediction), likewise"),
        ("pixel error", total.pixel_error, "share of wrong pixels"),
    ]  # fmt: skip
    if images[0].objects:
        o = sum((i.objects for i in images if i.objects), ObjectCounts())
        values = {"seg": o.seg, "ap50": o.ap50, "matched": o.matched_share}
        rows = [(MEANING[k][0], v, MEANING[k][1]) for k, v in values.items()] + rows
    rows.append(("loss", loss if loss != "" else None, "weighted cross entropy, as in training"))
    told = f"Of the best model, that of epoch {best['epoch']} of {len(loop.rows)}, on all "
    told += "validation images together."
    if images[0].objects:
        told += " Objects are found by the rule further down."
    return section("Scores", table(["score", "value", "what it says"], rows, class_="headline"),
                   el("p", told, class_="legend"))  # fmt: skip


def _course(loop: Loop) -> Markup:
    best = float(_best(loop)["epoch"])

    def line(name: str, key: str, colour: str, dashed: bool = False) -> Line:
        cells = [(float(r["epoch"]), r[key]) for r in loop.rows if r[key] != ""]
        return Line(name, colour, [(e, float(v)) for e, v in cells if math.isfinite(v)], dashed)

    whole_images = "; validation, over whole images" if loop.validation else ""
    before = "; objects by the rule as it was before choosing"
    objects = before if loop.settings.instances else ""
    drawn = [
        chart(
            "Loss: training, over random tiles" + whole_images,
            [line("training", "loss", "blue"), line("validation", "val_loss", "vermilion", True)],
            x_name="epoch", y_name="weighted cross entropy", log=True, best=best,
        ),
        chart(
            "Scores on the validation images" + objects,
            [line("IoU", "iou", "blue"), line("objects matched", "matched", "green", True)],
            x_name="epoch", y_name="IoU, share of objects", high=1, best=best,
        ),
        chart(
            "Share of wrong pixels on the validation images",
            [line("pixel error", "pixel_error", "vermilion")],
            x_name="epoch", y_name="pixel error", low=0, best=best,
        ),
        chart(
            "Learning rate at the end of each epoch",
            [line("rate", "lr", "grey")],
            x_name="epoch", y_name="learning rate", low=0, best=best,
        ),
    ]  # fmt: skip
    told = f"The dotted line marks the best epoch, {best:g}. Point at a dot to read its value."
    return section("Course of the training", el("div", *drawn, class_="charts"),
                   el("p", told, class_="legend"))  # fmt: skip


def _judged(images: Sequence[_Image], prepared: Prepared) -> list[Markup]:
    """The parts about each validation image, and about all their pixels."""
    classes = prepared.dataset.classes
    with_objects = images[0].objects is not None
    counted = ["AP50", "SEG", "matched", "true objects", "found"] if with_objects else []
    head = ["image", *counted, "IoU", "Dice", "pixel error"]
    first = "AP50" if with_objects else "IoU"
    told = (
        f"One line an image, the worst first, by {first}. A click on a column's head sorts by it."
    )
    listed = table(head, [i.row() for i in images], sortable=True)
    chosen = images[:MOST]
    some = "" if len(chosen) == len(images) else f" Shown are the {MOST} worst of {len(images)}."
    pictures = [
        el("p", "The same order. In the large picture the slider wipes between the prediction and "
           f"the image; all panels show the same pixels.{some}"),
        legend(classes, with_objects),
        figures((i.shown() for i in progress(chosen, "drawing")), len(chosen), with_objects),
    ]  # fmt: skip
    measured = Reliability()
    for i in images:
        measured.add(i.predicted.foreground, i.example.t)
    total = sum((i.confusion for i in images[1:]), images[0].confusion)
    return [
        section("Validation images", el("p", told), listed),
        section("What it sees", *pictures),
        section("Pixels", _towards(prepared.settings),
                beside(confusion(total, _names(prepared.dataset)), measured.drawing())),
    ]  # fmt: skip


def _towards(s: Settings) -> Markup:
    """What pixels are compared with, where that is not the labels as they are given."""
    if not s.instances or not s.gap:
        return join([])
    pixels = "1 pixel" if s.gap == 1 else f"{s.gap} pixels"
    told = (
        "Pixels are compared, here and in all scores of pixels, with what the network is trained "
        f"towards: where objects touch, {pixels} of background on each side. Scores of objects are "
        "those of the labels as given."
    )
    return el("p", told)


def _names(dataset: Dataset) -> list[str]:
    """Of the classes, with the values that stand for them in the files."""
    if dataset.instances:
        return ["background", "object"]
    values = dataset.values
    plain = list(values) == list(range(len(values)))
    stored = ["" if plain or k >= len(values) else f" (stored {values[k]})"
              for k in range(dataset.classes)]  # fmt: skip
    return [f"class {k}{stored[k]}" for k in range(dataset.classes)]
