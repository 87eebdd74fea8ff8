"""Awkward sizes, drawn at random but the same every time: what cases are made of."""

from collections.abc import Callable, Iterator

import numpy as np

MANY = (16, 17, 24, 31, 32, 33, 48, 64, 65)  # channels: enough for tiles, and beside powers of two


def draws(count: int, edges: list, draw: Callable[[], tuple]) -> Iterator:
    """(dimensions, kind): each edge with two kinds of values, then random shapes in turn."""
    for i, dims in enumerate(edges):
        yield dims, "normal"
        yield dims, ("whole", "special")[i % 2]
    for i in range(max(0, count - 2 * len(edges))):
        yield draw(), ("normal", "whole", "normal", "special")[i % 4]


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both possible."""
    return int(rng.integers(low, high + 1))


def image(
    rng: np.random.Generator, low: int, high: int, budget: float
) -> tuple[int, int, int, int]:
    """N, H, W, C of a map with many channels and about `budget` numbers at most."""
    n, c = whole(rng, 1, 3), int(rng.choice(MANY))
    h, w = whole(rng, low, high), whole(rng, low, high)
    while n * h * w * c > budget and (n > 1 or max(h, w) > 2 * low):
        n, h, w = (n - 1, h, w) if n > 1 else (n, max(low, h // 2), max(low, w * 2 // 3))
    return n, h, w, c
