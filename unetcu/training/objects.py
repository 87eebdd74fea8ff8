"""Choosing how objects are found, on the validation images: levels, smoothing, smallest size.

The network answers with a probability; what is an object in it is a rule (scores.instances.Rule)
with a few numbers, which are chosen here by trying, each in turn, on images not trained on.
The rule is stored in the model file, and `predict --instances` takes it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint, load
from ..progress import progress
from ..scores.instances import Rule, label_instances
from ..scores.metrics import ObjectCounts
from ..training.samples import Example
from ..training.validation import Predicted

Probability = NDArray[np.float32]

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SEEDS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
SMOOTH = (0.0, 1.0, 2.0, 4.0)
SHARES = (0.02, 0.1)  # of the area of a small object: the least of a summit, and of an object
GAIN = 1e-3  # a change must gain so much: what does not matter stays as it is


def score(pages: Sequence[tuple[Probability, Example]], rule: Rule) -> float:
    """The mean of SEG and AP50 over pages of (probability of foreground, example)."""
    counts = [ObjectCounts.of(label_instances(p, rule), _true(e)) for p, e in pages]
    total = sum(counts, ObjectCounts())
    return float(np.nan_to_num((total.seg + total.ap50) / 2))


def choose(pages: Sequence[tuple[Probability, Example]], gap: int) -> tuple[Rule, float, float]:
    """(the best rule found, its score, that of the plain rule) on these pages.

    pages: (probability of foreground (H, W), example with instances), at least one. gap: what
    training opened between objects, which is what they grow back by.
    """
    plain = Rule(grow=gap)
    best, start = plain, score(pages, plain)
    reached = start
    small = float(np.percentile(np.concatenate([_sizes(e) for _, e in pages]), 10))
    least = [max(1, round(share * small)) for share in SHARES]
    rounds: list[list[dict[str, float]]] = [
        [{"threshold": t} for t in THRESHOLDS],
        [{"seed": s, "smooth": g, "seed_size": n} for s in SEEDS for g in SMOOTH for n in least],
        [{"threshold": t} for t in THRESHOLDS],
        [{"min_size": n} for n in (*least, round(0.3 * small))],
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


def _sizes(e: Example) -> NDArray[np.intp]:
    """Pixels of each object."""
    sizes = np.bincount(np.maximum(_true(e), 0).ravel())[1:]
    return sizes[sizes > 0]


def choose_rule(
    model: Path, validation: Sequence[Example], predicted: Sequence[Predicted], gap: int
) -> tuple[Rule, str]:
    """Choose the rule for a model file by what it predicts on these examples, and write it into
    the file: the rule, and a line that says what it is."""
    saved = load(model)
    pages = [(p.foreground, e) for p, e in zip(predicted, validation, strict=True)]
    rule, reached, plain = choose(pages, gap)
    Checkpoint(saved.weights, {**saved.meta, "objects": rule.to_dict()}).save(model, overwrite=True)
    usual, chosen = Rule(grow=gap).to_dict(), rule.to_dict()
    changed = ", ".join(f"{k} {v:g}" for k, v in chosen.items() if v != usual[k]) or "as usual"
    told = f"objects: {changed}; mean of SEG and AP50 {reached:.4f} (connected parts {plain:.4f})"
    return rule, told
