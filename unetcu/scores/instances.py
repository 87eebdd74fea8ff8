"""From a foreground probability to instances: one id for each object.

Training opens a gap of background between touching objects (`unetcu.weightmap.separate`), so the
network answers with objects that are apart: the 4-connected parts of its foreground. Where it
leaves bridges, a watershed from the summits of the probability cuts them (`flood`). The gap is then
given back to the objects on its sides.

    instances = label_instances(probability)
    instances = label_instances(probability, Rule(seed=0.9, smooth=1))

`otsu_parts` is what one would do without a network: a baseline to compare with.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, DataError, UsageError
from .flood import flood

Ids = npt.NDArray[np.unsignedinteger]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Rule:
    """How objects are found in a probability of foreground.

    threshold: foreground is what lies above. seed: summits are looked for from this level down; 0
    (or any level up to the threshold): none are, every 4-connected part is one object. seed_size:
    pixels of a summit, at least. smooth: sigma of the Gaussian, in pixels, before summits are
    looked for.
    min_size: parts of fewer pixels are dropped (before growing). grow: the `gap` that training
    opened with `separate`; gaps of up to 2 `grow` pixels between two objects are closed, each
    pixel going to the nearest object, while outlines that face open background stay as they are;
    0 leaves the gaps. fill_holes: background enclosed by a single object becomes part of it.

    Raises UsageError for levels outside of 0 to 1 and for sizes below 0.
    """

    threshold: float = 0.5
    seed: float = 0.0
    seed_size: int = 10
    smooth: float = 0.0
    min_size: int = 20
    grow: int = 1
    fill_holes: bool = False

    def __post_init__(self) -> None:
        for name in ("threshold", "seed"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} {getattr(self, name)}: give a probability, from 0 to 1")
        for name in ("seed_size", "smooth", "min_size", "grow"):
            if not 0 <= getattr(self, name) < 1e6:
                raise UsageError(f"{name} is {getattr(self, name)}: give 0 or more pixels")

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name, for a model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> "Rule":
        """The rule of a model file. Raises CheckpointError for what `to_dict` cannot write."""
        types = {f.name: type(f.default) for f in fields(cls)}
        if not isinstance(stored, dict) or {k: type(v) for k, v in stored.items()} != types:
            raise CheckpointError("the model's rule for objects has not the entries it needs")
        try:
            return cls(**stored)
        except UsageError as error:
            raise CheckpointError(f"the model's rule for objects: {error}") from error


def label_instances(probability_or_mask: npt.NDArray[Any], rule: Rule | None = None) -> Ids:
    """(H, W) probability of foreground, or a mask -> (H, W) instance ids 1..n, 0 = background.

    probability_or_mask: floating point: foreground where above the rule's threshold; boolean or
    integer (a class mask): foreground where above 0, without summits. rule: default `Rule()`.

    Ids follow the first pixel of each object, before it grows, in row-major order and have no
    gaps; uint16, or
    uint32 for more than 65,535 objects. Memory does not depend on the number of objects.
    Raises DataError for anything but (H, W), and for NaN.
    """
    from scipy import ndimage

    rule = rule or Rule()
    mask = _foreground(probability_or_mask, rule.threshold)
    labels: Labels
    if rule.seed > rule.threshold and probability_or_mask.dtype.kind == "f":
        labels = flood(probability_or_mask, rule.threshold, rule.seed, rule.seed_size, rule.smooth)
        _in_reading_order(labels)
    else:
        labels = ndimage.label(mask)[0]
    if rule.fill_holes:
        _fill_holes(labels)
    _drop_small(labels, rule.min_size)
    if rule.grow:
        _close_gaps(labels, rule.grow)
    ids: Ids = labels.astype(np.uint16 if labels.max(initial=0) <= 0xFFFF else np.uint32)
    return ids


def otsu_threshold(image: npt.NDArray[Any]) -> float:
    """The grey value that splits an image best in two (Otsu 1979).

    Of 256 equal bins from minimum to maximum, the upper edge of the one after which the variance
    between the two classes is largest. A constant image gives its value.
    Raises DataError for an image with no pixel, or with one that is not a finite number.
    """
    if not image.size or not np.isfinite(image).all():
        raise DataError("Otsu's threshold needs an image of finite numbers")
    image = image.astype(np.float64)
    low, high = float(image.min()), float(image.max())
    if low == high:
        return low
    counts, edges = np.histogram(image, bins=256, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = image.size - below
    sums = np.cumsum(counts * centres)
    mean_below = sums[:-1] / below
    mean_above = (sums[-1] - sums[:-1]) / above
    between = below.astype(np.float64) * above * (mean_below - mean_above) ** 2
    return float(edges[1 + int(np.argmax(between))])


def otsu_parts(image: npt.NDArray[Any], *, bright: bool = True, min_size: int = 20) -> Ids:
    """The baseline without learning: Otsu's threshold, then the 4-connected parts.

    image: (H, W). bright: the objects are brighter than their background.
    """
    threshold = otsu_threshold(image)
    mask = image >= threshold if bright else image < threshold
    return label_instances(mask, Rule(min_size=min_size, grow=0))


def _foreground(given: npt.NDArray[Any], threshold: float) -> Mask:
    if given.ndim != 2:
        raise DataError(f"instances are found page by page: got an array of shape {given.shape}, "
                        "give one page of rows x columns")  # fmt: skip
    if given.dtype.kind != "f":
        threshold = 0
    elif np.isnan(given).any():
        raise DataError("the probability holds NaN: no object can be told from background")
    above: Mask = given > threshold
    return above


def _in_reading_order(labels: Labels) -> None:
    """Number the objects by their first pixels, in place."""
    ids, first = np.unique(labels, return_index=True)
    order = ids[ids > 0][np.argsort(first[ids > 0])]
    number = np.zeros(labels.max(initial=0) + 1, np.int32)
    number[order] = np.arange(1, len(order) + 1)
    labels[:] = number[labels]


def _drop_small(labels: Labels, min_size: int) -> None:
    """Remove parts under `min_size` pixels and close the gaps in the numbering, in place."""
    kept = np.bincount(labels.ravel()) >= max(min_size, 1)
    kept[0] = False
    labels[:] = np.where(kept, np.cumsum(kept), 0)[labels]


def _fill_holes(labels: Labels) -> None:
    """Give each background part that lies within one single object to that object, in place."""
    from scipy import ndimage

    # Objects are 4-connected, so the background is 8-connected: a diagonal gap lets it out.
    around = np.pad(labels, 1)
    ground, count = ndimage.label(around == 0, structure=np.ones((3, 3)))
    lowest = np.full(count + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count + 1, np.int32)
    # The object around a hole lies above its first row, one inside it above the row below that
    # object: looking up from every background pixel sees both.
    above, below = around[:-1], ground[1:]
    edge = (below > 0) & (above > 0)
    np.minimum.at(lowest, below[edge], above[edge])
    np.maximum.at(highest, below[edge], above[edge])
    owner = np.where(lowest == highest, highest, 0)
    owner[ground[0, 0]] = 0  # the part that reaches the padding is outside
    around += owner[ground]
    labels[:] = around[1:-1, 1:-1]


def _close_gaps(labels: Labels, grow: int) -> None:
    """Grow objects into the background between them, in place.

    With d1 and d2 the distances of a background pixel to the nearest and the second nearest
    object, it lies in a gap of d1 + d2 - 1 pixels. If that is at most 2 grow (so that d1 <= grow)
    it goes to the nearest object, of several to the one with the lowest id. Distances are those
    of a chess king, as the square of `separate` measures them.
    """
    from scipy import ndimage

    ground = labels == 0
    none = np.iinfo(np.int32).max
    nearest = np.zeros_like(labels)
    d1 = np.full(labels.shape, 4 * grow, np.int32)
    d2 = d1.copy()
    for distance in range(1, 2 * grow + 1):
        side = 2 * distance + 1
        high = ndimage.maximum_filter(labels, side, mode="constant")
        low = ndimage.minimum_filter(
            np.where(ground, none, labels), side, mode="constant", cval=none
        )
        first = (nearest == 0) & (high > 0)
        nearest[first] = low[first]
        np.minimum(d1, distance, out=d1, where=high > 0)
        np.minimum(d2, distance, out=d2, where=(high > 0) & (low != high))
    grown = ground & (d1 + d2 <= 2 * grow + 1)
    labels[grown] = nearest[grown]
