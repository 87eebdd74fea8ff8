"""What the network learns from: target and weight of every pixel, and random tiles of them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..augment import sample
from ..data.dataset import Dataset
from ..progress import progress
from ..rng import stream
from ..training.settings import Settings
from ..weightmap import class_weights, instances_of, separate, weight_map

AHEAD = 3  # batches prepared while the network works
Made = TypeVar("Made")


class Batch(NamedTuple):
    """x (N, tile, tile, C) float32; t (N, out, out) int32 classes; w (N, out, out) float32: arrays
    of NumPy, or of the device that trains."""

    x: Any
    t: Any
    w: Any


class Example(NamedTuple):
    """One whole image: x (H,W,C) float32 as the network sees it; t (H,W) int32, -1 = ignored;
    w (H,W) float32; instances (H,W) as labelled, or None where labels are classes."""

    x: NDArray[np.float32]
    t: NDArray[np.int32]
    w: NDArray[np.float32]
    instances: NDArray[np.int32] | None


def targets(
    labels: NDArray[np.int32], settings: Settings, instances: bool
) -> tuple[NDArray[np.int32], NDArray[np.integer]]:
    """(classes, objects) of one label map: touching instances get the gap between them."""
    if not instances:
        return labels, instances_of(labels)
    apart = separate(labels, settings.gap)
    return np.where(apart < 0, -1, apart > 0).astype(np.int32), apart


def balance(dataset: Dataset, indices: Sequence[int], settings: Settings) -> NDArray[np.float32]:
    """The class weights w_c of equation 2 over these images."""
    maps = (targets(dataset.labels[i], settings, dataset.instances)[0] for i in indices)
    return class_weights(maps, dataset.classes, settings.balance)


def examples(
    dataset: Dataset, indices: Sequence[int], settings: Settings, weights: NDArray[np.float32]
) -> list[Example]:
    """Images, targets and weight maps, ready in memory. weights: from `balance`."""
    made = []
    for i in progress(indices, "weight maps"):
        t, objects = targets(dataset.labels[i], settings, dataset.instances)
        w = weight_map(t, objects, weights, w0=settings.w0, sigma=settings.sigma)
        x = dataset.range.apply(dataset.images[i])
        made.append(Example(x, t, w, dataset.labels[i] if dataset.instances else None))
    return made


class Tiles:
    """Random tiles of the examples: batch k is a pure function of (seed, k)."""

    device_bytes = 0  # of a GPU's memory, for images that lie there: training/warped.py

    def __init__(self, examples: Sequence[Example], settings: Settings) -> None:
        self.examples, self.settings = examples, settings
        areas = np.array([e.t.size for e in examples], np.float64)
        self._up_to = np.cumsum(areas) / areas.sum()

    def batch(self, step: int) -> Batch:
        """The tiles of this step; an image is drawn with a chance that grows with its area."""
        s, tiles = self.settings, []
        for i in range(s.batch):
            rng, which = self._drawn(step, i)
            e = self.examples[which]
            tiles.append(sample(e.x, e.t, e.w, s.tile, s.tile_out, rng, s.augment()))
        return Batch(*map(np.stack, zip(*tiles, strict=True)))

    def _drawn(self, step: int, i: int) -> tuple[np.random.Generator, int]:
        """The random numbers for tile i of a step, and the number of its image."""
        rng = stream(self.settings.seed, step, "tile", i)
        which = int(np.searchsorted(self._up_to, rng.random(), side="right"))
        return rng, min(which, len(self.examples) - 1)

    def batches(self, first: int, end: int) -> Iterator[Batch]:
        """Batches first ... end - 1, made ahead on a thread of their own."""
        return ahead(self.batch, first, end)


def ahead(make: Callable[[int], Made], first: int, end: int) -> Iterator[Made]:
    """make(first) ... make(end - 1), some of them made ahead on a thread of their own."""
    with ThreadPoolExecutor(1, thread_name_prefix="unetcu-tiles") as worker:
        waiting: deque[Future[Made]] = deque()
        try:
            for step in range(first, end):
                waiting.append(worker.submit(make, step))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
