"""A page of HTML taken apart, with all that must hold of every page of ours."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = {"img", "input", "link", "meta", "br"}


class Page(HTMLParser):
    """tags: (name, attributes). text: what is read, without style and script. tables: each a list
    of rows of (text, data-v or None), the head first. sections: text by its heading."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.source = page.decode("utf-8")
        self.tags, self.tables, self.sections, self.stack = [], [], {}, []
        self.texts = {"style": "", "script": "", "title": "", "pre": ""}
        self.text, self.heading = "", ""
        self.feed(self.source)
        self.close()
        assert self.stack == [], "every element ends"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), "an attribute stands once"
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append(["", dict(attrs).get("data-v")])
        if tag == "h2":
            self.heading = ""

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/> in HTML")

    def handle_endtag(self, tag):
        assert self.stack, tag
        assert self.stack.pop() == tag

    def handle_data(self, data):
        for tag in self.texts:
            if tag in self.stack and "svg" not in self.stack:
                self.texts[tag] += data
        if {"style", "script", "head", "title"} & set(self.stack):
            return
        self.text += data
        if "h2" in self.stack:
            self.heading += data
        self.sections[self.heading] = self.sections.get(self.heading, "") + data
        if "td" in self.stack or "th" in self.stack:
            self.tables[-1][-1][-1][0] += data

    def of(self, name):
        """The attributes of every element of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]

    def table(self, *head):
        """The rows under this head: texts, and the values behind them where there are any."""
        for rows in self.tables:
            if [text for text, _ in rows[0]][: len(head)] == list(head):
                return [[t if v is None else float(v) for t, v in row] for row in rows[1:]]
        raise AssertionError(f"no table {head}")


def checked(page: bytes) -> Page:
    """The page, once it is seen to be whole, to need nothing beside it, and to say so."""
    found = Page(page)
    assert page.startswith(b"<!DOCTYPE html>\n")
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in found.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            target = attributes.get(name, "#")
            assert target.startswith("data:image/png;base64,") or target == "data:," or (
                target[:1] == "#" and target[1:] in ["", *ids]
            ), target[:80]  # fmt: skip
    own = found.texts["style"] + found.texts["script"]
    assert not re.search(r"https?:|url\(|@import|fetch|XMLHttp|innerHTML|eval", own)
    (policy,) = [a for a in found.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(part.split(" ", 1) for part in policy["content"].split("; "))
    assert allowed == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(found.texts["style"]),
        "script-src": digest(found.texts["script"]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert [len(found.of(n)) for n in ("style", "script", "h1", "title")][:3] == [1, 1, 1]
    for label in ("img", "input"):
        assert all(a.get("alt") or a.get("aria-label") for a in found.of(label))
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", found.text), "no date, no time"
    return found


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def pixels(uri: str) -> np.ndarray:
    """A data: URI as RGBA."""
    head, data = uri.split(",", 1)
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
        return np.asarray(picture.convert("RGBA"))
