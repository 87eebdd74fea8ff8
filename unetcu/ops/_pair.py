"""Two images side by side in channels, the centre of the first, without a copy."""

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
