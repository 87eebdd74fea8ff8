"""How good a network is on whole images it was not trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import load
from ..device import Device
from ..errors import TrainingError
from ..infer import whole
from ..progress import progress
from ..scores.instances import Rule, label_instances
from ..scores.metrics import Confusion, ObjectCounts, mean_of
from ..tiles import border, valid_sizes
from ..training.samples import Example
from ..training.settings import Settings
from ..unet import UNet

LARGEST = 480  # output pixels of a tile, or the few more that fit the network


@dataclass
class Scores:
    """loss: the training loss on whole images. iou: mean over the foreground classes. pixel_error:
    share of wrong pixels. matched: share of objects found one to one, NaN where labels are classes.
    constant: every pixel got the same class, though not all are of one. first: probabilities of the
    first image."""

    loss: float
    iou: float
    pixel_error: float
    matched: float
    constant: bool
    first: NDArray[np.float32]


def validate(net: UNet, examples: Sequence[Example], settings: Settings) -> Scores:
    """Predict every example tile by tile and score it. Raises TrainingError where the network
    has become useless: its output is not finite."""
    loss = weight = 0.0
    confusion = Confusion(np.zeros((net.classes, net.classes), np.int64))
    objects, first, seen, true = ObjectCounts(), None, set(), set()
    rule = usual_rule(examples, settings.gap)
    for e in examples:
        with np.errstate(over="ignore", invalid="ignore"):  # said in words below
            p = whole(net, e.x, inference_tile(net.depth, max(e.t.shape)))
        if not np.isfinite(p).all():
            raise TrainingError(
                "the output on a validation image is not finite: training has diverged; try a "
                f"smaller --lr than {settings.lr:g}"
            )
        first = p if first is None else first
        known = e.t >= 0
        chosen = np.take_along_axis(p, np.maximum(e.t, 0)[..., None], 2)[..., 0]
        w = np.where(known, e.w, 0).astype(np.float64)
        loss -= float((w * np.log(np.maximum(chosen, 1e-30))).sum())
        weight += float(w.sum())
        predicted = p.argmax(axis=2).astype(np.int32)
        seen.update(np.unique(predicted).tolist())
        true.update(np.unique(e.t[known]).tolist())
        confusion += Confusion.of(predicted, e.t, net.classes)
        if e.instances is not None:
            found = label_instances(1 - p[..., 0], rule)
            objects += ObjectCounts.of(found, e.instances)
    assert first is not None
    return Scores(
        loss / weight if weight else math.nan,
        mean_of(confusion.iou[1:]),
        confusion.pixel_error,
        objects.matched_share if objects.true else math.nan,
        len(seen) == 1 < len(true),
        first,
    )


def usual_rule(examples: Sequence[Example], gap: int) -> Rule:
    """How objects are found until a rule has been chosen (objects.choose): it suits their sizes."""
    small = small_object(examples)
    return Rule(seed=0.9, smooth=1.0, seed_size=round(0.3 * small), min_size=round(0.1 * small),
                grow=gap)  # fmt: skip


def small_object(examples: Sequence[Example]) -> float:
    """The area in pixels that nine of ten objects exceed; 0 where there are none."""
    sizes = [np.bincount(np.maximum(e.instances, 0).ravel())[1:] for e in examples
             if e.instances is not None]  # fmt: skip
    areas = np.concatenate([np.zeros(0, np.intp), *sizes])
    return float(np.percentile(areas[areas > 0], 10)) if areas.any() else 0.0


class Predicted(NamedTuple):
    """What a network says of one image: foreground (H, W) float32, 1 - p(background); classes
    (H, W) uint8, the most probable class of each pixel."""

    foreground: NDArray[np.float32]
    classes: NDArray[np.uint8]


def predictions(model: Path, examples: Sequence[Example], where: Device) -> list[Predicted]:
    """What the network of a model file says of every example, in the tiles of `validate`."""
    net = load(model).network(where)
    found = []
    for e in progress(examples, "predicting validation images"):
        p = whole(net, e.x, inference_tile(net.depth, max(e.t.shape)))
        found.append(Predicted(1 - p[..., 0], p.argmax(axis=2).astype(np.uint8)))
    return found


def inference_tile(depth: int, side: int) -> int:
    """Output pixels of a tile for an image whose longer side is `side`: larger tiles waste less."""
    lost = 2 * border(depth)
    return valid_sizes(depth, min(side, LARGEST) + lost, 10**9)[0] - lost
