"""Choosing how objects are found, on labelled images: levels, smoothing, smallest size.

The network answers with a probability; what is an object in it is a rule (scores.instances.Rule)
with a few numbers, which are chosen here by trying, each in turn. Two or three validation images
tell too little: a rule that suits them by chance cost nuclei 0.01 of SEG on others. So training
images are tried as well, though the network knows them better (docs/recipes.md has the figures).
The rule is stored in the model file, and `predict --instances` takes it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..checkpoint import Checkpoint, load
from ..device import Device
from ..progress import progress
from ..scores.instances import Rule, label_instances
from ..scores.metrics import ObjectCounts
from ..training.samples import Example
from ..training.validation import Predicted, predictions, small_object, usual_rule

Probability = NDArray[np.float32]

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SEEDS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
SMOOTH = (0.0, 1.0, 2.0)  # the second is tried with all levels and sizes
# Of the area of a small object: what a summit, what an object has at least.
SUMMITS, OBJECTS = (0.1, 0.3, 0.6, 0.8), (0.03, 0.1, 0.2, 0.3, 0.6)
ENOUGH = 4_000_000  # pixels of images to try on
GAIN = 1e-3  # a change must gain so much: what does not matter stays as it is


def counted(pages: Sequence[tuple[Probability, Example]], rule: Rule) -> ObjectCounts:
    """Objects found by a rule, over pages of (probability of foreground, example)."""

    def count(page: tuple[Probability, Example]) -> ObjectCounts:
        return ObjectCounts.of(label_instances(page[0], rule), _true(page[1]))

    with ThreadPoolExecutor(threads.count()) as pool:
        return sum(pool.map(count, pages), ObjectCounts())


def score(pages: Sequence[tuple[Probability, Example]], rule: Rule) -> float:
    """The mean of SEG and AP50, what a rule is chosen by."""
    total = counted(pages, rule)
    return float(np.nan_to_num((total.seg + total.ap50) / 2))


def choose(pages: Sequence[tuple[Probability, Example]], gap: int) -> tuple[Rule, float, float]:
    """(the best rule found, its score, that of the usual one) on these pages.

    pages: (probability of foreground (H, W), example with instances), at least one. gap: what
    training opened between objects, which is what they grow back by.
    """
    best = usual_rule([e for _, e in pages], gap)
    reached = start = score(pages, best)
    small = small_object([e for _, e in pages])
    summits, least = ([max(1, round(share * small)) for share in s] for s in (SUMMITS, OBJECTS))
    rounds: list[list[dict[str, float]]] = [
        [{"seed": 0.0}],
        [{"seed": s, "smooth": SMOOTH[1], "seed_size": n} for s in SEEDS for n in summits],
        [{"smooth": g} for g in SMOOTH],
        [{"threshold": t} for t in THRESHOLDS],
        [{"min_size": n} for n in least],
        [{"fill_holes": True}],
    ]
    for changes in progress(rounds, "choosing how objects are found"):
        for change in changes:
            rule = replace(best, **change)  # type: ignore[arg-type]
            if rule.seed and rule.seed <= rule.threshold:
                continue
            if (found := score(pages, rule)) > reached + GAIN:
                best, reached = rule, found
    return best, reached, start


def _true(e: Example) -> NDArray[np.int32]:
    assert e.instances is not None
    return e.instances


def _some(examples: Sequence[Example], pixels: float) -> list[int]:
    """As many, spread over all, as hold so many pixels: some forty rules are tried."""
    count = int(pixels / np.mean([e.t.size for e in examples]))
    chosen = np.linspace(0, len(examples) - 1, min(count, len(examples))).round().astype(int)
    return np.unique(chosen).tolist()


def choose_rule(
    model: Path,
    training: Sequence[Example],
    validation: Sequence[Example],
    predicted: Sequence[Predicted],
    gap: int,
    where: Device,
) -> tuple[Rule, str, ObjectCounts]:
    """Choose the rule for a model file, and write it into the file.

    predicted: of every validation image. Half of ENOUGH are pixels of these at the most, the rest
    of training images, which are predicted here, on this device. Returns the rule, a line that
    says what it is, and how the objects of all validation images are found by it.
    """
    saved = load(model)
    pages = [(p.foreground, e) for p, e in zip(predicted, validation, strict=True)]
    tried = [pages[i] for i in _some(validation, ENOUGH / 2) or [0]]
    left = ENOUGH - sum(e.t.size for _, e in tried)
    others = [training[i] for i in _some(training, max(left, 0))]
    seen = predictions(model, others, where)
    tried += [(p.foreground, e) for p, e in zip(seen, others, strict=True)]
    rule, reached, before = choose(tried, gap)
    Checkpoint(saved.weights, {**saved.meta, "objects": rule.to_dict()}).save(model, overwrite=True)
    told = ", ".join(f"{k} {v:g}" for k, v in rule.to_dict().items())
    return (
        rule,
        f"objects: {told}; mean of SEG and AP50 {reached:.4f} (before choosing {before:.4f}) on "
        f"{len(tried) - len(others)} validation and {len(others)} training images",
        counted(pages, rule),
    )
