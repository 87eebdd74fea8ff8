"""What the report holds: a row for each thing that was timed, or predicted, and tables of them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from turns import head, line, number

US = "unetcu"


class Row(NamedTuple):
    """Times in ms. flops: of the formula, or 0; floor, predicted: of the model, None for a card
    that it does not know; error: relative L2, None where there is nothing to compare."""

    section: str  # "networks", "layers", ...
    case: str  # which layer, which input
    work: str  # "forward", "training step", ...
    precision: str
    who: str  # US, or PyTorch and in which way
    how: str  # "graph", "eager", "compiled"; "predicted" if it was not timed
    median: float
    least: float
    most: float
    rounds: int
    error: float | None = None
    flops: int = 0
    floor: float | None = None
    predicted: float | None = None

    @property
    def timed(self) -> bool:
        """Whether a clock has seen it."""
        return self.rounds > 0

    def as_json(self) -> dict[str, Any]:
        """Without what is not known."""
        return {k: v for k, v in self._asdict().items() if v is not None and v == v}


def of_times(ms: NDArray[np.float64]) -> dict[str, Any]:
    """The statistics of a row."""
    return {
        "median": float(np.median(ms)),
        "least": float(ms.min()),
        "most": float(ms.max()),
        "rounds": len(ms),
    }


NOT_TIMED: dict[str, Any] = dict.fromkeys(("median", "least", "most"), float("nan")) | {"rounds": 0}


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of a Markdown table: a row each, the peers of a case below it."""
    yield head(
        *("layer or input", "work", "precision", "by", "median ms", "min", "max", "TFLOP/s"),
        *("error", "% of the floor", "predicted ms", "PyTorch / unetcu"),
    )
    for row in rows:
        yield line(
            *(row.case, row.work, row.precision, f"{row.who}, {row.how}" if row.how else row.who),
            *(number(x) if row.timed else "" for x in (row.median, row.least, row.most)),
            f"{row.flops / row.median / 1e9:.3g}" if row.timed and row.flops else "",
            "" if row.error is None else f"{row.error:.1e}",
            f"{100 * row.floor / row.median:.0f}" if row.timed and row.floor else "",
            "" if row.predicted is None else number(row.predicted),
            ratio(row, rows),
        )


# The peers of a precision: as accurate, or less where there is no such.
LIKE = {"tf32x3": {"fp32"}, "fp16": {"fp16", "bf16"}}


def ratio(row: Row, rows: Iterable[Row]) -> str:
    """Of PyTorch's fastest median in a like precision to ours: above 1, unetcu is faster."""
    wanted = LIKE.get(row.precision, {row.precision})
    same = (r for r in rows if (r.case, r.work) == (row.case, row.work) and r.precision in wanted)
    peers = [r.median for r in same if not r.who.startswith(US) and r.timed]
    if not row.who.startswith(US) or not row.timed or not peers:
        return ""
    return f"{min(peers) / row.median:.2f}"
