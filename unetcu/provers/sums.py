"""Cases of the ops that sum products: convolutions, up-convolution, matrix product."""

from collections.abc import Iterator

import numpy as np

from ..ops import conv1x1, conv3x3, matmul, upconv2
from .draws import MANY, draws, image, whole
from .judge import Arrays, Case


def of_conv3x3(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/conv3x3.py."""
    edges = [
        *((1, 3, 3, 1, 1), (2, 5, 4, 3, 2), (1, 9, 12, 8, 9), (1, 3, 70, 2, 15)),
        *((3, 10, 7, 15, 17), (1, 18, 18, 16, 16), (1, 19, 35, 17, 33), (1, 34, 10, 33, 64)),
        *((2, 20, 34, 3, 64), (1, 12, 20, 4, 33), (1, 26, 4, 2, 65)),  # a kernel for few channels
        (1, 18, 38, 16, 17),  # two tiles down and two across: none may be taken twice
        *((1, 3, 2500, 17, 65), (1, 3, 4900, 1, 17), (1, 3, 4850, 5, 9)),  # slabs of several tiles
    ]

    def draw() -> tuple:
        n, h, w, c = image(rng, 3, 38, 9000)
        return n, h, w, c, int(rng.choice(MANY))

    for sizes, kind in draws(count, edges, draw):
        yield conv3x3_case(*sizes, kind=kind)


def conv3x3_case(*sizes: int, kind: str = "normal") -> Case:
    """The convolution of sizes N,H,W,C,K, with ReLU where H + W is odd."""
    n, h, w, c, k = sizes
    pixels, gated = n * (h - 2) * (w - 2), bool((h + w) % 2)
    return Case(
        "conv3x3",
        conv3x3.Conv3x3,
        ((n, h, w, c), (3, 3, c, k), (k,)),
        (9 * c + 1, 9 * k, pixels, pixels),
        max(c, k),
        kind,
        {"relu": gated},
        inputs=_away_from_zero if gated else None,
    )


def _away_from_zero(case: Case, rng: np.random.Generator) -> Arrays:
    """For ReLU after a sum: sums that rounding could carry across 0 would let dy through or not.

    Where x and w are positive, the bias alone decides: half of the channels are far below 0.
    """
    x, w, b = (np.abs(case.values(rng, s)) for s in case.shapes)
    if case.kind != "normal":
        b = np.where(np.arange(len(b)) % 2, b, -16.0 * 9 * x.shape[3] - 1)
    else:
        b = np.where(np.arange(len(b)) % 2, b, -100.0 * 9 * x.shape[3])
    return [x, w, b.astype(np.float32)]


def of_conv1x1(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/conv1x1.py."""
    edges = [
        *((1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (1, 17, 16, 16, 2), (1, 16, 33, 64, 3)),
        *((3, 20, 13, 33, 5), (1, 1, 900, 8, 2)),
    ]

    def draw() -> tuple:
        n, h, w, c = image(rng, 1, 40, 20000)
        return n, h, w, c, int(rng.choice([1, 2, 3, 4, 7, 9, 16, 17]))

    for (n, h, w, c, k), kind in draws(count, edges, draw):
        pixels = n * h * w
        yield Case(
            "conv1x1",
            conv1x1.Conv1x1,
            ((n, h, w, c), (c, k), (k,)),
            (c + 1, k, pixels, pixels),
            c,
            kind,
        )


def of_matmul(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/matmul.py."""
    edges = [
        *((1, 1, 1), (5, 3, 2), (16, 16, 16), (33, 64, 65), (64, 200, 3), (2, 1, 300)),
        *((1500, 5, 3), (2050, 17, 2)),  # more rows than one slab has
    ]

    def draw() -> tuple:
        return whole(rng, 1, 150), int(rng.choice(MANY)), int(rng.choice(MANY))

    for (i, c, k), kind in draws(count, edges, draw):
        yield Case("matmul", matmul.MatMul, ((i, c), (c, k)), (c, k, i), max(c, k), kind)


def of_upconv2(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/upconv2.py."""
    edges = [
        *((1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (1, 8, 9, 16, 8), (1, 17, 16, 17, 33)),
        *((3, 2, 33, 33, 16), (1, 1, 130, 64, 15), (1, 40, 33, 3, 5), (1, 27, 80, 16, 3)),
    ]

    def draw() -> tuple:
        n, h, w, c = image(rng, 1, 24, 9000)
        return n, h, w, c, int(rng.choice(MANY))

    for (n, h, w, c, k), kind in draws(count, edges, draw):
        yield Case(
            "upconv2",
            upconv2.UpConv2,
            ((n, h, w, c), (2, 2, c, k), (k,)),
            (c + 1, 4 * k, n * h * w, 4 * n * h * w),
            max(c, k),
            kind,
        )
