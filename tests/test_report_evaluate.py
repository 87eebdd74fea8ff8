"""The page of `unetcu evaluate --html`: the same numbers, the worst first, and what it refuses."""

import json

import numpy as np
import pytest
from made_up_files import discs, put
from pagecheck import checked

from unetcu.cli import main
from unetcu.evaluate import evaluate
from unetcu.report import parts
from unetcu.report.parts import Reliability, confusion
from unetcu.scores.metrics import Confusion


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Images, ids, and a prediction that is worse from page to page, in no order."""
    monkeypatch.chdir(tmp_path)
    images, ids = discs(4, 80, 90, radius=7)
    found = np.stack([np.roll(page, k, 1) for page, k in zip(ids, (3, 0, 6, 1), strict=True)])
    put(tmp_path / "i.tif", images), put(tmp_path / "t.tif", ids), put(tmp_path / "p.tif", found)
    return tmp_path


def run(capsys, *words):
    code = main(["evaluate", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def page_of(path="e.html"):
    with open(path, "rb") as file:
        return checked(file.read())


def test_objects_the_worst_first_with_images(files, capsys):
    words = ["p.tif", "t.tif", "--instances", "--html", "e.html", "--images", "i.tif"]
    code, out, _ = run(capsys, *words, "--json")
    assert code == 0
    result = json.loads(out)
    page = page_of()
    head = {r[0]: r[1] for r in page.table("score", "value", "what it says")}
    s = result["scores"]
    assert head == {"pixel error": s["pixel_error"], "IoU": s["iou"], "Dice": s["dice"],
                    "SEG": s["seg"], "AP50": s["ap50"], "matched": s["matched"]}  # fmt: skip
    rows = page.table("page", "AP50", "pixel error", "IoU", "Dice", "SEG", "matched")
    assert [r[0] for r in rows] == [f"p.tif[{k}]" for k in (2, 0, 3, 1)]
    for row in rows:
        of = next(p for p in result["pages"] if p["name"] == row[0])
        keys = ("ap50", "pixel_error", "iou", "dice", "seg", "matched")
        assert row[1:] == [of[k] for k in keys]
    assert page.texts["title"] == "p.tif against t.tif: unetcu evaluate"
    assert len(page.of("input")) == 4
    assert len(page.of("image")) == 16
    captions = page.source.split("<figcaption><b>")[1:]
    assert [c.partition("<")[0] for c in captions] == [r[0] for r in rows]


def test_probabilities_confusion_and_ignored_pixels(files, capsys):
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, (3, 40, 50)).astype(np.uint8)
    p = np.clip(truth * 0.5 + rng.random(truth.shape) * 0.6, 0, 1).astype(np.float32)
    marked = np.where(rng.random(truth.shape) < 0.1, 9, truth).astype(np.uint8)
    put(files / "prob.tif", p), put(files / "mask.tif", marked)
    words = ["prob.tif", "mask.tif", "--ignore", "9", "--threshold", "0.6", "--html", "e.html"]
    assert run(capsys, *words)[0] == 0
    page = page_of()
    known = marked != 9
    guess = p > np.float32(0.6)
    total = [[int((known & (truth == a) & (guess == b)).sum()) for b in (0, 1)] for a in (0, 1)]
    each = page.table("class", "true pixels", "precision", "recall")
    assert [r[1] for r in each] == [sum(row) for row in total]
    assert each[1][2] == pytest.approx(total[1][1] / (total[0][1] + total[1][1]))
    assert each[1][3] == pytest.approx(total[1][1] / sum(total[1]))
    bins = np.minimum((p[known] * 10).astype(int), 9)
    for k in np.unique(bins):
        x = p[known][bins == k].astype(float).mean()
        y = truth[known][bins == k].mean()
        assert f"probability of foreground {x:.4g}: measured {y:.5g}<" in page.source
    gaps = [abs(p[known][bins == k].astype(float).sum() - truth[known][bins == k].sum())
            for k in range(10)]  # fmt: skip
    assert f"by pixels: {sum(gaps) / known.sum():.4f}." in page.text
    assert "at threshold" in page.sections["Scores"]
    assert page.of("input") == []
    rows = [r[1] for r in page.table("page", "IoU")]
    assert rows == sorted(rows)


def test_scores_that_are_not_defined_come_last(files, capsys):
    ids = np.zeros((2, 30, 30), np.uint16)
    ids[1, 5:15, 5:15] = 1
    put(files / "a.tif", ids), put(files / "b.tif", np.maximum(ids, np.roll(ids, 2, 2)))
    assert run(capsys, "a.tif", "b.tif", "--instances", "--html", "e.html")[0] == 0
    rows = page_of().table("page", "AP50")
    assert [r[0] for r in rows] == ["a.tif[1]", "a.tif[0]"]
    assert rows[1][1] == "n/a"


def test_of_two_pages_with_nothing_found_the_one_with_more_wrong_pixels_comes_first(files, capsys):
    truth, found = np.zeros((2, 2, 30, 30), np.uint16)
    truth[0, 5:10, 5:10], truth[1, 5:15, 5:15] = 1, 2
    found[:, 20:25, 20:25], found[:, :3, 20:25] = 3, 4
    put(files / "a.tif", found), put(files / "b.tif", truth)
    assert run(capsys, "a.tif", "b.tif", "--instances", "--html", "e.html")[0] == 0
    rows = page_of().table("page", "AP50", "pixel error")
    assert [r[:2] for r in rows] == [["a.tif[1]", 0.0], ["a.tif[0]", 0.0]]


def test_the_same_bytes_wherever_the_files_are(files, capsys):
    words = ["--instances", "--html"]
    run(capsys, "p.tif", "t.tif", *words, "a.html", "--images", "i.tif")
    run(capsys, files / "p.tif", files / "t.tif", *words, "b.html", "--images", files / "i.tif")
    assert (files / "a.html").read_bytes() == (files / "b.html").read_bytes()
    assert str(files).encode() not in (files / "b.html").read_bytes()


def test_nothing_is_written_over_unless_asked(files, capsys):
    (files / "e.html").write_text("mine")
    words = ["p.tif", "t.tif", "--instances", "--html", "e.html"]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("unetcu evaluate: e.html exists already")
    assert err.count("\n") == 1
    assert (files / "e.html").read_text() == "mine"
    code, out, _ = run(capsys, *words, "--overwrite")
    assert code == 0
    assert "pixel error" in out
    page_of()
    assert sorted(f.name for f in files.iterdir()) == ["e.html", "i.tif", "p.tif", "t.tif"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["p.tif", "t.tif", "--instances", "--images", "i.tif"], "--html FILE"),
        (["p.tif", "t.tif", "--instances", "--overwrite"], "--html FILE"),
        (["p.tif", "t.tif", "--instances", "--html", "no/e.html"], "its folder does not exist"),
        (["p.tif", "t.tif", "--instances", "--html", "e.html", "--images", "short.tif"], "3 pages"),
        (["p.tif", "t.tif", "--instances", "--html", "e.html", "--images", "none.tif"], "none.tif"),
        (["p.tif", "none.tif", "--instances", "--html", "e.html"], "none.tif"),
        (["p.tif", "t.tif", "--instances", "--html", "t.tif", "--overwrite"], "written over"),
        (["p.tif", ".", "--instances", "--html", "./t.tif", "--overwrite"], "written over"),
        (["p.tif", "t.tif", "--html", "i.tif", "--images", "i.tif", "--overwrite"], "written over"),
    ],
)
def test_what_is_refused_leaves_no_file(files, capsys, words, says):
    put(files / "short.tif", np.zeros((3, 80, 90), np.uint8))
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(f.name for f in files.iterdir()) == ["i.tif", "p.tif", "short.tif", "t.tif"]


def test_folders_are_paired_by_name_and_hostile_names_stay_text(files, capsys):
    images, ids = discs(2, 60, 70, radius=6)
    name = "<img src=x onerror=alert(1)>&amp;\"'"
    for k, stem in enumerate([name, "b"]):
        put(files / "images" / f"{stem}.tif", images[k : k + 1])
        put(files / "truth" / f"{stem}_mask.tif", ids[k : k + 1])
        put(files / "found" / f"{stem}_instances.tif", np.roll(ids[k : k + 1], k, 1))
    result = evaluate("found", "truth", instances=True, html="e.html", images="images")
    page = page_of()
    rows = page.table("page", "AP50")
    assert {r[0] for r in rows} == {p["name"] for p in result["pages"]}
    assert f"{name}_instances.tif" in {r[0] for r in rows}
    assert page.of("img") == []


def test_a_confusion_of_many_classes_is_a_list(monkeypatch):
    counts = np.diag([50] * 20)
    counts[3, 4], counts[7, 1] = 9, 30
    made = confusion(Confusion(counts), [f"class {k}" for k in range(20)])
    page = checked_part(made)
    assert page.table("true class", "predicted as") == [
        ["class 7", "class 1", 30.0, f"{30 / 80:.2%}"],
        ["class 3", "class 4", 9.0, f"{9 / 59:.2%}"],
    ]
    assert len(page.table("class", "true pixels")) == 20
    assert parts.BINS == 10


def checked_part(made):
    from pagecheck import Page

    return Page(str(made).encode())


def test_reliability_by_hand():
    r = Reliability()
    p = np.array([0.0, 0.05, 0.95, 1.0, 1.0, 0.5])
    r.add(p, np.array([0, 1, 2, 1, 0, -1]))
    assert r.count.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert r.true.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert r.error == pytest.approx((abs(0.05 - 1) + abs(2.95 - 2)) / 5)
    assert np.isnan(Reliability().error)
    assert "nan" not in Reliability().drawing()
