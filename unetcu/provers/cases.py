"""The shapes and values that every kernel is tried on; see judge.py for what is right.

Each op has its edges, written down, and then a number of shapes drawn at random that make several
blocks: H != W, sizes beside multiples of every tile, channels beside powers of two.
"""

import zlib
from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from ..ops import (
    conv1x1,
    conv3x3,
    crop_concat,
    dropout,
    elementwise,
    matmul,
    maxpool2,
    reduce,
    relu,
    reshape,
    softmax_loss,
    upconv2,
)
from .judge import Arrays, Case

CHANNELS = (1, 2, 3, 8, 9, 15, 16, 17, 33, 64)
MANY = (16, 17, 24, 31, 32, 33, 48, 64, 65)


def cases(count: int = 60) -> Iterator[Case]:
    """Every op's cases, about `count` each, the same at every call."""
    for stem, shapes in (
        ("conv3x3", _conv3x3),
        ("conv1x1", _conv1x1),
        ("matmul", _matmul),
        ("upconv2", _upconv2),
        ("maxpool2", _maxpool2),
        ("crop_concat", _crop_concat),
        ("relu", _relu),
        ("dropout", _dropout),
        ("softmax_loss", _softmax_loss),
        ("elementwise", _elementwise),
        ("reduce", _reduce),
        ("reshape", _reshape),
    ):
        rng = np.random.default_rng(zlib.crc32(stem.encode()))
        yield from shapes(rng, count)


def _draws(count: int, edges: list, draw: Callable[[], tuple]) -> Iterator:
    """(dimensions, kind): each edge with two kinds of values, then random shapes in turn."""
    for i, dims in enumerate(edges):
        yield dims, "normal"
        yield dims, ("whole", "special")[i % 2]
    for i in range(max(0, count - 2 * len(edges))):
        yield draw(), ("normal", "whole", "normal", "special")[i % 4]


