"""Train a U-Net on your own images, or on built-in pictures of touching cells.

  unetcu train                                        built-in data; writes runs/builtin-1
  unetcu train images.tif labels.tif                  a pair of stacks: one page, one image
  unetcu train images.tif ids.tif --instances         labels that number the cells 1, 2, 3 ...
  unetcu train images/ masks/ --minutes 20            folders, paired by file name
  unetcu train images.tif ids.tif --recipe nuclei     settings found by trying: see --recipe
  unetcu train em.tif em-labels.tif --val pages 18-23 choose what is kept for validation
  unetcu train -o runs/builtin-1 --resume             continue an interrupted run, bit for bit
  unetcu train a.tif b.tif --depth 4 --base 64 --tile 572 --optimizer sgd --dropout 0.5 \\
      --balance 1 --w0 10                             the paper's own network, optimizer, weights

Every epoch prints one line: losses, IoU, pixel error, share of objects matched, speed; a star
marks the best so far. The run's folder holds the best model (best.safetensors) and, from the end of
the run or its interruption on, report.html: scores, curves, pictures of every validation image and
how to repeat it, one page for any browser. While it trains, look at progress.png and
samples/validation.png. Ctrl-C stops after the step, saves, and says how to continue. `unetcu check`
tells which flags fit your data.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from . import checkpoint, device, threads
from .device import DEVICE_HELP
from .errors import CheckpointError, UsageError
from .files.paths import for_shell, shown
from .memory import human, training_bytes
from .report.again import Asked
from .report.run import write as write_report
from .training.config import data_in
from .training.interrupts import Interrupts
from .training.loop import Loop
from .training.objects import choose_rule
from .training.prepare import Prepared, network, prepare, seconds_a_step, total_steps
from .training.recipes import about, recipe, recipes
from .training.rundir import RunFolder
from .training.samples import Example
from .training.settings import Settings, add_flags, from_flags
from .training.state import finished, saved_state
from .training.trainer import Trainer
from .training.validation import predictions, usual_rule


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
    where, saved, start, over = device.device(on), None, None, False
    if resume:
        if images or labels or init_from or settings:
            raise UsageError("--resume uses the run's own data and settings: give -o RUN alone")
        run = RunFolder.existing(out)
        images, labels, settings = _of_run(run)
        saved = checkpoint.load(run.last)
        state = saved_state(saved, run.last)
        over = finished(state, settings)
        if over and run.report.is_file():  # without it, the run was killed before its very end
            _say(
                f"{shown(run.path)} is finished, after step {state['done']}: nothing to continue; "
                f"to train on, start a run with --init-from {for_shell(run.best)}"
            )
            return Result(run.path, state["rows"], 0)
    elif out is not None:
        RunFolder.refuse_existing(out)  # before the work, not after it
    if init_from is not None:
        start = checkpoint.load(init_from)
    prepared = prepare(images, labels, settings or Settings())
    for line in prepared.lines:
        _say(line)
    net = network(prepared, where, start)
    meta = prepared.meta(net)
    if init_from is not None:
        meta["init_from"] = os.fsdecode(init_from)
    if saved and "init_from" in saved.meta:
        meta["init_from"] = saved.meta["init_from"]
    if saved and saved.meta.get("fingerprint") != meta["fingerprint"]:
        raise CheckpointError(f"{shown(run.path)} was trained on other data: the files changed")

    seconds = seconds_a_step(net, prepared)
    total = state["total"] if saved else total_steps(net, prepared, seconds)
    settings = prepared.settings
    if settings.minutes is not None:  # from here on the run is a number of steps, to be repeated
        settings = replace(settings, minutes=None, steps=total)
        meta["settings"] = settings.toml()
    if not resume:
        run = RunFolder.create(out, "builtin" if images is None else Path(images).resolve().stem)
        run.write_config(
            settings.toml(), *(os.fsdecode(p) if p else None for p in (images, labels, init_from))
        )
    trainer, tiles = Trainer(net, settings, total), prepared.tiles(net)
    loop = Loop(trainer, tiles, prepared.validation, run, meta)
    if saved:
        loop.resume(saved)
    banner = _banner(loop, seconds, on)
    for line in banner:
        _say(line)
    run.note(*prepared.lines, *banner)
    _draw_weight_map(prepared.training[0], run)
    stop = Interrupts() if over else loop.go()
    resuming = f"unetcu train -o {for_shell(run.path)} --resume"
    interrupted = bool(stop.signal) and loop.unfinished
    if interrupted:
        _say(f"stopped after step {loop.trainer.done} of {loop.trainer.total}, all saved")
        _say(f"to continue: {resuming}")
    asked = Asked(images, labels, on, meta.get("init_from"))
    try:
        told = _judge(loop, prepared, asked, not interrupted) if loop.rows else ""
    except KeyboardInterrupt:
        _say(f"interrupted while the model was judged; all steps are saved; to go on: {resuming}")
        return Result(run.path, loop.rows, 130)
    if not interrupted:
        print(told)
        print(f"look at: {shown(run.report)}")
        print(f"use it:  unetcu predict -m {for_shell(run.best)} IMAGES -o OUT")
    elif loop.rows:
        _say(f"look at: {shown(run.report)}")
    return Result(run.path, loop.rows, stop.exit_code)


def _of_run(run: RunFolder) -> tuple[Any, Any, Settings]:
    """Data and settings of a run's config.toml."""
    images, labels, _ = data_in(run.config)
    return images, labels, from_flags(argparse.Namespace(), run.config)


