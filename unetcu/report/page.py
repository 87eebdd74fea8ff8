"""Building blocks of a page: elements whose text is always escaped, tables, and the page around."""

import base64
import hashlib
import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..files.paths import shown

_HERE = Path(__file__).parent
_EMPTY = {"img", "input", "link", "meta", "br"}  # elements without an end


class Markup(str):
    """Text that is HTML already. Any other text is escaped where it becomes part of a page."""

    __slots__ = ()


def markup(content: object) -> Markup:
    """Markup as it is; everything else as escaped text, on one line, of characters that print."""
    return content if isinstance(content, Markup) else Markup(html.escape(shown(str(content))))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other."""
    return Markup(between.join(map(markup, parts)))


def el(name: str, /, *contents: object, **attributes: object) -> Markup:
    """<name ...>contents</name>.

    Attributes are escaped; `class_` stands for class, a_b for a-b. None: left out; True: no value.
    """
    start = name
    for key, value in attributes.items():
        if value is not None:
            key = key.rstrip("_").replace("_", "-")
            start += f" {key}" if value is True else f' {key}="{markup(value)}"'
    return Markup(f"<{start}>" if name in _EMPTY else f"<{start}>{join(contents)}</{name}>")


def whole(number: int) -> Markup:
    """A whole number with narrow spaces between thousands."""
    return Markup(f"{number:,}".replace(",", "&#8239;"))


def score(value: float | None) -> str:
    """A score as the commands print it."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.4f}"


def share(part: float, of: float) -> str:
    """A part in per cent."""
    return f"{part / of:.2%}" if of else "n/a"


def section(title: str, *contents: object) -> Markup:
    """A part of the page under a heading."""
    return el("section", el("h2", title), *contents)


def beside(*contents: object) -> Markup:
    """Parts side by side where there is room."""
    return el("div", *(el("div", c) for c in contents if c), class_="beside")


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: object = None,
    sortable: bool = False,
    class_: str | None = None,
) -> Markup:
    """A table. Numbers stand to the right: whole ones as they are, others as scores, None as n/a.

    sortable: a click on a column's head sorts by it (the page's script sees to that).
    """
    lines = [[_cell(cell, i == 0) for i, cell in enumerate(row)] for row in rows]
    numeric = [all('class="n"' in c for c in column) for column in zip(*lines, strict=True)]
    heads = [
        el("th", title, scope="col", class_="n" if n and i else None)
        for i, (title, n) in enumerate(zip(head, numeric or [False] * len(head), strict=True))
    ]
    names = " ".join(n for n in (class_, "sortable" if sortable else None) if n)
    inner = el(
        "table",
        el("caption", caption) if caption is not None else "",
        el("thead", el("tr", *heads)),
        el("tbody", *(el("tr", *line) for line in lines)),
        class_=names or None,
    )
    return el("div", inner, class_="wide")


def _cell(content: object, first: bool) -> Markup:
    if content is None or (isinstance(content, float) and math.isnan(content)):
        return el("td", "n/a", class_="n")
    if isinstance(content, float):
        return el("td", score(content), class_="n", data_v=repr(content))
    if isinstance(content, int):
        return el("td", whole(content), class_="n", data_v=content)
    return el("th", content, scope="row") if first else el("td", content)


def document(title: str, *body: Markup) -> bytes:
    """The whole page, UTF-8. Only its own style and script may be used, and pictures in it."""
    style, script = (_text(name) for name in ("report.css", "report.js"))
    rules = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{rules}">'),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        el("style", style),
    )
    page = el("html", head, el("body", el("main", *body), el("script", script)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n".encode()


def _text(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    """How a policy names the one text that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
