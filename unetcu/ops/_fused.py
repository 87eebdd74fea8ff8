"""Images that are more than an array, which the fused kernels hand from op to op, and images that
are made twice: an op that is `cheap` makes its result `again`, with the same bits, so that the
convolution behind it need not keep it until its backward pass. Such are the first convolution,
max-pools, and up-convolutions with the concatenation that they feed: few FLOPs, and a third of what
a step would keep.
"""

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


class Framed:
    """The gradient of a skip map (of this shape) that is 0 but for its centre: for a max-pool."""

    def __init__(self, centre: Any, shape: tuple[int, ...]) -> None:
        self.centre, self.shape = centre, shape


class Pooled:
    """An image and, made in the same pass, its max-pool: pooled and winner as maxpool2 has them."""

    def __init__(self, x: Any, pooled: Any, winner: Any) -> None:
        self.x, self.pooled, self.winner = x, pooled, winner
        self.shape, self.dtype, self.size = tuple(x.shape), x.dtype, x.size


def plain(x: Any) -> Any:
    """The image alone."""
    return x.x if isinstance(x, Pooled) else x


def keep(op: Any, x: Any) -> Any:
    """What op keeps of its first input: nothing, where the op before makes it again."""
    return None if op.sources and getattr(op.sources[0], "cheap", False) else x


def kept(op: Any) -> Any:
    """What `keep` was given."""
    return op.sources[0].again() if op.x is None else op.x
