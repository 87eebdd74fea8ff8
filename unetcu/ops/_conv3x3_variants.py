"""The kernels of conv3x3 on a GPU: which there are, and which of them does what.

Every kernel gives right results for all that it admits; which one is taken depends on the format
and the shape alone, and so do the order of additions and the bits.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import NamedTuple

from ..kernel import constants, formats
from ..precision import on_tensor_cores

MULTIPROCESSORS = 132  # an H200's
# What an H200 can do, for choices that depend on time.
PRODUCTS_A_CLOCK = {"conv3x3_wgmma": 1392, "conv3x3_mma": 1096}  # a multiprocessor, of 16 bits
SPEED = {"bf16": 1.0, "fp16": 1.0, "tf32": 1 / 2, "tf32x3": 1 / 6}
BYTES_A_CLOCK = 34  # that L2 gives it
MEMORY_A_CLOCK = 2360  # bytes that memory gives all of them
LAUNCH = 4600  # clocks
BETWEEN = 500  # clocks from the last product of a tile to the first of the next
BLOCKS = 2 * MULTIPROCESSORS  # what runs at once of most kernels
LONGEST = 64  # tiles a slab: longer sums round more
FEWEST = 4  # chunks of channels that are worth a share of their own


class Variant(NamedTuple):
    """One form of a kernel: the first row of the table that fits is taken, whatever the image's
    size; of a stem in QUICKEST, the row that makes the image soonest. (Their bits are the same,
    unless channels are dealt out to shares.) A stem is tried first if UNETCU_VARIANT names it
    ("conv3x3_wgmma"), one row of it if that is named ("conv3x3_wgmma/slim"); one in STUDY only
    then."""

    what: str  # forward, backward_x or backward_w
    stem: str
    suffix: str  # of the entry point
    prefix: str  # of its tile sizes among the constants of the file
    fits: Callable[[int, int], bool] = lambda C, K: True

    @property
    def name(self) -> str:
        """For UNETCU_VARIANT."""
        return f"{self.stem}/{self.prefix.lower()}"


FFMA, MMA, MMA_W = "conv3x3", "conv3x3_mma", "conv3x3_mma_w"
WGMMA, WGMMA_W = "conv3x3_wgmma", "conv3x3_wgmma_w"
STUDY = {WGMMA, WGMMA_W}  # not proved on hardware yet
QUICKEST = {WGMMA, MMA}
VARIANTS = (
    Variant("forward", WGMMA, "", "WIDE"),
    Variant("forward", WGMMA, "_slim", "SLIM"),
    Variant("forward", WGMMA, "_narrow", "NARROW"),
    Variant("forward", WGMMA, "_small", "SMALL"),
    Variant("backward_x", WGMMA, "", "WIDE"),
    Variant("backward_x", WGMMA, "_slim", "SLIM"),
    Variant("backward_x", WGMMA, "_narrow", "NARROW"),
    Variant("backward_x", WGMMA, "_small", "SMALL"),
    Variant("backward_w", WGMMA_W, "", ""),
    Variant("forward", MMA, "", "WIDE"),
    Variant("forward", MMA, "_narrow", "NARROW"),
    Variant("backward_x", MMA, "", "WIDE"),
    Variant("backward_x", MMA, "_narrow", "NARROW"),
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
    """What a block of `entry` owns at a time: h x w pixels, k filters; of dw, c channels x k
    filters. shared: bytes of dynamic shared memory; depth: channels that it sums at a time; pools:
    it can make the max-pool of what it makes."""

    unit: str
    entry: str
    threads: int
    shared: int
    h: int
    w: int
    c: int
    k: int
    depth: int = 0
    pools: bool = True

    def count(self, made: tuple[int, ...]) -> int:
        """How many there are in an image (N,P,Q,M)."""
        return made[0] * prod(
            -(-n // t) for n, t in zip(made[1:], (self.h, self.w, self.k), strict=True)
        )


@contextmanager
def studied(name: str) -> Iterator[None]:
    """Inside, the variants of a stem, or one, are tried as if UNETCU_VARIANT named it."""
    before = _asked.set((*_asked.get(), name))
    try:
        yield
    finally:
        _asked.reset(before)


_asked: ContextVar[tuple[str, ...]] = ContextVar("asked", default=())


def chosen(
    what: str,
    C: int,
    K: int,
    form: str = "fp32",
    made: tuple[int, ...] | None = None,
    pool: bool = False,
    admits: Callable[[str], bool] = lambda unit: True,
) -> Tile:
    """The kernel for these channels in this format; made: the shape of the image that it makes;
    pool: of which the max-pool is wanted, too; admits: whether the GPU can run a unit."""
    asked = (*os.environ.get("UNETCU_VARIANT", "").split(","), *_asked.get())
    mma = on_tensor_cores(form, C, K)
    fitting = (v for v in VARIANTS if v.what == what and mma == (v.stem != FFMA) and v.fits(C, K))
    known = [v for v in fitting if form in formats(v.stem) or v.stem == FFMA]
    stems = {name.partition("/")[0] for name in asked}
    rows = [v for v in known if v.stem not in STUDY or v.stem in stems]
    rows = [v for v in rows if v.stem == FFMA or admits(f"{v.stem}:{form}")]
    rows = [v for v in rows if v.name in asked] or rows
    tiles = [tile_of(v, form) for v in rows if v.stem == rows[0].stem]
    if made is None or rows[0].stem not in QUICKEST:
        return tiles[0]
    depth = C if what == "forward" else K
    return min(tiles, key=lambda tile: _clocks(tile, depth, made, pool))


def _clocks(tile: Tile, depth: int, made: tuple[int, ...], pool: bool) -> float:
    """That an image takes, as bench/model.py has it: rounds of tiles over the multiprocessors,
    each as long as its products or its bytes from L2 take, and BETWEEN; the launch that adds up
    shares of the channels; and the pass that pools, where the tile does not or holds shares."""
    stem, _, form = tile.unit.partition(":")
    rate, width = PRODUCTS_A_CLOCK[stem] * SPEED[form], 2 if SPEED[form] == 1 else 4
    chunks, tiles = -(-depth // tile.depth), tile.count(made)
    n = 1 if stem == WGMMA else shares(tiles, chunks)
    border = 16 if stem == WGMMA else 2  # rows of pixels: of eight bands, or of the tile
    products = 9 * tile.h * tile.w * tile.k * tile.depth / rate
    loaded = tile.depth * ((tile.h + border) * (tile.w + 2) + 9 * tile.k)
    a_chunk = max(products, width * loaded / BYTES_A_CLOCK)
    clocks = -(-tiles * n // MULTIPROCESSORS) * (-(-chunks // n) * a_chunk + BETWEEN)
    if n > 1:
        clocks += LAUNCH + (8 * n + width) * prod(made) / MEMORY_A_CLOCK
    if pool and (n > 1 or not tile.pools):
        clocks += LAUNCH + (1.25 * width + 0.25) * prod(made) / MEMORY_A_CLOCK
    return clocks


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
        h, w, block, places = (size[n] for n in ("TILE_H", "TILE_W", "BLOCK", "PLACES"))
        shared = places * (size["GROUP"] * (2 * w + 4 * (w + 2)) + 16)
        return Tile(unit, f"{WGMMA_W}_backward", size["THREADS"], shared, h, w, block, block)
    if v.stem == MMA_W:
        shared = 32 * (size["W_PIXELS"] + size["W_PATCH"]) * size["W_PITCH"]
        sides = size["W_TILE_H"], size["W_TILE_W"], size["BLOCK"], size["BLOCK"]
        return Tile(unit, f"{MMA_W}_backward", size["W_THREADS"], shared, *sides)
    k = size[v.prefix + "_M"]
    if v.stem == WGMMA:
        w, bytes_ = size[v.prefix + "_W"], size["FILTER_BYTES"]
        taps = bytes_ // (2 * size["CHUNK"] * k)
        shared = size["PATCHES"] * (4 * (w + 2) * size["GROUP"] + 16) + bytes_ + 16 * taps
        sides = size["TILE_H"], w, 0, k
        return Tile(unit, entry, size["THREADS"], shared, *sides, size["CHUNK"], w == 16)
    h = size[v.prefix + "_H"]
    if v.what == "backward_x":
        tap = k * size["PITCH"]
    else:
        tap = size["DEPTH"] * (k // size["PIECE"] + size["LONGER"])
    shared = 16 * (2 * (h + 2) * size["PATCH_W"] * size["PITCH"] + size["FILTERS"] * tap)
    return Tile(unit, entry, h * k // 8, shared, h, size["TILE_W"], 0, k, size["DEPTH"])


def slabs(tile: Tile, N: int, H: int, W: int, C: int, K: int) -> int:
    """Into how many parts the pixels are split whose sums make the weight gradient.

    As many as fill the GPU in one go, in several only where sums would grow long. A function of the
    shape alone, because it decides the order of additions, and so the bits.
    """
    tiles = N * -(-(H - 2) // tile.h) * -(-(W - 2) // tile.w)
    alone = tile.unit.startswith((MMA_W, WGMMA_W))  # one block fills a multiprocessor
    blocks = BLOCKS // 2 if alone else BLOCKS
    at_once = max(blocks // (-(-C // tile.c) * -(-K // tile.k)), 1)
    goes = max(-(-tiles // (LONGEST * at_once)), 1)
    share = -(-tiles // (goes * at_once))
    return -(-tiles // share)  # so that none is empty


def shares(blocks: int, chunks: int) -> int:
    """Into how many parts the channels are split that are summed: more than one where there are
    too few blocks for a GPU."""
    return max(1, min(BLOCKS // 2 // blocks, chunks // FEWEST))
