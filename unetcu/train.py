"""Train a U-Net on your own images, or on built-in pictures of touching cells.

  unetcu train                                        built-in data; writes runs/builtin-1
  unetcu train images.tif labels.tif                  a pair of stacks: one page, one image
  unetcu train images.tif ids.tif --instances         labels that number the cells 1, 2, 3 ...
  unetcu train images/ masks/ --minutes 20            folders, paired by file name
  unetcu train em.tif em-labels.tif --val pages 18-23 choose what is kept for validation
  unetcu train -o runs/builtin-1 --resume             continue an interrupted run, bit for bit
  unetcu train a.tif b.tif --depth 4 --base 64 --tile 572 --optimizer sgd --dropout 0.5
                                                      the paper's own network and optimizer

Every epoch prints one line: losses, IoU, pixel error, share of objects matched, speed; a star
marks the best so far. The run's folder holds the best model (best.safetensors), the curves
(progress.png) and a picture of what it sees (samples/validation.png). Ctrl-C stops after the
step, saves, and says how to continue. `unetcu check` tells which flags fit your data.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import __version__, checkpoint, data, device, ranges, threads
from .cli import main
from .dataset import Dataset
from .errors import CheckpointError, DataError, UsageError
from .loop import Loop, epoch_steps
from .paths import shown
from .rundir import RunFolder
from .samples import Example, Tiles, balance, examples
from .settings import Settings, add_flags, from_flags, read_toml
from .trainer import Trainer
from .unet import UNet
from .validation import validate

BUILTIN_TRAINING, BUILTIN_VALIDATION, BUILTIN_SIZE = 12, 4, 320


class Result(NamedTuple):
    """folder: where everything is. rows: history.csv as a list. exit_code: 0, 130 or 143."""

    folder: Path
    rows: list[dict[str, Any]]
    exit_code: int


def train(
    images: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    init_from: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on: str = "auto",
) -> Result:
    """Train and write the run's folder; prints as the command does.

    images, labels: files or folders (data.load); both left out: built-in data. out: the new
    folder (default runs/NAME-N). init_from: a model file to start from. resume: continue the run
    in `out` with its own data and settings. Raises UnetcuError (see errors.py) for bad input.
    """
    where = device.device(on)
    saved = None
    if resume:
        if images or labels or init_from or settings:
            raise UsageError("--resume uses the run's own data and settings: give -o RUN alone")
        run = RunFolder.existing(out)
        images, labels, settings = _of_run(run)
        saved = checkpoint.load(run.last)
    settings = settings or Settings()
    dataset = _load(images, labels, settings)
    settings = replace(settings, instances=dataset.instances, classes=dataset.classes)
    chosen, kept = data.split(dataset, settings.val, settings.seed)
    first = checkpoint.load(init_from) if init_from is not None else None
    net = _network(dataset, settings, where, first)
    for line in [*dataset.notes, str(dataset.range), data.describe_split(dataset, chosen, kept)]:
        _say(line)
    for line in data.split_warnings(dataset, chosen, kept):
        _say(f"warning: {line}")
    weights = balance(dataset, chosen, settings)
    training = examples(dataset, chosen, settings, weights)
    validation = examples(dataset, kept, settings, weights)
    fingerprint = dataset.fingerprint()
    if saved and saved.meta.get("fingerprint") != fingerprint:
        raise CheckpointError(f"{shown(run.path)} was trained on other data: the files changed")

    seconds = _seconds_a_step(net, training, settings)
    total = saved.meta["state"]["total"] if saved else _total(
        net, training, validation, settings, seconds
    )  # fmt: skip
    if settings.minutes is not None:
        settings = replace(settings, minutes=None, steps=total)
    if not resume:
        run = RunFolder.create(out, _name(images))
        run.write_config(settings.toml(), *(str(p) if p else None for p in (images, labels)))
    meta = _meta(dataset, settings, net, fingerprint)
    loop = Loop(Trainer(net, settings, total), training, validation, run, meta)
    if saved:
        loop.resume(saved)
    _banner(net, settings, loop, seconds, run)
    _draw_weight_map(training[0], run)
    stop = loop.go()
    _farewell(loop, run, stop.signal != 0)
    return Result(run.path, loop.rows, stop.exit_code)


def _load(images: Any, labels: Any, settings: Settings) -> Dataset:
    if images is None:
        if labels is not None:
            raise UsageError("labels without images: give both, or neither for the built-in data")
        return builtin_data(settings)
    return data.load(
        images,
        labels,
        classes=settings.classes,
        instances=settings.instances,
        ignore=settings.ignore,
        range=settings.range,
    )


def builtin_data(settings: Settings) -> Dataset:
    """Synthetic touching cells, as `unetcu synth` writes them; the last images are validation."""
    from .synth import make

    pages = BUILTIN_TRAINING + BUILTIN_VALIDATION
    grey, ids = make(0, pages, BUILTIN_SIZE)
    images = [page[..., None] for page in grey]
    return Dataset(
        images=images,
        labels=[page.astype(np.int32) for page in ids],
        names=[f"built-in[{i}]" for i in range(pages)],
        files=[0] * pages,
        classes=2,
        instances=True,
        range=ranges.fit(images, settings.range),
        notes=[f"built-in data: {pages} images of {BUILTIN_SIZE}x{BUILTIN_SIZE}, touching cells"],
    )


def _network(
    dataset: Dataset, settings: Settings, where: device.Cpu, first: checkpoint.Checkpoint | None
) -> UNet:
    net = UNet(
        settings.depth,
        settings.base,
        len(dataset.range.low),
        dataset.classes,
        dropout=settings.dropout,
        seed=settings.seed,
        on=where,
    )
    if first is not None:
        theirs, ours = first.meta["config"], net.config
        differ = [k for k in ours if k != "dropout" and theirs.get(k) != ours[k]]
        if differ:
            facts = ", ".join(f"{k} {theirs.get(k)} (here {ours[k]})" for k in differ)
            raise UsageError(f"--init-from does not fit: it has {facts}")
        net.parameters.load(first.weights)
    return net


def _seconds_a_step(net: UNet, training: Sequence[Example], settings: Settings) -> float:
    """Time of a step, measured on one that leaves no trace (its trainer is thrown away)."""
    trial = Trainer(UNet(**net.config, on=net.device), settings, total=2)
    batch = Tiles(training, settings).batch(0)
    trial.step(batch)  # the first step also pays for first touches of memory
    start = time.perf_counter()
    trial.step(batch)
    return time.perf_counter() - start


def _total(
    net: UNet,
    training: Sequence[Example],
    validation: Sequence[Example],
    settings: Settings,
    seconds: float,
) -> int:
    """Steps of the whole run, from --steps, --epochs or --minutes."""
    epoch = epoch_steps(training, settings)
    if settings.steps is not None:
        return settings.steps
    if settings.minutes is not None:
        judging = 0.0
        if validation:
            start = time.perf_counter()
            validate(net, validation[:1], settings)
            judging = (time.perf_counter() - start) * len(validation)
        return max(1, int(settings.minutes * 60 / (seconds + judging / epoch)))
    return (settings.epochs or -(-1000 // epoch)) * epoch


def _meta(dataset: Dataset, settings: Settings, net: UNet, fingerprint: str) -> dict[str, Any]:
    return {
        "config": net.config,
        "range": dataset.range.to_dict(),
        "tile": settings.tile,
        "instances": dataset.instances,
        "gap": settings.gap,
        "values": list(dataset.values),
        "fingerprint": fingerprint,
        "settings": settings.toml(),
        "unetcu": __version__,
    }


def _of_run(run: RunFolder) -> tuple[Any, Any, Settings]:
    """Data and settings of a run's config.toml."""
    return _of_table(read_toml(run.config), shown(run.config))


