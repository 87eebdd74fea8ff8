"""Tell how much memory and time a training will take, before it runs.

  unetcu plan                                        the default network, on the built-in data
  unetcu plan images.tif labels.tif --minutes 20     your data: steps and epochs that fit
  unetcu plan --depth 4 --base 64 --tile 572         the paper's network: what would it cost here?

Takes the data and the flags of `unetcu train`. Prints the network as a table (figure 1 of the
paper in numbers), memory (of training steps; validation takes what prediction takes) and time, from
a few steps made on this machine, so it may take a minute for a large network. Nothing is written.
"""

import argparse
import json
import sys
from typing import Any

from . import device, threads
from .device import DEVICE_HELP
from .memory import human, inference_bytes, training_bytes
from .tiles import border
from .training.config import data_in
from .training.prepare import Given, network, prepare, seconds_a_step, total_steps
from .training.settings import Settings, add_flags, from_flags
from .training.validation import inference_tile


def plan(
    images: Given = None,
    labels: Given = None,
    *,
    settings: Settings | None = None,
    on: str = "auto",
) -> dict[str, Any]:
    """What the command prints: sizes in pixels, memory in bytes above the imports, times in s.

    The arguments are those of train.train, and so are the errors.
    """
    prepared = prepare(images, labels, settings or Settings())
    s = prepared.settings
    net = network(prepared, device.device(on), None)
    seconds = seconds_a_step(net, prepared)
    total = total_steps(net, prepared, seconds)
    tile = inference_tile(net.depth, 10**9) + 2 * border(net.depth)
    return {
        "table": net.summary(s.tile),
        "tile_in": s.tile,
        "tile_out": s.tile_out,
        "parameters": net.parameters.size,
        "training_bytes": training_bytes(net, s) + prepared.tiles(net).device_bytes,
        "inference_tile": tile,
        "inference_bytes": inference_bytes(net, tile, tile),
        "seconds_a_step": round(seconds, 4),
        "steps_an_epoch": prepared.epoch_steps(total),
        "steps": total,
        "training_seconds": round(seconds * total, 1),
        "device": device.describe(on),
    }


def report(planned: dict[str, Any]) -> str:
    """The plan as a person reads it."""
    p = planned
    minutes = p["training_seconds"] / 60
    epochs = p["steps"] / p["steps_an_epoch"]
    rows = {
        "device": p["device"],
        "tile": f"{p['tile_in']} -> {p['tile_out']} pixels",
        "training": f"about {human(p['training_bytes'])} of memory above {IMPORTS}",
        "prediction": f"about {human(p['inference_bytes'])} with tiles of {p['inference_tile']}",
        "one step": f"{p['seconds_a_step']:.3f} s, measured here",
        "the run": f"{p['steps']} steps = {epochs:.3g} epochs, about {minutes:.1f} min "
        "plus validation",
    }
    return "\n".join([p["table"], "", *(f"{k:<12}{v}" for k, v in rows.items())])


IMPORTS = "the 100 MB or so of Python and its libraries"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("images", nargs="?", help="stack or folder of images (default: built-in)")
    parser.add_argument("labels", nargs="?", help="stack or folder of labels")
    parser.add_argument("--config", metavar="FILE", help="settings from a TOML file; flags win")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """The command `unetcu plan`."""
    if args.threads is not None:
        threads.set_count(args.threads)
    images, labels = args.images, args.labels
    if args.config and images is None:
        images, labels, _ = data_in(args.config)
    settings = from_flags(args, args.config)
    planned = plan(images, labels, settings=settings, on=args.device)
    print(json.dumps(planned, indent=2) if args.json else report(planned))
    return 0


if __name__ == "__main__":
    from .cli import main

    sys.exit(main("plan"))