def _banner(loop: Loop, seconds: float, on: str) -> list[str]:
    trainer, s = loop.trainer, loop.settings
    net, left = trainer.net, trainer.total - trainer.done
    needed, images = training_bytes(net, s), loop.tiles.device_bytes
    there = f", {human(images)} of them images to cut tiles from" if images else ""
    tiles = "1 tile" if s.batch == 1 else f"{s.batch} tiles"
    return [
        f"device: {device.describe(on)}",
        f"network: depth {net.depth}, base {net.base}, {net.parameters.size:,} parameters, "
        f"tile {s.tile} -> {s.tile_out}",
        f"training: {left} steps of {tiles}, {loop.epoch_steps} steps an epoch, about "
        f"{human(needed + images)}{there} and {left * seconds / 60:.1f} min plus validation",
        f"folder: {shown(loop.run.path)}",
    ]


def _draw_weight_map(example: Example, run: RunFolder) -> None:
    from .files.imagewrite import write_png
    from .weightmap import picture

    write_png(run.weight_map, picture(example.w), overwrite=True)


def _judge(loop: Loop, prepared: Prepared, asked: Asked, choose: bool) -> str:
    """Predict the validation images with the best model, choose how objects are found, and write
    the run's report: a line that says which model is best and how good it is."""
    run, gap = loop.run, loop.settings.gap
    if choose:
        run.report.unlink(missing_ok=True)  # of an interruption: without it, this is still to do
    best = [r for r in loop.rows if r["best"]][-1]
    told = {k: f"{best[k]}" for k in ("val_loss", "iou", "pixel_error") if best[k] != ""}
    where = loop.trainer.net.device
    predicted = predictions(run.best, loop.validation, where)
    rule = usual_rule(prepared.training, gap) if loop.settings.instances else None
    chosen = bool(rule) and choose and any((e.t > 0).any() for e in loop.validation)
    if chosen:
        rule, line, objects = choose_rule(
            run.best, prepared.training, loop.validation, predicted, gap, where
        )
        _say(line)
        run.note(line)
        scores = {"SEG": objects.seg, "AP50": objects.ap50, "matched": objects.matched_share}
        told |= {k: f"{v:.4f}" for k, v in scores.items()}
    write_report(loop, prepared, predicted, rule, chosen, asked)
    scored = "  ".join(f"{k} {v}" for k, v in told.items())
    return f"best model: {shown(run.best)} (epoch {best['epoch']})  {scored}".rstrip()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("images", nargs="?", help="stack or folder of images (default: built-in)")
    parser.add_argument("labels", nargs="?", help="stack or folder of labels")
    parser.add_argument("-o", "--out", help="the run's folder, a new one (default: runs/NAME-N)")
    parser.add_argument("--resume", action="store_true", help="continue the run in -o RUN")
    parser.add_argument("--init-from", metavar="MODEL", help="start from the weights of a model")
    named = "; ".join(f"{name}: {about(path)}" for name, path in recipes().items())
    parser.add_argument("--recipe", metavar="NAME", help="settings for a kind of data. " + named)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings from a TOML file; it wins over --recipe, flags win",
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
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
    if typed or args.config or args.recipe:
        settings = from_flags(args, args.recipe and recipe(args.recipe), args.config)
    start = args.init_from
    if args.config and images is None:
        images, labels, begun = data_in(args.config)
        start = start or begun
    result = train(
        images,
        labels,
        out=args.out,
        settings=settings,
        init_from=start,
        resume=args.resume,
        on=args.device,
    )
    return result.exit_code


if __name__ == "__main__":
    from .cli import main

    sys.exit(main("train"))
