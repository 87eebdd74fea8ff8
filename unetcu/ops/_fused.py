"""Images that are more than an array: what the fused kernels hand from op to op."""

from typing import Any

import numpy as np


class Pair:
    """What crop_concat makes of skip (N,Hs,Ws,S) and x (N,H,W,C) if it need not copy them; in
    backward, their gradients. It has the shape of the copy; a kernel of conv3x3 reads both."""

    def __init__(self, skip: Any, x: Any) -> None:
        self.skip, self.x = skip, x
        self.shape: tuple[int, ...] = (*x.shape[:3], skip.shape[3] + x.shape[3])
        self.dtype: np.dtype = x.dtype
        self.size = int(np.prod(self.shape, dtype=np.int64))


def apart(x: Any) -> tuple[tuple[Any, Any], tuple[int, int, int]]:
    """(x, skip), (S, Hs, Ws) of a Pair; of an image itself twice and zeros."""
    if isinstance(x, Pair):
        return (x.x, x.skip), (x.skip.shape[3], *x.skip.shape[1:3])
    return (x, x), (0, 0, 0)


class Pooled:
    """An image and, made in the same pass, its max-pool: pooled and winner as maxpool2 has them."""

    def __init__(self, x: Any, pooled: Any, winner: Any) -> None:
        self.x, self.pooled, self.winner = x, pooled, winner
        self.shape, self.dtype, self.size = tuple(x.shape), x.dtype, x.size


def plain(x: Any) -> Any:
    """The image alone."""
    return x.x if isinstance(x, Pooled) else x
