"""Every launch of a piece of work, found out without doing it: what a cost model starts from.

Ops run on a device of kind "gpu" that launches nothing: each launch is checked as ever, then noted
with the bytes of its arrays, its multiplications and how they are dealt out to blocks. So what is
predicted are the launches that the network makes, not a copy of its plan.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from unetcu.device.boxes import of_boxes
from unetcu.device.gpu import Call, Gpu, signature
from unetcu.kernel import constants
from unetcu.ops._conv3x3_variants import VARIANTS, Tile, tile_of


class Launch(NamedTuple):
    """One launch. flops: of the formula; bytes: of all its arrays, each counted once. A block makes
    block_flops, those of the tile's edges included, and takes block_bytes from the L2 cache."""

    unit: str
    entry: str
    blocks: int
    flops: int
    bytes: int
    block_flops: float
    block_bytes: float
    threads: int = 0  # of a block
    shared: int = 0  # dynamic, bytes of a block

    @property
    def engine(self) -> str:
        """What multiplies: ffma (plain instructions), mma or wgmma."""
        return next((e for e in ("wgmma", "mma") if e in self.unit), "ffma")

    @property
    def form(self) -> str:
        """The format (precision.py)."""
        return self.unit.partition(":")[2] or "fp32"


class Notes(Gpu):
    """Keeps `launches_made`; its arrays are address space that nobody touches."""

    name, usual = "a GPU that is thought of", "bf16"

    def __init__(self) -> None:
        super().__init__()
        self.launches_made: list[Launch] = []

    def describe(self) -> str:
        """One line."""
        return self.name

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
        """An array of which nothing but the shape may be used."""
        return np.empty(shape, dtype)

    def put(self, array: np.ndarray) -> np.ndarray:
        """The place of a copy."""
        return self.empty(array.shape, array.dtype)

    def get(self, array: np.ndarray) -> np.ndarray:
        """Zeros: there are no values."""
        return np.zeros(array.shape, array.dtype)

    def synchronize(self) -> None:
        """Nothing."""

    def _copy(self, source: Any, target: Any) -> None:
        pass

    def owns(self, array: Any) -> bool:
        """Whether it is an array at all."""
        return isinstance(array, np.ndarray)

    def address(self, array: Any) -> int:  # noqa: ARG002
        return 0

    def _start(self, call: Call) -> None:
        self.launches_made.append(noted(call))


def made_by(work: Callable[[Notes], Callable[[], object]]) -> list[Launch]:
    """The launches of what `work(device)` returns, when it is done for the second time: those that
    prepare it are left out, and so is what is done once, such as rounding the weights."""
    where = Notes()
    job = work(where)
    job()
    where.launches_made.clear()
    job()
    return where.launches_made


def noted(call: Call) -> Launch:
    """A launch as the model sees it."""
    given = zip(signature(call.unit, call.entry), call.args, strict=True)
    size = {p.name: int(a) for p, a in given if isinstance(a, np.integer)}
    seen = (of_boxes(a) for a in call.args)
    arrays = {a.__array_interface__["data"][0]: a for a in seen if isinstance(a, np.ndarray)}
    flops, made, taken, blocks = _multiplications(call, size)
    total = sum(a.nbytes for a in arrays.values())
    a_block = made / blocks, taken / blocks, prod(call.block), call.shared
    return Launch(call.unit, call.entry, blocks, flops, total, *a_block)


def _multiplications(call: Call, size: dict[str, int]) -> tuple[int, float, float, int]:
    """(FLOPs of the formula, those that the blocks make, bytes that they take from L2, blocks).
    Where a block makes tile after tile, each counts as one."""
    stem, entry, blocks = call.unit.partition(":")[0], call.entry, prod(call.grid)
    if any(part in entry for part in ("_sum", "border")):
        return 0, 0.0, 0.0, blocks
    if stem.startswith("conv3x3"):
        (tile,) = (t for t in _tiles(call.unit) if t.entry == entry)
        return _conv3x3(call, tile, size.get("N", call.grid[1]), *(size[n] for n in "HWCK"))
    if stem.startswith("upconv2"):
        flops, side = 8 * size["P"] * size["C"] * size["K"], constants(call.unit)["TILE"]
        return flops, flops, flops / side * _width(call), blocks  # both factors, once for a square
    if stem == "conv1x1":
        flops = (
            2 * size["C"] * size["K"] * (size["P"] if "P" in size else size["count"] // size["C"])
        )
        return flops, flops, 0.0, blocks
    if stem == "head_loss":
        flops = 2 * (1 + 2 * size["wanted"]) * size["P"] * size["C"] * size["K"]
        return flops, flops, 0.0, blocks
    return 0, 0.0, 0.0, blocks


def _tiles(unit: str) -> list[Tile]:
    stem, _, form = unit.partition(":")
    return [tile_of(v, form or "fp32") for v in VARIANTS if v.stem == stem]


def _width(call: Call) -> int:
    return 2 if call.unit.endswith(("bf16", "fp16")) else 4


def _conv3x3(
    call: Call, tile: Tile, N: int, H: int, W: int, C: int, K: int
) -> tuple[int, float, float, int]:
    """A block loads its pixels with their border once (wgmma: eight bands, each with its own), and
    nine taps of the filters; of dw, pixels of both images."""
    flops, pixels = 18 * N * (H - 2) * (W - 2) * C * K, tile.h * tile.w
    border = (tile.h + 2) * (tile.w + 2)
    if "wgmma" in call.entry:
        border = (tile.h + 16) * (tile.w + 2)
    if tile.c:  # the weight gradient: grid x deals out the tiles
        tiles = N * -(-(H - 2) // tile.h) * -(-(W - 2) // tile.w)
        tiles *= call.grid[1] * call.grid[2]
        taken = border * tile.c + pixels * tile.k
        made = tiles * 18 * pixels * tile.c * tile.k
        return flops, made, tiles * taken * _width(call), prod(call.grid)
    D = C if "forward" in call.entry else K
    depth = -(-D // tile.depth) * tile.depth if tile.depth else D
    image = (N, H - 2, W - 2, K) if "forward" in call.entry else (N, H, W, C)
    blocks, shares = tile.count(image), call.grid[2]  # of the channels
    made, taken = 18 * pixels * tile.k * depth, depth * (border + 9 * tile.k) * _width(call)
    return flops, blocks * made, blocks * taken, blocks * shares
