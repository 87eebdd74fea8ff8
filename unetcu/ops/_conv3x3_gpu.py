"""conv3x3 on a GPU: how its kernels are launched.

Every kernel gives right results for all that it admits; which one is taken depends on the format
and the shape alone, and so do the order of additions and the bits.
"""

from typing import Any

import numpy as np

from ..device import Gpu
from ..ops import _conv3x3_tma as tma
from ..ops import _conv3x3_variants as variants
from ..ops._conv3x3_variants import FFMA, MMA, WGMMA, WGMMA_W, Tile
from ..ops._fused import Pair, Pooled, apart
from ..precision import form_of, on_tensor_cores


class Form:
    """The convolution of x by w on a GPU, in the format of the arrays; floats are multiplied as
    `precision` says: fp32, or tf32 or tf32x3 on tensor cores.

    tensor_cores: they are used; then dy must be gated already, and dx can be.
    """

    def __init__(self, where: Gpu, x: Any, w: Any, precision: str) -> None:
        self.where, self.x_shape, (self.C, self.K) = where, tuple(x.shape), w.shape[2:]
        self.seam = apart(x)[1]
        self.form = form_of(x.dtype, precision)
        self.tensor_cores = on_tensor_cores(self.form, self.C, self.K)

    def forward(self, x: Any, w: Any, b: Any, relu: bool, pool: bool) -> Any:
        """y = act(b + x * w); pool: with its max-pool, where one kernel makes both."""
        N, H, W, C = x.shape
        y = self.where.empty((N, H - 2, W - 2, self.K), x.dtype)
        if not self.tensor_cores:
            return self._launch("forward", y, (x, w, b, y), int(relu))
        tile = self._tile("forward", y, pool)
        pool = pool and tile.pools and self._shares(tile, y, C) == 1
        pooled, winner = y, self.where.empty((1,), np.uint8)
        if pool:
            shape = N, y.shape[1] // 2, y.shape[2] // 2, self.K
            pooled, winner = self.where.empty(shape, x.dtype), self.where.empty(shape, np.uint8)
        given, flags = (b, y, pooled, winner), (int(relu), int(pool))
        if tile.unit.startswith(WGMMA):
            tma.forward(self.where, tile, x, w, given, flags)
        else:
            both, seam = apart(x)
            to_sum = (b, y), (*y.shape[1:], int(relu))
            self._launch_mma(tile, C, y, (*both, w, *given), (*seam, *flags), *to_sum)
        return Pooled(y, pooled, winner) if pool else y

    def backward_x(self, dy: Any, y: Any, x: Any, w: Any, framed: bool) -> Any:
        """dx of dy, which is first gated by y unless that is None; x: by what dx is gated, or None.
        framed: of dskip there is the centre only."""
        empty, (S, Hs, Ws), (N, H, W, C) = self.where.empty, self.seam, self.x_shape
        dx = empty((N, H, W, C - S), w.dtype)
        if not self.tensor_cores:
            return self._launch(
                "backward_x", dx, (dy, dy if y is None else y, w, dx), int(y is not None)
            )
        if framed and S:
            Hs, Ws = H, W
        dskip = empty((N, Hs, Ws, S), w.dtype) if S else dx
        made, gate_by = Pair(dskip, dx) if S else dx, dy if x is None else x
        seam, tile = (S, Hs, Ws, int(x is not None)), self._tile("backward_x", made)
        if tile.unit.startswith(WGMMA):
            sizes = *self.x_shape, self.K, *seam
            tma.backward_x(self.where, tile, dy, w, (gate_by, dx, dskip), sizes)
        else:
            given, to_sum = (dy, gate_by, w, dx, dskip), (gate_by, dx, dskip)
            self._launch_mma(tile, self.K, made, given, seam, to_sum, (H, W, C, *seam))
        return made

    def _tile(self, what: str, made: Any, pool: bool = False) -> Tile:
        made, admits = tuple(made.shape), self.where.admits
        return variants.chosen(what, self.C, self.K, self.form, made, pool, admits)

    def _shares(self, tile: Tile, made: Any, D: int) -> int:
        if tile.unit.startswith(WGMMA):
            return 1
        return variants.shares(tile.count(made.shape), -(-D // tile.depth))

    def _launch(self, what: str, made: Any, given: tuple, flag: int) -> Any:
        """Launch a general kernel, which makes `made`."""
        tile, N = self._tile(what, made), made.shape[0]
        grid, sizes = (tile.count(made.shape) // N, N), (*self.x_shape[1:], self.K, flag)
        self.where.launch(tile.unit, tile.entry, grid, tile.threads, *given, *sizes)
        return made

    def _launch_mma(
        self, tile: Tile, D: int, made: Any, given: tuple, rest: tuple, to_sum: tuple, sizes: tuple
    ) -> None:
        """Launch a kernel that sums over D channels and makes what is shaped like `made`, and, if
        they were dealt out, the one that adds up their shares."""
        n, N = self._shares(tile, made, D), made.shape[0]
        parts = self.where.empty((n, *made.shape) if n > 1 else (1,))
        given = *given, parts, *self.x_shape[1:], self.K, *rest
        grid = tile.count(made.shape) // N, N, n
        self.where.launch(tile.unit, tile.entry, grid, tile.threads, *given, shared=tile.shared)
        if n > 1:
            unit, entry = f"{MMA}:{self.form}", tile.entry.removesuffix("_narrow")
            entry = entry.replace(MMA, f"{MMA}_sum")
            self.where.each(unit, entry, made.size // 4, parts, *to_sum, made.size, n, *sizes)

    def backward_w(self, dy: Any, y: Any, x: Any, dw: Any, db: Any) -> None:
        """Write dw and db of dy, which is first gated by y unless that is None."""
        where, (N, H, W, C), K = self.where, x.shape, self.K
        tile = variants.chosen("backward_w", C, K, self.form, admits=where.admits)
        n, parts = variants.slabs(tile, N, H, W, C, K), (dw, db)
        if n > 1:
            parts = where.empty((n, *dw.shape)), where.empty((n, K))
        if tile.unit.startswith(WGMMA_W):
            tma.backward_w(where, tile, n, dy, x, parts)
        else:
            images: tuple[Any, ...] = x, dy, dy if y is None else y
            last: tuple[int, ...] = (int(y is not None),)
            if self.tensor_cores:
                both, last = apart(x)
                images = *both, dy
            given = *images, *parts, N, H, W, C, K, *last
            grid = n, -(-C // tile.c), -(-K // tile.k)
            where.launch(tile.unit, tile.entry, grid, tile.threads, *given, shared=tile.shared)
        if n > 1:
            where.each(FFMA, "conv3x3_sum_slabs", dw.size + K, *parts, dw, db, n, dw.size, K)
