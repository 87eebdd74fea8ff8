"""Everything before the first step of a training run: data, network, and how long it will take."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import __version__, data
from ..checkpoint import Checkpoint
from ..data import ranges, survey
from ..data.dataset import Dataset
from ..device import Device
from ..errors import UsageError
from ..training.samples import Example, Tiles, balance, examples
from ..training.settings import Settings
from ..training.trainer import Trainer
from ..training.validation import usual_rule, validate
from ..training.warped import tiles_for
from ..unet import UNet

BUILTIN_PAGES, BUILTIN_SIZE = 16, 320
DEFAULT_STEPS = 1000  # where no length is given
MOST_EPOCHS = 50
SHORTEST_EPOCH = 50  # tiles: fewer between two validations would mostly validate

Given = str | os.PathLike[str] | None


@dataclass
class Prepared:
    """What a run trains with. settings: as given, with classes and instances as the data has them.
    names: of the images of `training` and of `validation`. lines: what to tell the user."""

    dataset: Dataset
    settings: Settings
    training: list[Example]
    validation: list[Example]
    names: tuple[list[str], list[str]]
    lines: list[str]
    _tiles: Tiles | None = field(default=None, repr=False)

    def tiles(self, net: UNet) -> Tiles:
        """Random tiles of `training`; always the same, as a GPU may hold images for them."""
        if self._tiles is None:
            self._tiles = tiles_for(self.training, self.settings, net)
        return self._tiles

    def epoch_steps(self, total: float = 0) -> int:
        """Steps of one epoch of a run of so many."""
        return epoch_steps(self.training, self.settings, total)

    def meta(self, net: UNet) -> dict[str, Any]:
        """What a model file says about the data and how the network was trained."""
        return {
            "config": net.config,
            "range": self.dataset.range.to_dict(),
            "tile": self.settings.tile,
            "instances": self.dataset.instances,
            "gap": self.settings.gap,
            "values": list(self.dataset.values),
            "fingerprint": self.dataset.fingerprint(),
            "settings": self.settings.toml(),
            "unetcu": __version__,
        } | self._objects()

    def _objects(self) -> dict[str, Any]:
        if not self.dataset.instances:
            return {}
        return {"objects": usual_rule(self.training, self.settings.gap).to_dict()}


def prepare(images: Given, labels: Given, settings: Settings) -> Prepared:
    """Read or make the data, split it, and compute targets and weight maps."""
    dataset = load(images, labels, settings)
    settings = replace(settings, instances=dataset.instances, classes=dataset.classes)
    chosen, kept = data.split(dataset, settings.val, settings.seed)
    lines = [*dataset.notes, str(dataset.range), data.describe_split(dataset, chosen, kept)]
    doubts = settings.idle() + data.split_warnings(dataset, chosen, kept)
    if images is not None:
        doubts += survey.doubts(dataset)
    lines += [f"warning: {text}" for text in doubts]
    weights = balance(dataset, chosen, settings)
    training = examples(dataset, chosen, settings, weights)
    validation = examples(dataset, kept, settings, weights)
    names = [dataset.names[i] for i in chosen], [dataset.names[i] for i in kept]
    return Prepared(dataset, settings, training, validation, names, lines)


def load(images: Given, labels: Given, settings: Settings) -> Dataset:
    """The data set in these files, or the built-in one where none are named."""
    if images is None:
        if labels is not None:
            raise UsageError("labels without images: give both, or neither for the built-in data")
        return builtin_data(settings.range)
    return data.load(
        images,
        labels,
        classes=settings.classes,
        instances=settings.instances,
        ignore=settings.ignore,
        range=settings.range,
    )


def builtin_data(range: str = "auto") -> Dataset:
    """Made-up touching cells, the very pages that `unetcu synth` writes."""
    from ..synth import make

    grey, ids = make(0, BUILTIN_PAGES, BUILTIN_SIZE)
    images = [page[..., None] for page in grey]
    size = f"{BUILTIN_SIZE}x{BUILTIN_SIZE}"
    return Dataset(
        images=images,
        labels=[page.astype(np.int32) for page in ids],
        names=[f"built-in[{i}]" for i in np.arange(BUILTIN_PAGES)],
        files=[0] * BUILTIN_PAGES,
        classes=2,
        instances=True,
        range=ranges.fit(images, range),
        notes=[f"built-in data: {BUILTIN_PAGES} made-up images of {size}, touching cells"],
    )


def network(prepared: Prepared, where: Device, start: Checkpoint | None) -> UNet:
    """A new network that fits the data, with random weights or those of `start`."""
    s, dataset = prepared.settings, prepared.dataset
    net = UNet(
        s.depth,
        s.base,
        len(dataset.range.low),
        dataset.classes,
        dropout=s.dropout,
        seed=s.seed,
        on=where,
        precision=s.precision,
    )
    if start is not None:
        theirs, ours = start.meta["config"], net.config
        differ = [k for k in ours if k != "dropout" and theirs.get(k) != ours[k]]
        if differ:
            facts = ", ".join(f"{k} {theirs.get(k)} (here {ours[k]})" for k in differ)
            raise UsageError(f"--init-from does not fit: it has {facts}")
        net.parameters.load(start.weights)
    return net


def epoch_steps(examples: Sequence[Example], settings: Settings, total: float = 0) -> int:
    """Steps of an epoch: tiles enough to cover every image once, at least 50, over the batch.

    total: steps of a run whose length was not asked for in epochs; if it is long, an epoch is some
    passes, as each ends with scoring the validation images: about MOST_EPOCHS remain.
    """
    out = settings.tile_out
    tiles = sum(math.ceil(e.t.shape[0] / out) * math.ceil(e.t.shape[1] / out) for e in examples)
    steps = math.ceil(max(SHORTEST_EPOCH, tiles) / settings.batch)
    passes = 1 if settings.epochs is not None else round(total / steps / MOST_EPOCHS)
    return steps * max(1, passes)


def seconds_a_step(net: UNet, prepared: Prepared) -> float:
    """Time of a step, the making of its tiles included, measured on a network thrown away.

    One step is not counted, for it also pays for first touches of memory, nor on a GPU the next,
    which is captured; then as many as fit in two seconds, one at least.
    """
    trial = Trainer(
        UNet(**net.config, on=net.device, precision=net.precision), prepared.settings, total=100
    )
    start, counted = 0.0, -2 if net.device.kind == "gpu" else -1
    for batch in prepared.tiles(net).batches(0, 20):
        if counted == 0:
            start = time.perf_counter()
        trial.step(batch)
        counted += 1
        if counted > 0 and time.perf_counter() - start > 2:
            break
    return (time.perf_counter() - start) / counted


def total_steps(net: UNet, prepared: Prepared, seconds: float) -> int:
    """Steps of the whole run, from --steps, --epochs or --minutes."""
    s, epoch = prepared.settings, prepared.epoch_steps()
    if s.steps is not None:
        return s.steps
    if s.minutes is None:
        return (s.epochs or math.ceil(DEFAULT_STEPS / epoch)) * epoch
    scoring = _validating(net, prepared)
    for _ in range(3):  # how often it is scored depends on the length, and so on
        total = s.minutes * 60 / (seconds + scoring / epoch)
        epoch = prepared.epoch_steps(total)
    return max(1, int(total))


def _validating(net: UNet, prepared: Prepared) -> float:
    """Seconds that scoring all validation images takes, measured on the first."""
    if not prepared.validation:
        return 0.0
    start = time.perf_counter()
    validate(net, prepared.validation[:1], prepared.settings)
    return (time.perf_counter() - start) * len(prepared.validation)
