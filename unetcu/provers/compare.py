"""The rungs of kernels/ladder beside each other: why each is faster than the one before, in counts
that need no GPU."""

import numpy as np

from .ladder import convolve, rungs
from .profile import Launch, Recorder, measure, totals
from .work import Shape

HEAD = [
    *("kernel", "global requests", "sectors each", "MB moved", "FLOP a byte"),
    *("shared requests", "ways", "FLOP a shared request"),
]


def compare(shape: Shape, channels: int) -> str:
    """A table (Markdown) of every rung and of conv3x3.cu, for one forward pass with ReLU.

    shape: N,H,W,C of the input; channels: of the output. A request is one instruction of a warp.
    """
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(s).astype(np.float32)
        for s in (shape, (3, 3, shape[3], channels), (channels,))
    ]

    def work(rung: str, where: Recorder) -> None:
        x, w, b = map(where.put, arrays)
        convolve(where, rung, x, w, b, relu=True)

    rows = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)]]
    for rung in [*rungs(), "conv3x3"]:
        (launch,) = measure(lambda where, rung=rung: work(rung, where))  # type: ignore[misc]
        rows.append([rung, *_cells(launch)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cells(launch: Launch) -> list[str]:
    t = totals(launch.rows.values())
    shared = t.shared_requests
    return [
        f"{t.requests:,}",
        f"{t.sectors / t.requests:.2f}",
        f"{t.moved / 1e6:.2f}",
        f"{t.flops / t.moved:.1f}",
        f"{shared:,}" if shared else "none",
        f"{t.wavefronts / t.ideal:.2f}" if shared else "",
        f"{t.flops / shared:.0f}" if shared else "",
    ]
