"""Which images are kept for validation: whole images, never parts of one."""

import re
from collections.abc import Sequence

import numpy as np

from ..data.dataset import Dataset
from ..errors import UsageError
from ..rng import stream

SHARE = 0.2  # of the images, with "auto"


def split(dataset: Dataset, val: str, seed: int) -> tuple[list[int], list[int]]:
    """The indices of the training and of the validation images, both in order.

    val: "auto" (the same as "0.2"); a fraction of the images: the last pages where all are from one
    file, since neighbouring pages are alike, else whole files drawn with `seed`; "pages 18-23" or
    "pages 0,5,7-9": positions counted from 0; "none".
    Raises UsageError if `val` is none of these or leaves nothing to train on or to validate.
    """
    count = len(dataset)
    chosen = _chosen(dataset, val.strip(), seed)
    if len(chosen) == count:
        one = " is one image and" if count == 1 else ""
        raise UsageError(f"--val {val}: the data{one} would leave nothing to train on; give more "
                         "images, or --val none")  # fmt: skip
    return [i for i in range(count) if i not in chosen], sorted(chosen)


def _chosen(dataset: Dataset, val: str, seed: int) -> set[int]:
    if val == "none":
        return set()
    if val.startswith("pages"):
        return _pages(val, len(dataset))
    try:
        share = SHARE if val == "auto" else float(val)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"--val {val} is not known: give auto, none, a fraction like 0.2, or "
                         "pages 18-23")  # fmt: skip
    number = max(dataset.files) + 1
    if number == 1:
        last = max(1, round(share * len(dataset)))
        return set(range(len(dataset) - last, len(dataset)))
    drawn = stream(seed, 0, "split").permutation(number)[: max(1, round(share * number))]
    return {i for i, file in enumerate(dataset.files) if file in set(drawn.tolist())}


def _pages(val: str, count: int) -> set[int]:
    """The positions that "pages 0,5,7-9" names."""
    chosen: set[int] = set()
    for part in re.split(r"[,\s]+", val.removeprefix("pages").strip()):
        ends = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        if ends is None:
            raise UsageError(f"--val {val}: write pages 18-23, or pages 0,5,7-9")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if not first <= last < count:
            raise UsageError(f"--val {val}: pages are counted from 0 to {count - 1} here, and a "
                             "run goes from its lower to its higher page")  # fmt: skip
        chosen.update(range(first, last + 1))
    return chosen


def describe_split(dataset: Dataset, training: Sequence[int], validation: Sequence[int]) -> str:
    """The line that says which images are trained on and which are kept for validation."""
    if not validation:
        return f"validation: none, every image ({len(training)}) is trained on"
    first, last = validation[0], validation[-1]
    run = last - first + 1 == len(validation)
    if run and len(validation) > 3:
        which = f"{dataset.names[first]} to {dataset.names[last]}"
    else:
        which = ", ".join(dataset.names[i] for i in validation[:8])
        which += f" and {len(validation) - 8} more" if len(validation) > 8 else ""
    return f"validation: {len(validation)} of {len(dataset)} images ({which})"


def split_warnings(
    dataset: Dataset, training: Sequence[int], validation: Sequence[int]
) -> list[str]:
    """One line each: images on both sides of the split; classes that training never sees; no
    foreground in validation."""
    warnings = []
    digests = dataset.digests()
    trained = {digests[i]: i for i in training}
    twins = [(i, trained[digests[i]]) for i in validation if digests[i] in trained]
    if twins:
        a, b = (dataset.names[i] for i in twins[0])
        more = f", and {len(twins) - 1} more such pairs" if len(twins) > 1 else ""
        warnings.append(f"{a} (validation) and {b} (training) are the same image{more}: the "
                        "validation score will be too good")  # fmt: skip
    present = {v for i in training for v in _classes(dataset, i)}
    absent = [c for c in range(dataset.classes) if c not in present]
    if absent:
        which = ", ".join(map(str, absent))
        kind = "class" if len(absent) == 1 else "classes"
        warnings.append(f"no training image holds a pixel of {kind} {which}: it cannot be learnt")
    if validation and not any((dataset.labels[i] > 0).any() for i in validation):
        warnings.append("the validation images hold no foreground, so their scores say little: "
                        "choose others with --val")  # fmt: skip
    return warnings


def _classes(dataset: Dataset, i: int) -> list[int]:
    labels = dataset.labels[i][dataset.labels[i] >= 0]
    if dataset.instances:
        labels = np.minimum(labels, 1)
    return np.flatnonzero(np.bincount(labels)).tolist()
