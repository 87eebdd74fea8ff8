"""The command `unetcu evaluate`: its table, its JSON, and what it refuses."""

import json

import numpy as np
import pytest
from made_up_files import put
from test_evaluate import cells, neurites

from unetcu.cli import main
from unetcu.evaluate import evaluate

IDS = ("--instances",)


def run(capsys, *words):
    code = main(["evaluate", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_table_names_what_was_compared_and_every_score(tmp_path, capsys):
    probability, truth = neurites()
    files = put(tmp_path / "p.tif", probability), put(tmp_path / "t.tif", truth)
    code, out, err = run(capsys, *files)
    scores = evaluate(*files)["scores"]
    assert (code, err) == (0, "")
    assert out.startswith("probability of foreground above 0.5, against 2 classes: 2 pages\n")
    rows = {line[:17].strip(): line[17:].split()[0] for line in out.splitlines()[2:]}
    assert rows == {
        "pixel error": f"{scores['pixel_error']:.4f}",
        "IoU": f"{scores['iou']:.4f}",
        "Dice": f"{scores['dice']:.4f}",
        "V_Rand": f"{scores['v_rand']:.4f}",
        "V_Info": f"{scores['v_info']:.4f}",
        "Rand error": f"{scores['rand_error']:.4f}",
        "ISBI pixel error": f"{scores['isbi_pixel_error']:.4f}",
    }
    assert f"{scores['iou_0']:.4f}, {scores['iou_1']:.4f}" in out
    best = evaluate(*files)["best_threshold"]["v_rand"]
    assert f"mean over pages; at threshold {best:g}\n" in out
    assert "p.tif[1]" not in out


def test_pages_are_listed_when_asked_for(tmp_path, capsys):
    ids = cells()
    ids[1] = 0
    wrong = np.roll(ids, 1, 2)
    files = put(tmp_path / "p.tif", wrong), put(tmp_path / "t.tif", ids)
    _, out, _ = run(capsys, *files, "--instances", "--pages")
    pages = evaluate(*files, instances=True)["pages"]
    lines = out.splitlines()
    assert lines[0] == "instance ids, against instance ids: 3 pages"
    assert lines[2].split() == ["page", "pixel", "error", "IoU", "Dice", "SEG", "AP50", "matched"]
    assert lines[3].split() == [
        "p.tif[0]",
        *(f"{pages[0][k]:.4f}" for k in ("pixel_error", "iou", "dice", "seg", "ap50", "matched")),
    ]
    assert lines[4].split()[4:] == ["n/a"] * 3


def test_json_is_the_function_s_answer_and_nothing_else(tmp_path, capsys):
    ids = cells()
    ids[1] = 0
    files = put(tmp_path / "p.tif", ids), put(tmp_path / "t.tif", ids)
    code, out, err = run(capsys, *files, "--instances", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == evaluate(*files, instances=True)


@pytest.mark.parametrize(
    ("predicted", "truth", "words", "says"),
    [
        (np.zeros((2, 8, 8), np.uint8), cells(3), IDS, "predicted: 2, pages of truth: 3"),
        (np.zeros((3, 40, 41), np.uint8), cells(3), IDS, "40 × 41 pixels and its truth"),
        (np.zeros((3, 41, 40), np.uint8), cells(3), IDS, "41 × 40 pixels and its truth"),
        (cells(3), cells(3) > 0, (), "for instance ids say --instances"),
        (np.full((3, 40, 40), 1.5, np.float32), cells(3), IDS, "p.tif[0] holds 1.5"),
        (np.full((3, 40, 40), -0.5, np.float32), cells(3), IDS, "holds -0.5: a prob"),
        (cells(3), cells(3), (), "pass --instances"),
        (np.zeros((3, 40, 40), np.float32), cells(3) % 3, ("--classes", "3"), "the class mask"),
        (np.zeros((3, 40, 40, 3), np.uint8), cells(3), IDS, "3 channels"),
        (cells(3), cells(3), ("--threshold", "2"), "--threshold 2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, capsys, predicted, truth, words, says):
    files = put(tmp_path / "p.tif", predicted), put(tmp_path / "t.tif", truth.astype(np.uint16))
    code, out, err = run(capsys, *files, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("unetcu evaluate: ")
    assert says in err


def test_options_reach_the_function_and_notes_go_to_stderr(tmp_path, capsys):
    mask = 255 * (cells() > 0).astype(np.uint8)
    mask[:, 30:] = 3
    files = put(tmp_path / "p.tif", mask // 255), put(tmp_path / "t.tif", mask)
    code, out, err = run(capsys, *files, "--instances", "--ignore", "3")
    assert code == 0
    assert out.startswith("class mask, its connected parts as objects, against instance ids: 3")
    assert err == "t.tif holds one value besides 0: its connected parts are the objects\n"
    assert "pixel error      0.0000" in out
    _, out, _ = run(capsys, *files, "--ignore", "3")
    assert out.startswith("class mask, against 2 classes")
    _, out, _ = run(capsys, files[0], files[0], "--classes", "4")
    assert out.startswith("class mask, against 4 classes")
    assert "1.0000, 1.0000, n/a, n/a" in out
    half = put(tmp_path / "h.tif", mask.astype(np.float32) / 510)  # 0.5 inside
    _, low, _ = run(capsys, half, files[1], "--ignore", "3", "--threshold", "0.4")
    assert low.startswith("probability of foreground above 0.4, against 2 classes")
    assert "pixel error      0.0000" in low


def test_files_that_are_not_there_are_named(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path / "p.tif", tmp_path / "t.tif")
    assert code == 2
    assert "t.tif" in err