def _int(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _map(rng: np.random.Generator, low: int, high: int, budget: float) -> tuple[int, int, int, int]:
    """N, H, W, C of a map with many channels and about `budget` numbers at most."""
    n, c = _int(rng, 1, 3), int(rng.choice(MANY))
    h, w = _int(rng, low, high), _int(rng, low, high)
    while n * h * w * c > budget and (n > 1 or max(h, w) > 2 * low):
        n, h, w = (n - 1, h, w) if n > 1 else (n, max(low, h // 2), max(low, w * 2 // 3))
    return n, h, w, c


def _conv3x3(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [
        *((1, 3, 3, 1, 1), (2, 5, 4, 3, 2), (1, 9, 12, 8, 9), (1, 3, 70, 2, 15)),
        *((3, 10, 7, 15, 17), (1, 18, 18, 16, 16), (1, 19, 35, 17, 33), (1, 34, 10, 33, 64)),
    ]

    def draw() -> tuple:
        n, h, w, c = _map(rng, 3, 38, 9000)
        return n, h, w, c, int(rng.choice(MANY))

    for (n, h, w, c, k), kind in _draws(count, edges, draw):
        pixels, gated = n * (h - 2) * (w - 2), bool((h + w) % 2)
        yield Case(
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


def _conv1x1(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [
        *((1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (1, 17, 16, 16, 2), (1, 16, 33, 64, 3)),
        *((3, 20, 13, 33, 5), (1, 1, 900, 8, 2)),
    ]

    def draw() -> tuple:
        n, h, w, c = _map(rng, 1, 40, 20000)
        return n, h, w, c, int(rng.choice([1, 2, 3, 4, 7, 9, 16, 17]))

    for (n, h, w, c, k), kind in _draws(count, edges, draw):
        pixels = n * h * w
        yield Case(
            "conv1x1",
            conv1x1.Conv1x1,
            ((n, h, w, c), (c, k), (k,)),
            (c + 1, k, pixels, pixels),
            c,
            kind,
        )


def _matmul(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [
        *((1, 1, 1), (5, 3, 2), (16, 16, 16), (33, 64, 65), (64, 200, 3), (2, 1, 300)),
        *((1500, 5, 3), (2050, 17, 2)),  # more rows than one slab has
    ]

    def draw() -> tuple:
        return _int(rng, 1, 150), int(rng.choice(MANY)), int(rng.choice(MANY))

    for (i, c, k), kind in _draws(count, edges, draw):
        yield Case("matmul", matmul.MatMul, ((i, c), (c, k)), (c, k, i), max(c, k), kind)


def _upconv2(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [
        *((1, 1, 1, 1, 1), (2, 3, 5, 3, 2), (1, 8, 9, 16, 8), (1, 17, 16, 17, 33)),
        *((3, 2, 33, 33, 16), (1, 1, 130, 64, 15), (1, 40, 33, 3, 5), (1, 27, 80, 16, 3)),
    ]

    def draw() -> tuple:
        n, h, w, c = _map(rng, 1, 24, 9000)
        return n, h, w, c, int(rng.choice(MANY))

    for (n, h, w, c, k), kind in _draws(count, edges, draw):
        yield Case(
            "upconv2",
            upconv2.UpConv2,
            ((n, h, w, c), (2, 2, c, k), (k,)),
            (c + 1, 4 * k, n * h * w, 4 * n * h * w),
            max(c, k),
            kind,
        )


def _maxpool2(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [(1, 2, 2, 1), (2, 4, 6, 3), (1, 34, 2, 15), (3, 10, 36, 17), (1, 2, 700, 2)]

    def draw() -> tuple:
        n, h, w, c = _map(rng, 1, 24, 12000)
        return n, 2 * h, 2 * w, c

    for dims, kind in _draws(count, edges, draw):  # whole numbers tie: the first must win
        yield Case("maxpool2", maxpool2.MaxPool2, (dims,), (1, 1), dims[3], kind, chooses=True)


def _crop_concat(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [((1, 1, 1, 1), 1, 0, 0), ((2, 3, 5, 3), 2, 2, 4), ((1, 16, 17, 33), 15, 0, 8)]

    def draw() -> tuple:
        dims = _map(rng, 1, 32, 12000)
        return dims, int(rng.choice(MANY)), 2 * _int(rng, 0, 5), 2 * _int(rng, 0, 5)

    for ((n, h, w, c), s, dh, dw), kind in _draws(count, edges, draw):
        yield Case(
            "crop_concat",
            crop_concat.CropConcat,
            ((n, h + dh, w + dw, s), (n, h, w, c)),
            (1, 1, 1),
            max(c, s),
            kind,
            chooses=True,
        )


def _relu(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [((),), ((1,),), ((255,),), ((256,),), ((257,),), ((3, 5, 7, 9),)]
    for (dims,), kind in _draws(count, edges, lambda: (_map(rng, 1, 32, 12000),)):
        yield Case("relu", relu.ReLU, (dims,), (1, 1), (*dims, 1)[-1], kind, chooses=True)


def _dropout(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [((1,),), ((255,),), ((513,),), ((2, 3, 5, 7),)]
    for (dims,), kind in _draws(count, edges, lambda: (_map(rng, 1, 32, 12000),)):
        rate = (
            float(rng.choice([0.5, 0.75]))
            if kind != "normal"
            else float(rng.choice([0.0, 0.3, 0.9]))
        )
        yield Case(
            "dropout",
            dropout.Dropout,
            (dims, (2,)),
            (1, 1),
            dims[-1],
            kind,
            {"rate": rate, "layer": _int(rng, 0, 3)},
            chooses=True,
            inputs=_with_step,
        )


def _with_step(case: Case, rng: np.random.Generator) -> Arrays:
    return [case.values(rng, case.shapes[0]), rng.integers(0, 2**32, 2, np.uint32)]


def _softmax_loss(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [
        *((1, 1, 1, 2), (2, 3, 5, 3), (1, 16, 17, 2), (1, 1, 900, 4), (3, 20, 21, 17)),
        *((1, 260, 300, 2), (2, 1, 1, 1)),
    ]

    def draw() -> tuple:
        return _map(rng, 4, 40, 16000)

    for dims, _ in _draws(count, edges, draw):
        yield Case(
            "softmax_loss",
            softmax_loss.SoftmaxLoss,
            (dims, dims[:3], dims[:3]),
            (dims[3], dims[3]),
            dims[3],
            needs=(0,),
            inputs=_with_classes,
            sizes=_of_the_loss,
        )


def _with_classes(case: Case, rng: np.random.Generator) -> Arrays:
    dims = case.shapes[0]
    z = rng.standard_normal(dims).astype(np.float32) * np.float32(rng.choice([0.1, 1, 20, 500]))
    t = rng.integers(-2, dims[3] + 2, dims[:3])  # outside of 0 .. classes - 1: to be ignored
    t = t.astype(rng.choice(["int32", "int64"]))
    w = rng.uniform(0, 4, dims[:3]).astype(np.float32)
    if rng.random() < 0.15:
        w[:] = 0  # nothing counts
    elif rng.random() < 0.2:
        w[:] = 0
        t.flat[-1], w.flat[-1] = 0, 1  # weights that sum to 1
    return [z, t, w]


def _of_the_loss(arrays: Arrays, dy: np.ndarray) -> Arrays:
    """The rounding of z - max is relative to the spread of z, that of the rest smaller."""
    z, t, w = arrays
    spread = np.asarray(np.ptp(z) + 1)
    counted = np.where((t >= 0) & (t < z.shape[3]), w, 0)
    share = counted / (counted.sum() or 1)
    return [spread, np.abs(dy) * share[..., None] * np.full(z.shape, spread)]


def _elementwise(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [((1,), ()), ((257,), (257,)), ((2, 3, 5, 7), (7,)), ((4, 65), ())]

    def draw() -> tuple:
        dims = _map(rng, 1, 24, 8000)
        return dims, dims[int(rng.choice([0, 0, 3, 4])) :]

    for (a, b), kind in _draws(count, edges, draw):
        repeats = prod(a) // max(1, prod(b))
        for op, K in ((elementwise.Add, (2, 1, repeats)), (elementwise.Multiply, (1, 1, repeats))):
            yield Case("elementwise", op, (a, b), K, (*a, 1)[-1], kind)


def _reduce(rng: np.random.Generator, count: int) -> Iterator[Case]:
    edges = [((1,),), ((255,),), ((256,),), ((257,),), ((3, 5, 7, 9),)]
    for (dims,), kind in _draws(count, edges, lambda: (_map(rng, 1, 40, 30000),)):
        yield Case("reduce", reduce.Sum, (dims,), (prod(dims), 1), dims[-1], kind)
        yield Case("reduce", reduce.Mean, (dims,), (prod(dims), 1), dims[-1])


def _reshape(rng: np.random.Generator, count: int) -> Iterator[Case]:
    del rng, count
    for dims, to in (((2, 3, 4, 16), (6, 64)), ((5, 33), (33, 5)), ((7,), (7, 1))):
        yield Case("reshape", reshape.Reshape, (dims,), (1, 1), dims[-1], options={"to": to})
