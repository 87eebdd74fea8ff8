"""Quality against minutes of training: unetcu, the same in PyTorch, and a U-Net as users find it.

    python bench/compare_quality.py DATA nuclei --minutes 1 3 10

DATA and the folds are those of crossval.py; the recipe is the set's. Every contender is trained
anew for each number of minutes, on the same images, alone on the machine, with as many threads. Its
last weights (the average of the last) count, and the rule for objects, or the threshold, is chosen
for each on the images that it was trained and validated on; scored are the pages of the other half.
What the contenders are says quality_peers.py. Needs PyTorch and tifffile.
"""

import argparse
from pathlib import Path

import numpy as np
from crossval import SETS, fold_files
from quality_peers import PEERS, Predict
from turns import head, line

from unetcu import data, threads
from unetcu.progress import progress
from unetcu.scores.instances import label_instances
from unetcu.scores.isbi import THRESHOLDS, combine, score_page
from unetcu.scores.metrics import ObjectCounts
from unetcu.training.objects import choose
from unetcu.training.prepare import Prepared, prepare
from unetcu.training.recipes import recipe
from unetcu.training.settings import from_flags


def scores(prepared: Prepared, tested: data.Dataset, predict: Predict) -> dict[str, float]:
    """Of the test pages."""
    images = (prepared.dataset.range.apply(image) for image in tested.images)
    pages = [predict(x) for x in images]
    if not prepared.dataset.instances:
        found = combine(
            [score_page(p, t, THRESHOLDS) for p, t in zip(pages, tested.labels, strict=True)],
            THRESHOLDS,
        )
        return {"v_rand": found.v_rand, "v_info": found.v_info}
    known = [*prepared.validation, *prepared.training]
    rule, _, _ = choose([(predict(e.x), e) for e in known], prepared.settings.gap)
    counts = [
        ObjectCounts.of(label_instances(p, rule), t)
        for p, t in zip(pages, tested.labels, strict=True)
    ]
    total = sum(counts, ObjectCounts())
    return {"seg": total.seg, "ap50": total.ap50}


def main() -> None:
    """Print a Markdown table, row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 3, 10])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/crossval"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(threads.count())
    folder = fold_files(args.data, args.set, args.fold, args.work)
    settings = from_flags(argparse.Namespace(seed=args.seed), recipe(args.set))
    prepared = prepare(folder / "train.tif", folder / "train-labels.tif", settings)
    tested = data.load(
        folder / "test.tif", folder / "test-labels.tif", instances=prepared.dataset.instances
    )
    print(head("set", "contender", "minutes", "steps", *SETS[args.set][3][:2]), flush=True)
    todo = [(minutes, name) for minutes in args.minutes for name in args.peers]
    for minutes, name in progress(todo, "training"):
        steps, predict = PEERS[name](prepared, minutes)
        with np.errstate(all="ignore"):
            found = scores(prepared, tested, predict)
        cells = (f"{value:.4f}" for value in found.values())
        print(line(args.set, name, f"{minutes:g}", str(steps), *cells), flush=True)


if __name__ == "__main__":
    main()