def _of_table(table: dict[str, Any], name: str) -> tuple[Any, Any, Settings]:
    images, labels = table.pop("images", None), table.pop("labels", None)
    try:
        return images, labels, Settings(**table)
    except TypeError as error:
        raise DataError(f"{name} has a setting this version does not know: {error}") from error


def _name(images: Any) -> str:
    return "builtin" if images is None else Path(images).resolve().stem or "data"


def _banner(net: UNet, settings: Settings, loop: Loop, seconds: float, run: RunFolder) -> None:
    from .plan import training_memory

    left = loop.trainer.total - loop.trainer.done
    memory = training_memory(net, settings.tile, settings.batch)
    _say(f"device: {device.describe()}")
    _say(
        f"network: depth {net.depth}, base {net.base}, {net.parameters.size:,} parameters; "
        f"tile {settings.tile} -> {settings.tile_out}"
    )
    _say(
        f"training: {left} steps of {settings.batch} tile(s), {loop.epoch_steps} steps an epoch; "
        f"about {memory / 1e6:.0f} MB and {left * seconds / 60:.1f} min plus validation"
    )
    _say(f"folder: {shown(run.path)}")


def _draw_weight_map(example: Example, run: RunFolder) -> None:
    from .imagewrite import write_png
    from .weightmap import picture

    write_png(run.samples / "weight_map.png", picture(example.w), overwrite=True)


def _farewell(loop: Loop, run: RunFolder, interrupted: bool) -> None:
    folder = shown(run.path)
    if interrupted:
        _say(f"stopped after step {loop.trainer.done} of {loop.trainer.total}, all saved")
        _say(f"to continue: unetcu train -o {folder} --resume")
        return
    best = next((r for r in reversed(loop.rows) if r["best"]), None)
    if best:
        told = [
            f"{k} {best[k]}" for k in ("val_loss", "iou", "pixel_error", "matched") if best[k] != ""
        ]
        print(f"best model: {folder}/best.safetensors (epoch {best['epoch']})  {'  '.join(told)}")
    print(f"look at: {folder}/samples/validation.png and {folder}/progress.png")
    print(f"use it:  unetcu predict -m {folder}/best.safetensors IMAGES -o OUT")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("images", nargs="?", help="stack or folder of images (default: built-in)")
    parser.add_argument("labels", nargs="?", help="stack or folder of labels")
    parser.add_argument("-o", "--out", help="the run's folder, a new one (default: runs/NAME-N)")
    parser.add_argument("--resume", action="store_true", help="continue the run in -o RUN")
    parser.add_argument("--init-from", metavar="MODEL", help="start from the weights of a model")
    parser.add_argument("--config", metavar="FILE", help="settings from a TOML file; flags win")
    parser.add_argument("--device", default="auto", help="auto or cpu")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads; results are the same"
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """The command `unetcu train`."""
    if args.threads is not None:
        threads.set_count(args.threads)
    images, labels, settings = args.images, args.labels, None
    typed = {k for k in vars(args) if k in Settings.__dataclass_fields__}
    if typed or args.config:
        settings = from_flags(args, args.config)
    if args.config and images is None:
        table = read_toml(Path(args.config))
        images, labels = table.get("images"), table.get("labels")
    result = train(
        images,
        labels,
        out=args.out,
        settings=settings,
        init_from=args.init_from,
        resume=args.resume,
        on=args.device,
    )
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main("train"))
