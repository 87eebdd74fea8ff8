"""conv3x3 on a GPU: which kernel does what, and how it is launched.

Every kernel gives right results for all that it admits; which one is taken depends on the format
and the shape alone, and so do the order of additions and the bits.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..device import Gpu
from ..kernel import constants, formats
from ..ops._fused import Pair, Pooled, apart
from ..precision import form_of, on_tensor_cores

BLOCKS = 264  # two for each of an H200's 132 multiprocessors: what runs at once
LONGEST = 64  # tiles a slab: longer sums round more
FEWEST = 4  # chunks of channels that are worth a share of their own


class Variant(NamedTuple):
    """One form of a kernel: the first row of the table that fits is taken, whatever the image's
    size. All of `stem` are tried if UNETCU_VARIANT names it; only then, if the stem is in STUDY."""

    what: str  # forward, backward_x or backward_w
    stem: str
    suffix: str  # of the entry point
    prefix: str  # of its tile sizes among the constants of the file
    fits: Callable[[int, int], bool] = lambda C, K: True


FFMA, MMA, MMA_W = "conv3x3", "conv3x3_mma", "conv3x3_mma_w"
WGMMA, WGMMA_W = "conv3x3_wgmma", "conv3x3_wgmma_w"
STUDY = {WGMMA, WGMMA_W}  # not proved on hardware yet
VARIANTS = (
    Variant("forward", WGMMA, "_narrow", "NARROW", lambda C, K: K <= 64),
    Variant("forward", WGMMA, "", "WIDE"),
    Variant("backward_x", WGMMA, "_narrow", "NARROW", lambda C, K: C <= 64),
    Variant("backward_x", WGMMA, "", "WIDE"),
    Variant("backward_w", WGMMA_W, "", ""),
    Variant("forward", MMA, "_narrow", "NARROW", lambda C, K: K <= 64),
    Variant("forward", MMA, "", "WIDE"),
    Variant("backward_x", MMA, "_narrow", "NARROW", lambda C, K: C <= 64),
    Variant("backward_x", MMA, "", "WIDE"),
    Variant("backward_w", MMA_W, "", "W"),
    Variant("forward", FFMA, "_narrow", "NARROW", lambda C, K: K <= 32),
    Variant("forward", FFMA, "", "WIDE"),
    Variant("backward_x", FFMA, "_narrow", "NARROW", lambda C, K: C <= 32),
    Variant("backward_x", FFMA, "", "WIDE"),
    Variant("backward_w", FFMA, "_few", "W_FEW", lambda C, K: C <= 4 and K > 16),
    Variant("backward_w", FFMA, "_narrow", "W_NARROW", lambda C, K: C <= 16 or K <= 32),
    Variant("backward_w", FFMA, "", "W_WIDE"),
)


class Tile(NamedTuple):
    """What a block of `entry` owns: h x w pixels, k filters; of dw, c channels x k filters.
    shared: bytes of dynamic shared memory; depth: channels that it sums at a time."""

    unit: str
    entry: str
    threads: int
    shared: int
    h: int
    w: int
    c: int
    k: int
    depth: int = 0


@contextmanager
def studied(stem: str) -> Iterator[None]:
    """Inside, the variants of a stem are tried as if UNETCU_VARIANT named it."""
    before = _asked.set((*_asked.get(), stem))
    try:
        yield
    finally:
        _asked.reset(before)


_asked: ContextVar[tuple[str, ...]] = ContextVar("asked", default=())


def chosen(what: str, C: int, K: int, form: str = "fp32") -> Tile:
    """The kernel for these channels in this format."""
    asked = (*os.environ.get("UNETCU_VARIANT", "").split(","), *_asked.get())
    mma = on_tensor_cores(form, C, K)
    fitting = (v for v in VARIANTS if v.what == what and mma == (v.stem != FFMA) and v.fits(C, K))
    known = (v for v in fitting if form in formats(v.stem) or v.stem == FFMA)
    return tile_of(next(v for v in known if v.stem not in STUDY or v.stem in asked), form)


def tile_of(v: Variant, form: str) -> Tile:
    """The tile of a variant, from the constants of its file."""
    if v.stem == FFMA:
        unit = FFMA if form in ("fp32", "tf32", "tf32x3") else f"{FFMA}:{form}"
        size, part = constants(unit), "W_" if v.what == "backward_w" else ""
        h, c, k = (size.get(f"{v.prefix}_{d}", 0) for d in "HCK")
        entry = f"{FFMA}_{v.what}{v.suffix}"
        return Tile(unit, entry, size[part + "THREADS"], 0, h, size[part + "TILE_W"], c, k)
    unit = f"{v.stem}:{form}"
    size, entry = constants(unit), f"{v.stem}_{v.what}{v.suffix}"
    if v.stem == WGMMA_W:
        shared = 32 * (size["PIXELS"] + size["PATCH"])
        sides = size["TILE"], size["TILE"], size["BLOCK"], size["BLOCK"]
        return Tile(unit, f"{WGMMA_W}_backward", size["THREADS"], shared, *sides)
    if v.stem == MMA_W:
        shared = 32 * (size["W_PIXELS"] + size["W_PATCH"]) * size["W_PITCH"]
        sides = size["W_TILE_H"], size["W_TILE_W"], size["BLOCK"], size["BLOCK"]
        return Tile(unit, f"{MMA_W}_backward", size["W_THREADS"], shared, *sides)
    k = size[v.prefix + "_M"]
    if v.stem == WGMMA:
        shared = 16 * (2 * size["PATCH"] + size["FILTERS"] * k * size["ROW_PIECES"])
        sides = size["TILE"], size["TILE"], 0, k
        return Tile(unit, entry, size["THREADS"], shared, *sides, size["CHUNK"])
    h = size[v.prefix + "_H"]
    if v.what == "backward_x":
        tap = k * size["PITCH"]
    else:
        tap = size["DEPTH"] * (k // size["PIECE"] + size["LONGER"])
    shared = 16 * (2 * (h + 2) * size["PATCH_W"] * size["PITCH"] + size["FILTERS"] * tap)
    return Tile(unit, entry, h * k // 8, shared, h, size["TILE_W"], 0, k, size["DEPTH"])


def slabs(tile: Tile, N: int, H: int, W: int, C: int, K: int) -> int:
    """Into how many parts the pixels are split whose sums make the weight gradient.

    As many as fill the GPU in one go, more only where sums would grow long. A function of the
    shape alone, because it decides the order of additions, and so the bits.
    """
    tiles = N * -(-(H - 2) // tile.h) * -(-(W - 2) // tile.w)
    alone = tile.unit.startswith((MMA_W, WGMMA_W))  # one block fills a multiprocessor
    blocks = BLOCKS // 2 if alone else BLOCKS
    wanted = max(blocks // (-(-C // tile.c) * -(-K // tile.k)), -(-tiles // LONGEST), 1)
    share = -(-tiles // wanted)
    return -(-tiles // share)  # so that none is empty


def shares(blocks: int, chunks: int) -> int:
    """Into how many parts the channels are split that are summed: more than one where there are
    too few blocks for a GPU."""
    return max(1, min(BLOCKS // 2 // blocks, chunks // FEWEST))


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
        both, seam = apart(x)
        pool = pool and self._shares("forward", y, C) == 1
        pooled, winner = y, self.where.empty((1,), np.uint8)
        if pool:
            shape = N, y.shape[1] // 2, y.shape[2] // 2, self.K
            pooled, winner = self.where.empty(shape, x.dtype), self.where.empty(shape, np.uint8)
        given, rest = (*both, w, b, y, pooled, winner), (*seam, int(relu), int(pool))
        self._launch_mma("forward", C, y, given, rest, (b, y), (*y.shape[1:], int(relu)))
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
        given, rest = (dy, gate_by, w, dx, dskip), (S, Hs, Ws, int(x is not None))
        sizes = H, W, C, *rest
        self._launch_mma("backward_x", self.K, made, given, rest, (gate_by, dx, dskip), sizes)
        return made

    def _blocks(self, tile: Tile, made: Any) -> int:
        return prod(
            -(-a // b) for a, b in zip(made.shape[1:], (tile.h, tile.w, tile.k), strict=True)
        )

    def _shares(self, what: str, made: Any, D: int) -> int:
        tile = chosen(what, self.C, self.K, self.form)
        blocks = made.shape[0] * self._blocks(tile, made)
        return shares(blocks, -(-D // tile.depth))

    def _launch(self, what: str, made: Any, given: tuple, flag: int) -> Any:
        """Launch a general kernel, which makes `made`."""
        tile = chosen(what, self.C, self.K, self.form)
        grid, sizes = (self._blocks(tile, made), made.shape[0]), (*self.x_shape[1:], self.K, flag)
        self.where.launch(tile.unit, tile.entry, grid, tile.threads, *given, *sizes)
        return made

    def _launch_mma(
        self, what: str, D: int, made: Any, given: tuple, rest: tuple, to_sum: tuple, sizes: tuple
    ) -> Any:
        """Launch a kernel that sums over D channels and makes what is shaped like `made`, and, if
        they were dealt out, the one that adds up their shares."""
        tile, n = chosen(what, self.C, self.K, self.form), self._shares(what, made, D)
        parts = self.where.empty((n, *made.shape) if n > 1 else (1,))
        given = *given, parts, *self.x_shape[1:], self.K, *rest
        grid = self._blocks(tile, made), made.shape[0], n
        self.where.launch(tile.unit, tile.entry, grid, tile.threads, *given, shared=tile.shared)
        if n > 1:
            unit, entry = f"{MMA}:{self.form}", f"{MMA}_sum_{what}"
            self.where.each(unit, entry, made.size // 4, parts, *to_sum, made.size, n, *sizes)
        return made

    def backward_w(self, dy: Any, y: Any, x: Any, dw: Any, db: Any) -> None:
        """Write dw and db of dy, which is first gated by y unless that is None."""
        where, (N, H, W, C), K = self.where, x.shape, self.K
        tile = chosen("backward_w", C, K, self.form)
        n, parts = slabs(tile, N, H, W, C, K), (dw, db)
        if n > 1:
            parts = where.empty((n, *dw.shape)), where.empty((n, K))
        given: tuple[Any, ...] = (
            x,
            dy,
            dy if y is None else y,
            *parts,
            N,
            H,
            W,
            C,
            K,
            int(y is not None),
        )
        if self.tensor_cores:
            both, seam = apart(x)
            given = *both, dy, *parts, N, H, W, C, K, *seam
        grid = n, -(-C // tile.c), -(-K // tile.k)
        where.launch(tile.unit, tile.entry, grid, tile.threads, *given, shared=tile.shared)
        if n > 1:
            where.each(FFMA, "conv3x3_sum_slabs", dw.size + K, *parts, dw, db, n, dw.size, K)
