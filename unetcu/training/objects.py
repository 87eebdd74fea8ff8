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
from ..training.validation import Predicted, small_object, usual_rule

Probability = NDArray[np.float32]

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SEEDS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
SMOOTH = (0.0, 1.0, 2.0, 3.0)  # the second is tried with all levels and sizes
# Of the area of a small object: the least of a summit, of an object.
SHARES = (0.03, 0.1, 0.2, 0.3, 0.6, 0.8)
ENOUGH = 4_000_000  # pixels of validation images to try on
GAIN = 1e-3  # a change must gain so much: what does not matter stays as it is


def counted(pages: Sequence[tuple[Probability, Example]], rule: Rule) -> ObjectCounts:
    """Objects found by a rule, over pages of (probability of foreground, example)."""
    counts = [ObjectCounts.of(label_instances(p, rule), _true(e)) for p, e in pages]
    return sum(counts, ObjectCounts())


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
    least = [max(1, round(share * small)) for share in SHARES]
    rounds: list[list[dict[str, float]]] = [
        [{"seed": 0.0}],
        [{"seed": s, "smooth": SMOOTH[1], "seed_size": n} for s in SEEDS for n in least],
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


def _some(examples: Sequence[Example]) -> list[int]:
    """As many, spread over all, as hold ENOUGH pixels, at least one: some fifty rules are tried."""
    count = max(1, int(ENOUGH / np.mean([e.t.size for e in examples])))
    chosen = np.linspace(0, len(examples) - 1, min(count, len(examples))).round().astype(int)
    return np.unique(chosen).tolist()


def choose_rule(
    model: Path, validation: Sequence[Example], predicted: Sequence[Predicted], gap: int
) -> tuple[Rule, str, ObjectCounts]:
    """Choose the rule for a model file by what it predicts on these examples, and write it into
    the file: the rule, a line that says what it is, and how the objects of all examples are found
    by it."""
    saved = load(model)
    pages = [(p.foreground, e) for p, e in zip(predicted, validation, strict=True)]
    rule, reached, before = choose([pages[i] for i in _some(validation)], gap)
    Checkpoint(saved.weights, {**saved.meta, "objects": rule.to_dict()}).save(model, overwrite=True)
    told = ", ".join(f"{k} {v:g}" for k, v in rule.to_dict().items())
    return (
        rule,
        f"objects: {told}; mean of SEG and AP50 {reached:.4f} (before choosing {before:.4f})",
        counted(pages, rule),
    )
