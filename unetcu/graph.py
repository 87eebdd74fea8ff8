"""A picture of a computation: the ops behind a tensor as text, or drawn as SVG."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any


@dataclass(frozen=True, eq=False)
class Node:
    """A tensor in the graph: what made it, its shape, and what it was made from."""

    label: str
    kind: str  # "op", "parameter" or "input"
    shape: tuple[int, ...]
    parents: tuple["Node", ...]


def nodes_of(ops: Iterable[Any]) -> list[Node]:
    """What ops (autograd.Op), the oldest first, were made from: leaves, inputs, and themselves."""
    nodes: dict[int, Node] = {}
    for op in ops:
        for s in op.sources:
            if isinstance(s, Node):
                nodes[id(s)] = s
            elif id(s) not in nodes:  # no op, for these stand there already
                nodes[id(s)] = Node(s.name or "parameter", "parameter", s.shape, ())
        parents = tuple(nodes[id(s)] for s in op.sources)
        nodes[id(op)] = Node(op.name, "op", op.out_shape, parents)
    return list(nodes.values())


@dataclass(frozen=True)
class Graph:
    """Nodes in the order they were computed, every parent before its children."""

    nodes: list[Node]

    def __str__(self) -> str:
        """One line a tensor: number, op, shape, and the numbers of its inputs."""
        number = {id(n): i for i, n in enumerate(self.nodes)}
        width = max(len(n.label) for n in self.nodes)
        lines = []
        for i, n in enumerate(self.nodes):
            made_from = ", ".join(f"#{number[id(p)]}" for p in n.parents) or n.kind
            size = "x".join(map(str, n.shape)) or "scalar"
            lines.append(f"#{i:<4}{n.label:<{width}}  {size:<20} {made_from}")
        return "\n".join(lines)

    def svg(self) -> str:
        """The graph drawn top to bottom, inputs and parameters beside the ops that use them."""
        row: dict[int, int] = {}
        for n in self.nodes:  # an op stands below everything it needs
            row[id(n)] = 1 + max((row[id(p)] for p in n.parents), default=-1)
        for n in reversed(self.nodes):  # a leaf stands just above its first use
            for p in n.parents:
                if not p.parents:
                    row[id(p)] = row[id(n)] - 1
        rows: dict[int, list[Node]] = defaultdict(list)
        for n in self.nodes:
            rows[row[id(n)]].append(n)
        box_w, box_h, gap_x, gap_y = 168, 36, 16, 26
        place = {
            id(n): (12 + i * (box_w + gap_x), 12 + r * (box_h + gap_y))
            for r, members in rows.items()
            for i, n in enumerate(sorted(members, key=lambda n: n.kind != "op"))
        }
        width = 12 + max(x for x, _ in place.values()) + box_w
        height = 12 + max(y for _, y in place.values()) + box_h
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]
        for n in self.nodes:
            x, y = place[id(n)]
            for p in n.parents:
                px, py = place[id(p)]
                parts.append(_arrow(px + box_w // 2, py + box_h, x + box_w // 2, y))
        fill = {"op": "#dbe9f6", "parameter": "#fde9c9", "input": "#e3f2df"}
        for n in self.nodes:
            x, y = place[id(n)]
            size = " × ".join(map(str, n.shape)) or "scalar"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{box_w}" height="{box_h}" rx="5" '
                f'fill="{fill[n.kind]}" stroke="#555"/>'
                f'<text x="{x + 8}" y="{y + 15}" font-weight="bold">{escape(n.label)}</text>'
                f'<text x="{x + 8}" y="{y + 29}" fill="#555">{size}</text>'
            )
        return "\n".join([*parts, "</svg>\n"])

    _repr_svg_ = svg  # notebooks draw it by themselves


def _arrow(x0: int, y0: int, x1: int, y1: int) -> str:
    middle = (y0 + y1) // 2
    return (
        f'<path d="M{x0} {y0} C{x0} {middle} {x1} {middle} {x1} {y1 - 4}" fill="none" '
        f'stroke="#888"/><path d="M{x1 - 4} {y1 - 7} L{x1} {y1} L{x1 + 4} {y1 - 7} Z" fill="#888"/>'
    )
