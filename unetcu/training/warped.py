"""Tiles cut and deformed on the GPU that trains: no step waits for the CPU to make its tiles.

The images lie there from the start. The CPU draws the few numbers that say what a tile is, the same
numbers as for tiles of its own, so that both make the same tiles within rounding.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..augment import draw
from ..device import Gpu
from ..memory import training_bytes
from ..progress import progress
from ..resample import coefficients, spline
from ..training.samples import Batch, Example, Tiles, ahead
from ..training.settings import Settings
from ..unet import UNet
from ..warp import Picture, Warp, needed, numbers

SHARE = 0.9  # of a GPU's memory that images and training may take together


class WarpedTiles(Tiles):
    """Tiles whose batches are arrays of the device `where`: batch k is a function of (seed, k).

    Every batch is in the same arrays: one is gone when the next is made.
    """

    def __init__(self, examples: Sequence[Example], settings: Settings, where: Gpu) -> None:
        super().__init__(examples, settings)
        self._augment = settings.augment()
        self._warp = Warp(
            where,
            [e.t.shape for e in examples],
            self._pictures(),
            examples[0].x.shape[2],
            spline(settings.tile),
            settings.batch,
            settings.tile_out,
            self._augment.crops,
        )
        self.device_bytes = bytes_of(examples)

    def _pictures(self) -> Iterator[Picture]:
        crops = self._augment.crops
        for e in progress(self.examples, "images to the GPU"):
            planes = np.moveaxis(e.x, -1, 0)
            made = planes if crops else np.stack([coefficients(plane) for plane in planes])
            yield Picture(made, e.t, e.w)

    def draw(self, step: int) -> np.ndarray:
        """What is random about the tiles of this step: (batch, ...) float64, for `warp.Warp`."""
        s, rows = self.settings, []
        for i in range(s.batch):
            rng, which = self._drawn(step, i)
            e = self.examples[which]
            d = draw(e.t, e.x.shape[2], s.tile, s.tile_out, rng, self._augment)
            rows.append(numbers(which, d.nodes, d.gray, d.key))
        return np.stack(rows)

    def batch(self, step: int) -> Batch:
        """The tiles of this step."""
        return self._cut(self.draw(step))

    def batches(self, first: int, end: int) -> Iterator[Batch]:
        """Batches first ... end - 1; their numbers are drawn ahead on a thread of their own."""
        for drawn in ahead(self.draw, first, end):
            yield self._cut(drawn)

    def _cut(self, drawn: np.ndarray) -> Batch:
        self._warp.cut(drawn)
        return Batch(self._warp.x, self._warp.t, self._warp.w)


def bytes_of(examples: Sequence[Example]) -> int:
    """Bytes of a GPU's memory that these images take."""
    return needed(sum(e.t.size for e in examples), examples[0].x.shape[2])


def tiles_for(examples: Sequence[Example], settings: Settings, net: UNet) -> Tiles:
    """Tiles for training `net`: cut on its device if that is a GPU whose memory holds the images
    beside the training and --warp is not cpu, else on the CPU."""
    where = net.device
    if not isinstance(where, Gpu) or settings.warp == "cpu":
        return Tiles(examples, settings)
    if where.memory is None:
        return WarpedTiles(examples, settings, where)
    # Of the card, not of what is free: the same choice, and so the same bits, in every run.
    fits = bytes_of(examples) + training_bytes(net, settings) <= SHARE * where.memory
    return WarpedTiles(examples, settings, where) if fits else Tiles(examples, settings)
