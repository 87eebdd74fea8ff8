"""Cases of the ops that choose, move, add up or go element by element, and of the losses."""

from collections.abc import Iterator
from math import prod

import numpy as np

from ..ops import crop_concat, dropout, elementwise, head_loss, maxpool2, reduce, relu, reshape
from ..ops import softmax_loss as softmax
from .draws import MANY, draws, image, whole
from .judge import Arrays, Case

FIXED = np.array([7, 9], np.uint32)  # a seed and a step


def of_maxpool2(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/maxpool2.py."""
    edges = [(1, 2, 2, 1), (2, 4, 6, 3), (1, 34, 2, 15), (3, 10, 36, 17), (1, 2, 700, 2)]

    def draw() -> tuple:
        n, h, w, c = image(rng, 1, 24, 12000)
        return n, 2 * h, 2 * w, c

    for dims, kind in draws(count, edges, draw):  # whole numbers tie: the first must win
        yield Case("maxpool2", maxpool2.MaxPool2, (dims,), (1, 1), dims[3], kind, chooses=True)


def of_crop_concat(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/crop_concat.py."""
    edges = [((1, 1, 1, 1), 1, 0, 0), ((2, 3, 5, 3), 2, 2, 4), ((1, 16, 17, 33), 15, 0, 8)]

    def draw() -> tuple:
        dims = image(rng, 1, 32, 12000)
        return dims, int(rng.choice(MANY)), 2 * whole(rng, 0, 5), 2 * whole(rng, 0, 5)

    for ((n, h, w, c), s, dh, dw), kind in draws(count, edges, draw):
        yield Case(
            "crop_concat",
            crop_concat.CropConcat,
            ((n, h + dh, w + dw, s), (n, h, w, c)),
            (1, 1, 1),
            max(c, s),
            kind,
            chooses=True,
        )


def of_relu(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/relu.py."""
    edges = [((),), ((1,),), ((255,),), ((256,),), ((257,),), ((3, 5, 7, 9),)]
    for (dims,), kind in draws(count, edges, lambda: (image(rng, 1, 32, 12000),)):
        yield Case("relu", relu.ReLU, (dims,), (1, 1), (*dims, 1)[-1], kind, chooses=True)


def of_dropout(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/dropout.py."""
    edges = [((1,),), ((255,),), ((513,),), ((2, 3, 5, 7),)]
    for (dims,), kind in draws(count, edges, lambda: (image(rng, 1, 32, 12000),)):
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
            {"rate": rate, "layer": whole(rng, 0, 3)},
            chooses=True,
            inputs=_with_step,
        )
    for i in (4, 7):  # a rate that is one element's very word: that element stays
        rate = int(dropout.words(16, int(FIXED[0]), int(FIXED[1]), 0)[i]) / 2**32
        options = {"rate": rate, "layer": 0}
        yield Case(
            *("dropout", dropout.Dropout, ((16,), (2,)), (1, 1), 16, "normal", options),
            chooses=True,
            inputs=_at_the_threshold,
        )


def _at_the_threshold(case: Case, rng: np.random.Generator) -> Arrays:
    return [case.values(rng, case.shapes[0]), FIXED]


def _with_step(case: Case, rng: np.random.Generator) -> Arrays:
    return [case.values(rng, case.shapes[0]), rng.integers(0, 2**32, 2, np.uint32)]


def of_softmax_loss(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/softmax_loss.py."""
    edges = [
        *((1, 1, 1, 2), (2, 3, 5, 3), (1, 16, 17, 2), (1, 1, 900, 4), (3, 20, 21, 17)),
        *((1, 260, 300, 2), (2, 1, 1, 1), (1, 370, 361, 1)),
    ]

    def draw() -> tuple:
        return image(rng, 4, 40, 16000)

    for dims, _ in draws(count, edges, draw):
        yield Case(
            "softmax_loss",
            softmax.SoftmaxLoss,
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
    return [z, *_labelled(rng, dims)]


def _labelled(rng: np.random.Generator, dims: tuple[int, ...]) -> Arrays:
    t = rng.integers(-2, dims[3] + 2, dims[:3])  # outside of 0 .. classes - 1: to be ignored
    if rng.random() < 0.5:
        t = t.astype(np.int32)
    else:  # as 32 bits they would be classes
        t.flat[1::7] += 2**32
    w = rng.uniform(0, 4, dims[:3]).astype(np.float32)
    if rng.random() < 0.15:
        w[:] = 0  # nothing counts
    elif rng.random() < 0.2:
        w[:] = 0
        t.flat[-1], w.flat[-1] = 0, 1  # weights that sum to 1
    return [t, w]


def _of_the_loss(arrays: Arrays, dy: np.ndarray) -> Arrays:
    """The rounding of z - max is relative to the spread of z, that of the rest smaller."""
    z, t, w = arrays
    spread = np.asarray(np.ptp(z) + 1)
    counted = np.where((t >= 0) & (t < z.shape[3]), w, 0)
    share = counted / (counted.sum() or 1)
    return [spread, np.abs(dy) * share[..., None] * np.full(z.shape, spread)]


def of_head_loss(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/head_loss.py."""
    edges = [
        *((1, 1, 1, 1, 1), (2, 3, 5, 4, 2), (1, 16, 17, 6, 3), (3, 9, 7, 16, 5), (1, 33, 8, 64, 2)),
        *((1, 20, 13, 128, 8), (1, 4, 65, 129, 2), (2, 5, 6, 12, 9), (1, 1, 900, 3, 4)),
        *((1, 5, 7, 6, 3), (2, 3, 4, 16, 5), (1, 260, 300, 1, 2)),  # more blocks than threads
    ]

    def draw() -> tuple:
        return *image(rng, 4, 40, 20000), int(rng.choice([2, 2, 3, 4, 5, 8]))

    for (n, h, w, c, k), _ in draws(count, edges, draw):
        pixels = n * h * w
        yield Case(
            "head_loss",
            head_loss.HeadLoss,
            ((n, h, w, c), (c, k), (k,), (n, h, w), (n, h, w)),
            (c + k, c + k, c + pixels, c + pixels),
            c,
            needs=(0, 1, 2),
            inputs=_with_head,
            sizes=_of_the_head,
        )


def _with_head(case: Case, rng: np.random.Generator) -> Arrays:
    x, w, b = (case.values(rng, s) for s in case.shapes[:3])
    w = w * np.float32(rng.choice([0.01, 0.1, 1, 30]))
    b = b - np.float32(rng.choice([0, 200]))  # the softmax takes what is common to all away
    return [x, w, b, *_labelled(rng, (*case.shapes[0][:3], len(b)))]


def _of_the_head(arrays: Arrays, dy: np.ndarray) -> Arrays:
    """What a logit adds up, and the spread of a pixel's logits, go into each gradient."""
    x, w, b, *labelled = arrays
    z = np.abs(x) @ np.abs(w) + np.abs(b)
    spread, dz = _of_the_loss([x @ w + b, *labelled], dy)
    dz = dz * (1 + z.max() / spread)
    dx, dw = dz @ np.abs(w).T, np.tensordot(np.abs(x), dz, ((0, 1, 2), (0, 1, 2)))
    return [spread + 2 * z.max(), dx, dw, dz.sum((0, 1, 2))]


def of_elementwise(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/elementwise.py."""
    edges = [((1,), ()), ((257,), (257,)), ((2, 3, 5, 7), (7,)), ((4, 65), ())]

    def draw() -> tuple:
        dims = image(rng, 1, 24, 8000)
        return dims, dims[int(rng.choice([0, 0, 3, 4])) :]

    for (a, b), kind in draws(count, edges, draw):
        repeats = prod(a) // max(1, prod(b))
        for op, K in ((elementwise.Add, (2, 1, repeats)), (elementwise.Multiply, (1, 1, repeats))):
            yield Case("elementwise", op, (a, b), K, (*a, 1)[-1], kind)


def of_reduce(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/reduce.py."""
    edges = [((1,),), ((255,),), ((256,),), ((257,),), ((3, 5, 7, 9),), ((270_001,),)]
    for (dims,), kind in draws(count, edges, lambda: (image(rng, 1, 40, 30000),)):
        yield Case("reduce", reduce.Sum, (dims,), (prod(dims), 1), dims[-1], kind)
        yield Case("reduce", reduce.Mean, (dims,), (prod(dims), 1), dims[-1])


def of_reshape(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Cases of ops/reshape.py."""
    del rng, count
    for dims, to in (((2, 3, 4, 16), (6, 64)), ((5, 33), (33, 5)), ((7,), (7, 1))):
        yield Case("reshape", reshape.Reshape, (dims,), (1, 1), dims[-1], options={"to": to})
