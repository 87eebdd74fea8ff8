"""The page of a training run: its numbers against ones computed here, what is shown, and when."""

import re
import shlex
import sys

import numpy as np
import pytest
import tifffile
from made_up_files import discs, put
from made_up_runs import cells, history, quick, tiny, weights
from pagecheck import checked
from test_resume import stopped

from unetcu import cli, data, threads
from unetcu.report import panels
from unetcu.train import train
from unetcu.training import loop
from unetcu.training.samples import balance
from unetcu.training.validation import validate


@pytest.fixture
def here(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go(files, out="r", **changes):
    return train(*files, out=out, settings=tiny(**{"lr": 0.01, **changes}))


def page_of(folder="r"):
    with open(f"{folder}/report.html", "rb") as file:
        return checked(file.read())


def test_curves_show_the_history_and_the_best_epoch(here):
    done = go(cells(here), instances=True, epochs=4)
    page = page_of()
    best = [r["epoch"] for r in done.rows if r["best"]][-1]
    for r in history(here / "r"):
        for name, key in (
            ("training", "loss"),
            ("validation", "val_loss"),
            ("IoU", "iou"),
            ("pixel error", "pixel_error"),
            ("objects matched", "matched"),
        ):
            told = f"epoch {r['epoch']}: {name} {float(r[key]):.5g}</title>"
            assert told in page.source, told
    assert page.source.count(f">best: {best}</text>") == 4
    assert f"marks the best epoch, {best}." in page.text


def test_the_best_epoch_need_not_be_the_last(here, monkeypatch):
    wanted = iter([0.5, 0.25, 0.75])

    def judge(net, examples, settings):
        scores = validate(net, examples, settings)
        scores.loss = next(wanted)
        return scores

    monkeypatch.setattr(loop, "validate", judge)
    go(cells(here), instances=True, epochs=4, patience=1)
    page = page_of()
    assert "It stopped early: no new best in 1 epochs." in page.text
    assert page.source.count(">best: 2</text>") == 4
    assert "that of epoch 2 of 3" in page.text
    assert ["loss", 0.25] in [r[:2] for r in page.table("score", "value")]


@pytest.mark.parametrize(
    ("weights", "says"),
    [({"balance": 1.0, "w0": 7.0}, "w0 = 7 and σ = 5 pixels"),
     ({"balance": 1.0, "w0": 0.0}, "border term is left out"),
     ({"balance": 0.0, "w0": 0.0}, "Every pixel counts 1")],
)  # fmt: skip
def test_the_weights_are_explained(here, weights, says):
    files = cells(here)
    go(files, instances=True, **weights, steps=1)
    told = page_of().sections["What counts in training"]
    assert says in told
    settings = tiny(instances=True, **weights)
    dataset = data.load(*files, instances=True)
    for k, w in enumerate(balance(dataset, [0, 1, 2], settings)):
        assert (f"{w:.3g} for class {k}" in told) == (weights["balance"] > 0)


def test_the_same_run_gives_the_same_bytes_wherever_it_is(here, monkeypatch):
    pages = []
    for folder in ("a", "b"):
        (here / folder).mkdir()
        monkeypatch.chdir(here / folder)
        files = cells(here / folder)
        go([f.name for f in files] if folder == "a" else files, instances=True)
        pages.append(page_of())
        threads.set_count(threads.count() + 1)
    threads.set_count(threads.count() - 2)
    one, two = (p.source for p in pages)
    assert str(here) not in two
    more = " Of files named by their whole path, only the last part is shown."
    assert one == two.replace(more, "")


def test_a_stopped_run_has_a_page_and_continued_that_of_an_undisturbed_one(here, capsys):
    files = [f.name for f in cells(here)]
    (here / "whole").mkdir()
    go(files, out="whole/r", instances=True, dropout=0.5)
    capsys.readouterr()
    part = stopped(4, lambda: go(files, instances=True, dropout=0.5))
    assert part.exit_code == 130
    assert capsys.readouterr().err.endswith(
        "all saved\nto continue: unetcu train -o r --resume\nlook at: r/report.html\n"
    )
    page = page_of()
    assert "It was interrupted: 7 steps were planned." in page.text
    assert "trained for 4 steps" in page.text
    assert "will be chosen when" in page.sections["How objects are found"]
    assert train(out="r", resume=True).exit_code == 0
    assert page_of().source == page_of("whole/r").source
    assert "interrupted" not in page_of().text
    assert "is in the model file" in page_of().sections["How objects are found"]


def test_a_finished_run_without_its_page_gets_it_when_resumed(here, capsys):
    go(cells(here), instances=True, patience=1, epochs=3)
    page, last = page_of().source, (here / "r/last.safetensors").read_bytes()
    (here / "r/report.html").unlink()
    train(out="r", resume=True)
    assert page_of().source == page
    assert (here / "r/last.safetensors").read_bytes() == last
    capsys.readouterr()
    train(out="r", resume=True)
    assert "nothing to continue" in capsys.readouterr().err


def test_stopped_before_the_first_epoch_there_is_no_page(here):
    stopped(2, lambda: go(cells(here), instances=True))
    assert not (here / "r/report.html").exists()


def test_without_validation_images_the_page_says_so(here):
    go(cells(here), instances=True, val="none")
    page = page_of()
    assert "There are no validation images" in page.sections["Scores"]
    assert not {"Validation images", "What it sees", "Pixels", "How objects are found"} & set(
        page.sections
    )
    assert "training" in page.sections["Course of the training"]
    assert page.table("setting", "value")
    assert len(page.of("img")) == 2, "the weight map"
    assert page.of("input") == []


def test_the_command_makes_the_run_again(here):
    files = [f.name for f in cells(here)]
    changes = {"instances": True, "val": "pages 0,2", "lr": 0.25, "symmetry": "none", "batch": 2}
    go(files, **changes)
    page = page_of()
    words = shlex.split(page.texts["pre"])
    told = "--steps 7 --batch 2 --lr 0.25 --tile 64 --depth 1 --base 2 --instances"
    told += " --val 'pages 0,2' --symmetry none"
    assert words == ["unetcu", "train", *files, *shlex.split(told)]
    assert cli.main([*words[1:], "-o", "again"]) == 0
    assert weights(here / "again/best.safetensors") == weights(here / "r/best.safetensors")
    again = page_of("again")
    assert again.source.replace("again", "r") == page.source.replace("again", "r")
    bold = set(re.findall(r'<th scope="row"><b>([^<]*)</b>', page.source))
    assert bold == {"steps", "batch", "lr", "tile", "depth", "base", "classes", "instances", "val",
                    "symmetry"}  # fmt: skip
    assert "0.25; default: 0.001" in page.text


def test_a_model_to_start_from_is_in_the_command_also_after_a_stop(here):
    files = [f.name for f in cells(here)]
    go(files, out="first", instances=True)
    start = "first/best.safetensors"
    settings = tiny(instances=True)
    stopped(4, lambda: train(*files, out="r", settings=settings, init_from=start))
    train(out="r", resume=True)
    assert page_of().texts["pre"].endswith(f" --init-from {start}")
    assert cli.main(["train", "--config", "r/config.toml", "-o", "again"]) == 0
    assert weights(here / "again/best.safetensors") == weights(here / "r/best.safetensors")


def test_a_negative_value_is_a_value_in_the_command(here):
    images, labels = cells(here)
    ids = tifffile.imread(labels).astype(np.int16)
    ids[:, :3] = -1
    go([images.name, put(here / "n.tif", ids).name], instances=True, ignore=-1, steps=1)
    words = shlex.split(page_of().texts["pre"])
    assert cli.main([*words[1:], "-o", "again"]) == 0


HOSTILE = [("<∕script><b>&quot;' x='1\n\u202e.tif", "<∕script><b>&quot;' x='1\\n\\u202e.tif")]
HOSTILE += [("caf\udce9.tif", "caf\\xe9.tif")] if sys.platform == "linux" else []


@pytest.mark.parametrize(("name", "said"), HOSTILE)
def test_hostile_names_stay_text(here, name, said):
    images, labels = cells(here)
    odd = images.rename(here / name)
    out = 'r"><script>alert(1)<'
    go([odd, labels], out=out, instances=True)
    page = checked((here / out / "report.html").read_bytes())
    assert page.texts["title"] == f"{out}: unetcu train"
    assert page.text.strip().startswith(out)
    rows = page.table("image", "AP50")
    assert rows[0][0] == f"{said}[3]"
    assert "ignored" in page.text
    assert [t for t, _ in page.tags].count("script") == 1
    assert "\u202e" not in page.source


def test_warnings_of_the_run_are_told_once(here):
    images, ids = discs(4, 44, 48, radius=6)
    images[3], ids[3] = images[0], ids[0]
    files = put(here / "i.tif", images), put(here / "t.tif", ids)
    stopped(4, lambda: go(files, instances=True, val="pages 3"))
    train(out="r", resume=True)
    page = page_of()
    assert page.sections["Warnings"].count("are the same image") == 1


def test_at_most_so_many_images_are_shown_and_the_page_stays_small(here, monkeypatch):
    monkeypatch.setattr(panels, "FEW", 2)
    monkeypatch.setattr("unetcu.report.run.MOST", 3)
    go(cells(here, 8), instances=True, val="pages 0-4", steps=1)
    page = page_of()
    rows = page.table("image", "AP50")
    assert len(rows) == 5
    figures = re.findall(r"<figcaption><b>([^<]*)</b>", page.source)
    assert figures == [r[0] for r in rows[:3]]
    assert "Shown are the 3 worst of 5." in page.text
    assert len(page.of("input")) == 3
