"""What the rungs of kernels/ladder are predicted to reach on a card: the table of its README.

    python -m bench.ladder                  for an H200; or another of bench/model.py by its name

One layer, 128 channels to 128 at 280 x 280. A kernel without copies in the background has three
rates of products a clock and multiprocessor: of bytes from L2, of requests to memory (one a clock,
for 32 lanes), of multiplications. The first rung is held to the least of them. The others copy,
then multiply: the time is that of L2 and that of the slower of the other two. Bytes and requests
are those that profile mode counts (of rungs 4 and 5: those of their headers, requests without those
that copy, which take less time than L2). The last kernels and cuDNN are predicted as bench/model.py
has it. Nothing here has been measured.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for `python -m bench.ladder`

from gpu_sides import tried
from launches import made_by
from model import L2_A_CLOCK, Card, card, cudnn, seconds
from turns import head, line, number

from unetcu.autograd import Tensor, no_grad
from unetcu.ops.conv3x3 import conv3x3
from unetcu.precision import FORMS

SIZE, CHANNELS = 282, 128
FLOPS = 18 * (SIZE - 2) ** 2 * CHANNELS**2
MADE = (1, SIZE - 2, SIZE - 2, CHANNELS)


class Rung(NamedTuple):
    """Counts for one product: bytes from L2 and requests of a lane; multiplied by `engine`."""

    name: str
    form: str
    bytes: float
    requests: float
    engine: str = "ffma"


RUNGS = (
    Rung("1 naive", "fp32", 5.0, 2),
    Rung("2 tiled", "fp32", 0.31, 2),
    Rung("3 registers", "fp32", 0.073, 1 / 2),
    Rung("conv3x3.cu", "fp32", 0.041, 1 / 16),
    Rung("4 mma", "tf32", 0.074, 1 / 13, "mma"),
    Rung("5 wgmma", "bf16", 0.094, 0, "wgmma"),
)


def limits(rung: Rung, on: Card) -> dict[str, float]:
    """Products a clock and multiprocessor, by what limits them."""
    clocks = 2 * on.multiprocessors * on.clock
    return {
        "L2": L2_A_CLOCK / rung.bytes,
        "requests": 32 / rung.requests if rung.requests else float("inf"),
        "multiplications": on.rate(rung.engine, rung.form) / clocks,
    }


def of_rung(rung: Rung, on: Card) -> tuple[float, str]:
    """(seconds, what limits it most)."""
    found = limits(rung, on)
    what, least = min(found.items(), key=lambda pair: pair[1])
    clocks = 1 / least
    if rung is not RUNGS[0]:
        clocks = 1 / found.pop("L2") + 1 / min(found.values())
    return FLOPS / 2 * clocks / (on.multiprocessors * on.clock), what


def of_launch(form: str, on: Card, variant: str = "") -> tuple[float, str]:
    """The same of the product's kernel for tensor cores."""

    def prepared(where: Any) -> Any:
        shapes = [(1, SIZE, SIZE, CHANNELS), (3, 3, CHANNELS, CHANNELS)]
        x, w = (Tensor.wrap(where.empty(s, FORMS[form]), where) for s in shapes)
        b = Tensor.wrap(where.empty((CHANNELS,)), where)

        def job() -> None:
            with tried(variant), no_grad():
                conv3x3(x, w, b, relu=True, precision=form)

        return job

    (launch,) = made_by(prepared)
    by_l2 = launch.block_bytes / (L2_A_CLOCK * on.clock)
    by_mma = launch.block_flops * on.multiprocessors / on.rate(launch.engine, form)
    return seconds(launch, on), "L2" if by_l2 > by_mma else "multiplications"


def table(on: Card) -> Iterator[str]:
    """Markdown."""
    yield head("rung", "format", "limited by", "TFLOP/s", "% of the floor", "% of cuDNN's speed")
    hopper = on.architecture == 90
    found = [(r.name, r.form, of_rung(r, on)) for r in RUNGS if hopper or r.engine != "wgmma"]
    found += [("conv3x3_mma.cu", form, of_launch(form, on)) for form in ("tf32", "tf32x3", "bf16")]
    if hopper:
        variant = "conv3x3_wgmma"
        found.append((f"{variant}.cu", "bf16", of_launch("bf16", on, variant)))
    for name, form, (time, what) in found:
        peer = cudnn(MADE, CHANNELS, on, form if form != "tf32x3" else "fp32")
        floor = on.floor(FLOPS, 0, form)
        shares = f"{100 * floor / time:.0f}", f"{100 * peer / time:.0f}"
        yield line(name, form, what, number(FLOPS / time / 1e12), *shares)


if __name__ == "__main__":
    known = card(" ".join(sys.argv[1:]) or "H200")
    if known is None:
        sys.exit("no such card in bench/model.py")
    print("\n".join(table(known)))
