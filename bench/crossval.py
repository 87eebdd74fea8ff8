"""Cross-validated scores of a recipe: train, predict and score, fold by fold, seed by seed.

    python bench/crossval.py DATA membranes --minutes 15
    python bench/crossval.py DATA phase nuclei --steps 6000 --folds 0 --name gap2 -- --gap 2
    python bench/crossval.py --table                                     what was found so far

DATA is a folder with isbi2012/, phase/ and nuclei/, each a stack of images and one of labels. The
pages are cut in two halves, in alternating runs of pages as neighbours are alike; a fold is trained
on one half, which keeps some pages for its own validation, and scored on the other. What follows
-- goes to `unetcu train`, and --name names it. Every run is one line of --results, so that the
script can be stopped at any time; started again, it leaves out what is there, and goes on with the
run that it was in.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from turns import head, line

# images, labels, pages in a run, scores
SETS = {
    "membranes": (
        "isbi2012/train-volume.tif",
        "isbi2012/train-labels.tif",
        4,
        ("v_rand", "v_info"),
    ),
    "phase": ("phase/images.tif", "phase/instances.tif", 3, ("seg", "ap50", "matched")),
    "nuclei": ("nuclei/images.tif", "nuclei/instances.tif", 1, ("seg", "ap50", "matched")),
}
FOLDS = 2


def unetcu(*words: object) -> str:
    """Run a command; what it prints on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "unetcu", *map(str, words)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def fold_files(data: Path, name: str, fold: int, work: Path) -> Path:
    """The folder with train.tif, train-labels.tif, test.tif and test-labels.tif of a fold."""
    images, labels, run, _ = SETS[name]
    folder = work / f"{name}-{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    for source, ending in ((images, ""), (labels, "-labels")):
        pages = tifffile.imread(data / source)
        tested = np.arange(len(pages)) // run % FOLDS == fold
        for part, chosen in (("train", ~tested), ("test", tested)):
            path = folder / f"{part}{ending}.tif"
            if not path.exists():
                tifffile.imwrite(path, pages[chosen], compression="zlib", photometric="minisblack")
    return folder


def score(model: Path, files: Path, name: str, tta: str, out: Path) -> dict[str, float]:
    """Predict the test pages with a model and score them."""
    instances = ["--instances"] if name != "membranes" else []
    unetcu("predict", "-m", model, files / "test.tif", "-o", out, "--tta", tta, *instances,
           "--overwrite")  # fmt: skip
    found = json.loads(unetcu("evaluate", out, files / "test-labels.tif", *instances, "--json"))
    return {key: found["scores"][key] for key in SETS[name][3]}


def one(args: argparse.Namespace, name: str, fold: int, seed: int) -> dict[str, Any]:
    """One run: a line of the results."""
    files = fold_files(args.data, name, fold, args.work)
    run = args.work / f"{args.name}-{length(args).replace(' ', '')}-{name}-{fold}-{seed}"
    if (run / "last.safetensors").exists():
        unetcu("train", "-o", run, "--resume")
    else:
        recipe = ["--recipe", name] if args.recipe else []
        given = ["--instances"] if name != "membranes" and not args.recipe else []
        unetcu("train", files / "train.tif", files / "train-labels.tif", *given, *recipe, "-o", run,
               *(("--steps", args.steps) if args.steps else ("--minutes", args.minutes)),
               "--seed", seed, *args.flags)  # fmt: skip
    last = (run / "history.csv").read_text().splitlines()
    columns = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    row = {"name": args.name, "set": name, "fold": fold, "seed": seed, "length": length(args),
           "steps": int(columns["step"]), "seconds": float(columns["seconds"])}  # fmt: skip
    for tta in args.tta:
        row[tta] = score(run / "best.safetensors", files, name, tta, run / f"test-{tta}")
    return row


def length(args: argparse.Namespace) -> str:
    """Of the training, in words."""
    return f"{args.steps} steps" if args.steps else f"{args.minutes:g} min"


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and, over all runs, standard deviation, one line for each name, set and view."""
    lines = [head("set", "name", "training", "views", "runs", "scores: mean (deviation)")]
    keys = sorted({(r["set"], r["name"], r["length"]) for r in rows})
    for key in keys:
        group = [r for r in rows if (r["set"], r["name"], r["length"]) == key]
        for tta in ("none", "mirror", "rot7"):
            runs = [r[tta] for r in group if tta in r]
            if not runs:
                continue
            cells = []
            for score in runs[0]:
                values = [r[score] for r in runs]
                spread = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
                cells.append(f"{score} {statistics.mean(values):.4f}{spread}")
            lines.append(line(key[0], key[1], key[2], tta, str(len(runs)), ", ".join(cells)))
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?", help="the folder of the three sets")
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], help="default: all three")
    parser.add_argument("--minutes", type=float, default=15, help="of each training")
    parser.add_argument("--steps", type=int, help="its length in steps instead")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tta", nargs="+", default=["none", "mirror"])
    parser.add_argument("--name", default="recipe")
    parser.add_argument("--no-recipe", dest="recipe", action="store_false", help="the defaults")
    parser.add_argument("--work", type=Path, default=Path("runs/crossval"))
    parser.add_argument("--results", type=Path, default=Path("runs/crossval.jsonl"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    words, flags = sys.argv[1:], []
    if "--" in words:
        cut = words.index("--")
        words, flags = words[:cut], words[cut + 1 :]
    args = parser.parse_args(words)
    args.flags = flags
    there = args.results.read_text().splitlines() if args.results.exists() else []
    rows = [json.loads(text) for text in there]
    for name in [] if args.table else args.sets or SETS:
        for fold in args.folds:
            for seed in args.seeds:
                wanted = {"name": args.name, "set": name, "fold": fold, "seed": seed,
                          "length": length(args)}  # fmt: skip
                if any(wanted.items() <= row.items() for row in rows):
                    continue
                rows.append(one(args, name, fold, seed))
                args.results.parent.mkdir(parents=True, exist_ok=True)
                with args.results.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
