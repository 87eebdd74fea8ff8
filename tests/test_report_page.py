"""The blocks that pages are made of: escaping, tables, charts, and the page around them."""

import math
import re

import pytest
from pagecheck import Page, checked, digest

from unetcu.report.page import Markup, document, el, join, markup, score, share, table, whole
from unetcu.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, chart

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' x='",
    "&lt;b&gt; &amp; ]]> -->",
    "two\nlines\ttab\r\x00",
    "caf\udce9",
    "\u202ertl \u2028 \U000e0001",
    "{{7*7}} ${x} %s {0}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_and_attributes_stay_text(text):
    page = document(text, el("h1", text), el("p", text, title=text, class_=None))
    found = checked(page)
    assert [t for t, _ in found.tags].count("p") == 1
    assert set(found.of("p")[0]) == {"title"}
    said = found.of("p")[0]["title"]
    assert found.texts["title"] == said
    assert found.text.count(said) == 2
    assert "\n" not in said
    if text.isprintable():
        assert said == text
    else:
        assert said != text
        assert "\\" in said
        assert said.isprintable()
    rows = Page(str(table([text, "b"], [[text, 1]], caption=text)).encode()).tables[0]
    assert rows == [[[said, None], ["b", None]], [[said, None], ["1", "1"]]]


def test_elements():
    assert el("p") == "<p></p>"
    assert el("input", min=0, hidden=True, class_=None, aria_label="a<b") == (
        '<input min="0" hidden aria-label="a&lt;b">'
    )
    assert el("svg", el("g"), viewBox="0 0 1 1") == '<svg viewBox="0 0 1 1"><g></g></svg>'
    assert markup(Markup("<b>")) == "<b>"
    assert join(["<", el("b", "x"), 3], ", ") == "&lt;, <b>x</b>, 3"
    assert (whole(1234567), whole(12)) == ("1&#8239;234&#8239;567", "12")
    assert (score(0.12345), score(None), score(math.nan)) == ("0.1235", "n/a", "n/a")
    assert (share(1, 3), share(0, 0)) == ("33.33%", "n/a")


def test_tables_hold_numbers_to_sort_by():
    made = table(["name", "score", "n"], [["a", 1 / 3, 1500], ["b", None, 2], ["c", math.nan, 0]],
                 sortable=True)  # fmt: skip
    page = Page(str(made).encode())
    assert page.tables[0][1:] == [
        [["a", None], ["0.3333", repr(1 / 3)], ["1\u202f500", "1500"]],
        [["b", None], ["n/a", None], ["2", "2"]],
        [["c", None], ["n/a", None], ["0", "0"]],
    ]
    assert page.of("table")[0]["class"] == "sortable"
    assert [a.get("class") for a in page.of("th")[:3]] == [None, "n", "n"]
    assert Page(str(table(["a"], [])).encode()).tables == [[[["a", None]]]]


def test_the_page_trusts_its_own_script_and_style_only():
    page = checked(document("t", el("h1", "t")))
    assert digest(page.texts["script"]) in page.source
    assert 'lang="en"' in page.source
    assert "</script" not in page.texts["script"]
    assert "innerHTML" not in page.texts["script"]


def drawn(*lines, **options):
    made = chart("A title", lines, x_name="epoch", y_name="loss", **options)
    return Page(str(made).encode())


def dots(page):
    """(x, y) of every point, in the drawing."""
    circles = [a for a in page.of("circle") if a.get("class") != "halo"]
    return [(float(a["cx"]), float(a["cy"])) for a in circles]


def test_points_lie_where_their_numbers_say():
    points = [(1.0, 0.0), (2.0, 1.0), (5.0, 0.25)]
    page = drawn(Line("one", "blue", points), low=0, high=1, best=2.0)
    places = dots(page)
    assert [x for x, _ in places] == [LEFT, LEFT + (WIDTH - LEFT - RIGHT) / 4, WIDTH - RIGHT]
    (_, zero), (_, one), (_, quarter) = places
    assert (one, zero) == (TOP, HEIGHT - BOTTOM)
    assert math.isclose(zero - quarter, (zero - one) / 4, abs_tol=0.1)
    path = page.of("path")[0]["d"]
    assert re.findall(r"[\d.]+", path) == [f"{v:.1f}" for place in places for v in place]
    best = [a for a in page.of("line") if a["class"] == "best"]
    assert [float(best[0][k]) for k in ("x1", "x2")] == [places[1][0]] * 2
    assert "epoch 5: one 0.25" in page.source
    assert "best: 2" in page.text
    assert page.of("svg")[0]["aria-label"] == "A title; at the end: one 0.25"


def test_a_logarithmic_axis():
    page = drawn(Line("one", "blue", [(1, 1.0), (2, 0.1), (3, 0.01)]), log=True)
    (_, a), (_, b), (_, c) = dots(page)
    assert math.isclose(b - a, c - b, abs_tol=0.11)
    assert {"0.01", "0.1", "1"} <= set(re.findall(r">([\d.]+)</text>", page.source))
    plain = drawn(Line("one", "blue", [(1, 1.0), (2, 0.0), (3, 0.01)]), log=True)
    (_, a), (_, b), (_, c) = dots(plain)
    assert c - a > 0.9 * (b - a), "with a 0 the axis is a plain one"


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-9, 5e8])
@pytest.mark.parametrize("log", [False, True])
def test_one_point_can_be_drawn(value, log):
    page = drawn(Line("one", "blue", [(1.0, value)]), log=log, best=1.0)
    ((x, y),) = dots(page)
    assert LEFT < x < WIDTH - RIGHT
    assert 0 < y < HEIGHT
    assert "nan" not in page.source


def test_nothing_to_draw_and_much_to_draw():
    assert chart("t", [Line("a", "blue", [])], x_name="x", y_name="y") == ""
    many = [(float(i), math.sin(i)) for i in range(5000)]
    page = drawn(Line("a", "blue", many), Line("b", "green", many))
    assert len(dots(page)) <= 2 * 200
    assert page.of("path")[0]["d"].count("L") == 4999
    names = [a for a in page.of("text") if "name" in (a.get("class") or "")]
    assert abs(float(names[0]["y"]) - float(names[1]["y"])) >= 14, "names do not cover each other"
