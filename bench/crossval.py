"""Cross-validated scores of a recipe: train, predict and score, fold by fold, seed by seed.

    python bench/crossval.py DATA membranes --minutes 15
    python bench/crossval.py DATA phase nuclei --steps 6000 --folds 0 --name gap2 -- --gap 2
    python bench/crossval.py --table                                     what was found so far

DATA is a folder with isbi2012/, phase/ and nuclei/, each a stack of images and one of labels. The
pages are cut in two halves, in alternating runs of pages as neighbours are alike; a fold is trained
on one half, which keeps some pages for its own validation, and scored on the other. What follows
-- goes to `unetcu train`, and --name names it. Every run is one line of --results, so that the
script can be stopped at any time; started again, it leaves out what is there, and goes on with the
run that it was in. Two of them at a time, with UNETCU_THREADS=1 and results of their own, use two
cores a little better than one after the other; the results are the same.
"""

import argparse
import json
import shutil
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
            if not path.exists() or not np.array_equal(tifffile.imread(path), pages[chosen]):
                new = path.with_suffix(".new.tif")
                tifffile.imwrite(new, pages[chosen], compression="zlib", photometric="minisblack")
                new.replace(path)
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
        shutil.rmtree(run, ignore_errors=True)  # stopped before anything was saved
        recipe = ["--recipe", name] if args.recipe else []
        given = ["--instances"] if name != "membranes" and not args.recipe else []
        unetcu("train", files / "train.tif", files / "train-labels.tif", *given, *recipe, "-o", run,
               *(("--steps", args.steps) if args.steps else ("--minutes", args.minutes)),
               "--seed", seed, *args.flags)  # fmt: skip
    last = (run / "history.csv").read_text().splitlines()
    columns = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    row = {**key(args, name, fold, seed), "flags": flags(args),
           "steps": int(columns["step"]), "seconds": float(columns["seconds"])}  # fmt: skip
    for tta in args.tta:
        row[tta] = score(run / "best.safetensors", files, name, tta, run / f"test-{tta}")
    return row


def key(args: argparse.Namespace, name: str, fold: int, seed: int) -> dict[str, Any]:
    """What tells runs apart."""
    return {"name": args.name, "set": name, "fold": fold, "seed": seed, "length": length(args)}


def flags(args: argparse.Namespace) -> str:
    """What a name stands for."""
    return " ".join([*([] if args.recipe else ["--no-recipe"]), *args.flags])


def done(row: dict[str, Any], args: argparse.Namespace) -> bool:
    """Whether a run of this key needs no more; SystemExit if its name means something else."""
    if row["flags"] != flags(args):
        sys.exit(f"--name {args.name} stands for {row['flags']!r} in {args.results}: give "
                 "another")  # fmt: skip
    return all(tta in row for tta in args.tta)


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
    words, rest = sys.argv[1:], []
    if "--" in words:
        cut = words.index("--")
        words, rest = words[:cut], words[cut + 1 :]
    args = parser.parse_args(words)
    if args.data is None and not args.table:
        parser.error("give the folder of the data, or --table")
    args.flags = rest
    kept = args.results.read_text().splitlines() if args.results.exists() else []
    rows = [json.loads(text) for text in kept]
    for name in [] if args.table else args.sets or SETS:
        for fold in args.folds:
            for seed in args.seeds:
                wanted = key(args, name, fold, seed).items()
                there = [row for row in rows if wanted <= row.items()]
                if any(done(row, args) for row in there):
                    continue
                rows = [row for row in rows if row not in there] + [one(args, name, fold, seed)]
                args.results.parent.mkdir(parents=True, exist_ok=True)
                new = args.results.with_suffix(".new")
                new.write_text("".join(json.dumps(row) + "\n" for row in rows))
                new.replace(args.results)
    print(table(rows))


if __name__ == "__main__":
    main()
