"""The shapes and values that every kernel is tried on; see judge.py for what is right.

Each op has its edges, written down, and then a number of shapes drawn at random that make several
blocks: H != W, sizes beside multiples of every tile, channels beside powers of two.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from . import moves, sums
from .judge import Case

MAKERS = {
    "conv3x3": sums.of_conv3x3,
    "conv1x1": sums.of_conv1x1,
    "matmul": sums.of_matmul,
    "upconv2": sums.of_upconv2,
    "maxpool2": moves.of_maxpool2,
    "crop_concat": moves.of_crop_concat,
    "relu": moves.of_relu,
    "dropout": moves.of_dropout,
    "softmax_loss": moves.of_softmax_loss,
    "elementwise": moves.of_elementwise,
    "reduce": moves.of_reduce,
    "reshape": moves.of_reshape,
}


def cases(count: int = 60) -> Iterator[Case]:
    """Every op's cases, about `count` each, the same at every call."""
    seen = set()  # values are drawn from the name: a name again would be the same case again
    for stem, make in MAKERS.items():
        for case in make(np.random.default_rng(zlib.crc32(stem.encode())), count):
            if case.name not in seen:
                seen.add(case.name)
                yield case
