"""What each source line of a kernel would cost a GPU, counted without one.

The SIMT runtime's profile mode sees every load, store and floating-point operation of a kernel.
From the addresses follow the numbers that explain most of a kernel's speed:

    requests   instructions of a warp (32 threads) that go to memory
    sectors    pieces of 32 bytes that a request to global memory touches: 4 where 32 threads read
               neighbouring floats, 32 where they read far from each other
    ways       passes that a request to shared memory needs, for each pass it would need without
               bank conflicts: 1 at best, 32 at worst
    lanes      threads of the 32 that take part: fewer where a warp diverges

Time is not among them: caches, latency and the order of instructions are a GPU's own.
"""

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .. import kernel
from ..device.gpu import Call
from ..device.simt import Simt
from .work import Shape, launch_all

SECTOR = 32  # bytes
WIDTH = 100  # columns of a terminal

Row = dict[str, Any]  # see Row in kernels/simt/profiler.h


@dataclass
class Launch:
    """The launches of one kernel over one grid, added up."""

    unit: str
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int  # bytes of dynamic shared memory
    times: int = 0
    rows: dict[tuple, Row] = field(default_factory=dict)

    def add(self, rows: Iterable[Row]) -> None:
        """One launch more."""
        self.times += 1
        for row in rows:
            key = tuple(row[name] for name in _NAMES)
            known = self.rows.setdefault(key, {k: v if k in _NAMES else 0 for k, v in row.items()})
            for name in row.keys() - set(_NAMES):
                known[name] += row[name]


_NAMES = ("file", "line", "caller", "kind", "array")


@dataclass(frozen=True)
class Totals:
    """What some rows cost together."""

    flops: int
    requests: int  # to global memory
    sectors: int
    asked: int  # bytes that threads have asked of global memory
    shared_requests: int
    wavefronts: int
    ideal: int
    lanes: float  # of 32, over all instructions counted

    @property
    def moved(self) -> int:
        """Bytes between global memory and the multiprocessors, if no cache helped."""
        return self.sectors * SECTOR


def totals(rows: Iterable[Row]) -> Totals:
    """The sums over rows."""
    rows = list(rows)
    of = {"global": [r for r in rows if r["kind"].startswith("global")]}
    of["shared"] = [r for r in rows if r["kind"].startswith("shared")]

    def total(name: str, what: str | None = None) -> int:
        return sum(r[name] for r in (of[what] if what else rows))

    return Totals(
        total("flops"),
        total("requests", "global"),
        total("sectors", "global"),
        total("bytes", "global"),
        total("requests", "shared"),
        total("wavefronts"),
        total("ideal"),
        total("lanes") / max(1, total("requests")),
    )


class Recorder(Simt):
    """A simt device that profiles: its launches, one for each kernel and grid, in `launched`."""

    def __init__(self) -> None:
        super().__init__(("profile",))
        self.launched: dict[tuple, Launch] = {}

    def _start(self, call: Call) -> None:
        super()._start(call)
        made = Launch(call.unit, call.entry, call.grid, call.block, call.shared)
        same = self.launched.setdefault((call.entry, call.grid, call.block, call.shared), made)
        same.add(self.records.pop()[1])


def measure(work: Callable[[Recorder], Any]) -> list[Launch]:
    """Every kernel that `work` launches on the device it is given, in order of first launch."""
    where = Recorder()
    work(where)
    return list(where.launched.values())


def profile(stem: str, shape: Shape, channels: int) -> str:
    """A table of what the lines of kernels/<stem>.cu cost in one step, forward and backward.

    shape: N,H,W,C of the input. channels: of the output, or classes; ignored where the input says
    all. Values are made up. Raises ShapeError where the op cannot take such an input.
    """
    launches = measure(lambda where: launch_all(stem, shape, channels, where))
    own = [launch for launch in launches if launch.unit.partition(":")[0] == stem]
    others = [launch for launch in launches if launch not in own]
    parts = [table(launch) for launch in own]
    if others:
        names = ", ".join(f"{launch.entry} ({launch.times})" for launch in others)
        besides = f"launched besides, from other files: {names}"
        parts.append(textwrap.fill(besides, WIDTH, subsequent_indent="  "))
    return "\n\n".join(parts)


def table(launch: Launch) -> str:
    """What a kernel costs: sums, then each source line with what it does."""
    sums = totals(launch.rows.values())
    grid, block = ("x".join(map(str, _short(d))) for d in (launch.grid, launch.block))
    times = f", {launch.times} launches together" if launch.times > 1 else ""
    intensity = f" ({sums.flops / sums.moved:.2f} a byte)" if sums.moved else ""
    lines = [
        f"{launch.entry}: {grid} blocks of {block} threads{times}",
        f"  {_amount(sums.flops, 'FLOP')}{intensity}, {sums.lanes:.1f} of 32 lanes active",
    ]
    if sums.requests:
        lines.append(
            f"  global: {sums.requests:,} requests of {sums.sectors / sums.requests:.2f} sectors; "
            f"{_amount(sums.asked, 'B')} asked for, {_amount(sums.moved, 'B')} moved"
        )
    if sums.shared_requests:
        lines.append(
            f"  shared: {sums.shared_requests:,} requests, {sums.wavefronts / sums.ideal:.2f} ways"
        )
    lines.append(f"{'':24}{'requests':>12}{'lanes':>7}{'sectors':>9}{'ways':>7}{'FLOP':>12}")
    place = None
    for row in launch.rows.values():
        if place != (here := (row["file"], row["line"], row["caller"])):
            lines.append(_source(row))
            place = here
        lines.append(_cells(row))
    return "\n".join(lines)


def _cells(row: Row) -> str:
    each = row["requests"] or 1
    sectors = f"{row['sectors'] / each:.2f}" if row["sectors"] else ""
    ways = f"{row['wavefronts'] / row['ideal']:.2f}" if row["ideal"] else ""
    flops = f"{row['flops']:,}" if row["flops"] else ""
    what = " ".join(filter(None, (row["kind"], row["array"])))
    cells = f"    {what:20}{row['requests']:>12,}{row['lanes'] / each:>7.1f}"
    return f"{cells}{sectors:>9}{ways:>7}{flops:>12}".rstrip()


def _source(row: Row) -> str:
    """The line's place and text, and the line that called it where that is another file's."""
    place = f"{row['file'].removeprefix('kernels/')}:{row['line']}" if row["line"] else row["file"]
    text = ""
    file = kernel.KERNELS / row["file"].removeprefix("kernels/")
    if row["line"] and file.is_file():
        text = file.read_text("utf-8").splitlines()[row["line"] - 1].strip()
    caller = f"  <- {row['caller'].rpartition('/')[2]}" if row["caller"] else ""
    room = WIDTH - len(place) - len(caller) - 4
    shown = text if len(text) <= room else text[: room - 3] + "..."
    return f"  {place}  {shown}{caller}"


def _short(dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """Without the ones at the end: (4, 1, 1) is (4,)."""
    last = max((i for i, d in enumerate(dimensions) if d > 1), default=0)
    return dimensions[: last + 1]


def _amount(number: float, unit: str) -> str:
    """12345678 FLOP as "12.3 MFLOP"."""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000 or prefix == "T":
            return f"{number:.3g} {prefix}{unit}"
        number /= 1000
    raise AssertionError
