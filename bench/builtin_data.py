"""Is the built-in data a fair test, and does the border weight of equation 2 earn its place?

    python bench/builtin_data.py               about 6 minutes on 2 cores
    python bench/builtin_data.py --otsu-only   a few seconds

Prints (a) how Otsu's threshold with connected parts scores on the built-in validation images, and
(b) for two trainings that differ in the border weight alone, the share of touching cells found one
to one (IoU over 0.5): on those images and, because they are few, on fresh ones of the same kind.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetcu import checkpoint, data
from unetcu.data.ranges import Range
from unetcu.infer import whole
from unetcu.scores.instances import Rule, label_instances, otsu_parts
from unetcu.scores.metrics import ObjectCounts
from unetcu.synth import make
from unetcu.train import train
from unetcu.training.prepare import BUILTIN_SIZE, builtin_data
from unetcu.training.settings import Settings
from unetcu.training.validation import inference_tile
from unetcu.unet import UNet

Pages = list[tuple[NDArray[np.uint8], NDArray[np.integer]]]
FRESH_SEED, FRESH_PAGES = 1, 12  # the built-in data are those of seed 0


def touching(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Ids of the cells with a pixel beside a pixel of another cell."""
    found = []
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        found += [a[meet], b[meet]]
    return np.unique(np.concatenate(found))


def found_one_to_one(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], ids: Iterable[int]
) -> int:
    """How many of the cells `ids` have a predicted one at IoU over 0.5 (there can be only one)."""
    count = 0
    for i in ids:
        cell = labels == i
        for j in np.unique(predicted[cell]):
            other = predicted == j
            count += int(j > 0 and 2 * (cell & other).sum() > (cell | other).sum())
    return count


def scores(model: Path, pages: Pages) -> tuple[float, int, int]:
    """IoU of the foreground as labelled, touching cells found, touching cells."""
    saved = checkpoint.load(model)
    net = UNet(**saved.meta["config"])
    net.parameters.load(saved.weights)
    grey = Range.from_dict(saved.meta["range"])
    both = either = found = cells = 0
    for image, labels in pages:
        p = whole(net, grey.apply(image), inference_tile(net.depth, max(labels.shape)))[..., 1]
        predicted = label_instances(p, Rule(grow=saved.meta["gap"]))
        both += int(((predicted > 0) & (labels > 0)).sum())
        either += int(((predicted > 0) | (labels > 0)).sum())
        ids = touching(labels)
        found += found_one_to_one(predicted, labels, ids)
        cells += len(ids)
    return both / either, found, cells


def main() -> int:
    """Print both parts; 1 where the data turn out a toy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--otsu-only", action="store_true", help="part (a) only")
    parser.add_argument("--steps", type=int, help="length of each training (default: train's)")
    args = parser.parse_args()

    settings = replace(Settings(), steps=args.steps, balance=1.0)  # as in the paper
    dataset = builtin_data(settings.range)
    _, kept = data.split(dataset, settings.val, settings.seed)
    pages: Pages = [(dataset.images[i], dataset.labels[i]) for i in kept]
    share = [len(touching(labels)) / len(np.unique(labels[labels > 0])) for _, labels in pages]
    print(f"{len(pages)} validation images, {np.mean(share):.0%} of the cells touch another")
    best = 0.0
    for bright in (True, False):
        counts = (
            ObjectCounts.of(otsu_parts(image[..., 0], bright=bright), labels)
            for image, labels in pages
        )
        ap50 = sum(counts, ObjectCounts()).ap50
        best = max(best, ap50)
        print(f"Otsu + parts, cells {'brighter' if bright else 'darker'}: AP50 {ap50:.3f}")
    print(f"a toy would score over 0.3: {'TOY' if best > 0.3 else 'no toy'}", flush=True)
    if args.otsu_only:
        return int(best > 0.3)

    grey, ids = make(FRESH_SEED, FRESH_PAGES, BUILTIN_SIZE)
    fresh: Pages = [(image[..., None], labels) for image, labels in zip(grey, ids, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        for w0 in (10.0, 0.0):
            start = time.perf_counter()
            run = train(out=Path(folder, f"w0-{w0:g}"), settings=replace(settings, w0=w0))
            seconds = time.perf_counter() - start
            for name, some in (("validation", pages), (f"{FRESH_PAGES} fresh images", fresh)):
                iou, found, cells = scores(run.folder / "best.safetensors", some)
                print(
                    f"--w0 {w0:<3g} {name:<16} touching cells found {found}/{cells} = "
                    f"{found / cells:.3f}  IoU {iou:.3f}  ({seconds:.0f} s)",
                    flush=True,
                )
    return int(best > 0.3)


if __name__ == "__main__":
    sys.exit(main())
