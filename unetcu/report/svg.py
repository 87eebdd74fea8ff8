"""Curves as inline SVG: lines with names at their ends, and every value told where one points."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from .page import Markup, el, join

WIDTH, HEIGHT = 460, 262
LEFT, RIGHT, TOP, BOTTOM = 50, 112, 36, 38  # margins; the names of the lines stand in the right one
_MOST_DOTS = 200  # of a line that can be pointed at


class Line(NamedTuple):
    """name: at its end. colour: a class of report.css. points: (x, y), finite, x ascending."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_name: str,
    y_name: str,
    log: bool = False,
    low: float | None = None,
    high: float | None = None,
    best: float | None = None,
) -> Markup:
    """One chart. log: if all values are above 0. low, high: ends of the y axis that are fixed.

    best: the x that is marked. Empty markup where no line has a point.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    log = log and min(ys) > 0
    bottom, top = min(ys) if low is None else low, max(ys) if high is None else high
    if log:
        bottom, top = bottom / 1.1, top * 1.1
    elif top <= bottom:
        bottom, top = bottom - 0.5 * (abs(bottom) or 1), top + 0.5 * (abs(top) or 1)
    first, last = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    right, base = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at_x(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (right - LEFT)

    def at_y(y: float) -> float:
        if log:
            part = math.log(y / bottom) / math.log(top / bottom)
        else:
            part = (y - bottom) / (top - bottom)
        return base - part * (base - TOP)

    parts = []
    for y in _decades(bottom, top) if log else _ticks(bottom, top):
        parts.append(_line(LEFT, at_y(y), right, at_y(y), "grid"))
        parts.append(_text(LEFT - 6, at_y(y) + 4, f"{y:g}", "end"))
    for x in _ticks(first, last, whole=x_name == "epoch"):
        parts.append(_line(at_x(x), base, at_x(x), base + 4, "axis"))
        parts.append(_text(at_x(x), base + 16, f"{x:g}", "middle"))
    parts.append(_line(LEFT, base, right, base, "axis"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 6, x_name, "middle"))
    parts.append(_text(4, 12, y_name, "start"))
    if best is not None:
        parts.append(_line(at_x(best), TOP, at_x(best), base, "best"))
        parts.append(_text(at_x(best), 28, f"best: {best:g}", "middle"))
    for line in lines:
        places = [(at_x(x), at_y(y)) for x, y in line.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(el("path", d=path, class_=f"{line.colour}{' dashed' if line.dashed else ''}"))
        step = math.ceil(len(places) / _MOST_DOTS)
        size = 2.5 if len(places) <= 40 else 1.2
        for (x, y), (px, py) in list(zip(line.points, places, strict=True))[::step]:
            told = el("title", f"{x_name} {x:.4g}: {line.name} {y:.5g}")
            dot = el("circle", cx=f"{px:.1f}", cy=f"{py:.1f}", r=size)
            halo = el("circle", cx=f"{px:.1f}", cy=f"{py:.1f}", r=7, class_="halo")
            parts.append(el("g", told, halo, dot, class_=f"dot {line.colour}"))
    for line, y in zip(lines, _apart([at_y(n.points[-1][1]) for n in lines]), strict=True):
        x = at_x(line.points[-1][0]) + 8
        parts.append(_text(x, y + 4, line.name, "start", f"name {line.colour}"))
    ends = join((f"{n.name} {n.points[-1][1]:.4g}" for n in lines), ", ")
    return el(
        "figure",
        el("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
           aria_label=f"{title}; at the end: {ends}"),
        el("figcaption", title),
        class_="chart",
    )  # fmt: skip


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return el("line", **{k: f"{v:.1f}" for k, v in ends.items()}, class_=kind)


def _text(x: float, y: float, text: str, anchor: str, kind: str | None = None) -> Markup:
    return el("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Some five round numbers from low to high."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from low to high; of many, the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    found = [float(f"{s}e{p}") for p in powers for s in steps]
    return [y for y in found if low <= y <= high] or [float(f"{low:.2g}"), float(f"{high:.2g}")]


def _apart(places: Sequence[float], least: float = 14) -> list[float]:
    """Heights of names: each near its own place, none on another."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    placed = list(places)
    for before, i in itertools.pairwise(order):
        placed[i] = max(placed[i], placed[before] + least)
    over = max(0.0, max(placed) - (HEIGHT - BOTTOM))
    return [y - over for y in placed]
