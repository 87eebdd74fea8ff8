"""The scores on the page of a training run, against ones computed here, pixel by pixel."""

import re

import numpy as np
import pytest
from made_up_files import discs, pixels, put
from made_up_runs import cells, quick, tiny
from pagecheck import checked
from pagecheck import pixels as decoded

from unetcu import checkpoint, data
from unetcu.infer import whole
from unetcu.scores.instances import Rule, label_instances
from unetcu.train import train
from unetcu.training.samples import targets
from unetcu.training.validation import inference_tile


@pytest.fixture
def here(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go(files, **changes):
    return train(*files, out="r", settings=tiny(**{"lr": 0.01, **changes}))


def page_of(folder):
    return checked((folder / "r/report.html").read_bytes())


def answers(dataset, indices):
    """Probabilities of the best model, image by image."""
    best = checkpoint.load("r/best.safetensors")
    net = best.network()
    for i in indices:
        x = dataset.range.apply(dataset.images[i])
        yield whole(net, x, inference_tile(net.depth, max(x.shape[:2])))


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def objects(found, truth):
    """(AP50, SEG, matched, true, found) of one image, pair by pair."""
    true, made = ([ids == k for k in np.unique(ids) if k > 0] for ids in (truth, found))
    pairs = np.array([[iou(t, m) for m in made] for t in true]).reshape(len(true), len(made))
    hits = int((pairs > 0.5).sum())
    inside = [max([iou(t, m) for m in made if 2 * (t & m).sum() > t.sum()], default=0)
              for t in true]  # fmt: skip
    precision = hits / (len(true) + len(made) - hits)
    return precision, np.mean(inside), hits / len(true), len(true), len(made)


def test_scores_of_objects_and_pixels_are_right(here):
    files = cells(here, 8)
    learns = {
        "base": 4,
        "lr": 0.02,
        "average": 0.9,
        "balance": 1.0,
        "elastic": 0.0,
        "gray": 0.0,
        "scale": 0.0,
    }
    done = go(files, instances=True, epochs=40, val="pages 4-7", **learns)
    page = page_of(here)
    dataset = data.load(*files, instances=True)
    rule = Rule.from_dict(checkpoint.load("r/best.safetensors").meta["objects"])
    wanted, total = {}, np.zeros((2, 2), int)
    for i, p in zip(range(4, 8), answers(dataset, range(4, 8)), strict=True):
        t = targets(dataset.labels[i], tiny(instances=True), True)[0]
        guess = p[..., 1] > p[..., 0]
        counts = np.array([[((t == a) & (guess == b)).sum() for b in (0, 1)] for a in (0, 1)])
        total += counts
        found = label_instances(1 - p[..., 0], rule)
        both = counts[1, 1]
        wanted[f"images.tif[{i}]"] = [
            *objects(found, dataset.labels[i]),
            both / (counts.sum() - counts[0, 0]),
            2 * both / (2 * both + counts[0, 1] + counts[1, 0]),
            (counts[0, 1] + counts[1, 0]) / counts.sum(),
        ]
    rows = page.table("image", "AP50", "SEG", "matched", "true objects", "found", "IoU", "Dice")
    assert {r[0] for r in rows} == set(wanted)
    for row in rows:
        assert row[1:] == pytest.approx(wanted[row[0]], abs=1e-12)
    ap = [r[1] for r in rows]
    assert ap == sorted(ap)
    assert len(set(ap)) > 1, "the order can be seen"
    head = {r[0]: r[1] for r in page.table("score", "value")}
    all_iou = total[1, 1] / (total.sum() - total[0, 0])
    assert head["IoU"] == pytest.approx(all_iou, abs=1e-12)
    assert head["pixel error"] == pytest.approx((total[0, 1] + total[1, 0]) / total.sum())
    best = [r for r in done.rows if r["best"]][-1]
    assert (round(head["IoU"], 5), head["loss"]) == (best["iou"], best["val_loss"])
    weight = sum(w[3] for w in wanted.values())
    assert head["matched"] == pytest.approx(sum(w[2] * w[3] for w in wanted.values()) / weight)
    assert head["SEG"] == pytest.approx(sum(w[1] * w[3] for w in wanted.values()) / weight)
    assert head["AP50"] == pytest.approx(np.mean([w[0] for w in wanted.values()]))
    each = page.table("class", "true pixels", "precision", "recall", "IoU", "Dice")
    for k in (0, 1):
        assert each[k][1:4] == pytest.approx(
            [total[k].sum(), total[k, k] / total[:, k].sum(), total[k, k] / total[k].sum()]
        )
    matrix = page.table("", "predicted background", "predicted object")
    for k, row in enumerate(matrix):
        for cell, count in zip(row[1:], total[k], strict=True):
            number = f"{count:,}".replace(",", "\u202f")
            assert cell == f"{number}{count / total[k].sum():.2%}"
    listed = {r[0].replace(" ", "_"): r[1] for r in page.table("", "value", "what it says")[:7]}
    said = {k: {True: "yes", False: "no"}.get(v, f"{v:g}") if isinstance(v, bool) else f"{v:g}"
            for k, v in rule.to_dict().items()}  # fmt: skip
    assert listed == said
    figures = re.findall(r"<figcaption><b>([^<]*)</b>", page.source)
    assert figures == [r[0] for r in rows], "pictures stand in the order of the table"


def test_many_classes_colour_and_ignored_pixels(here):
    _, ids = discs(4, 44, 48, radius=6)
    t = np.where(ids > 0, 1 + ids % 2, 0).astype(np.uint8)
    t[:, :5] = 255
    images = put(here / "rgb.tif", pixels(4, 44, 48, channels=3))
    labels = put(here / "t.tif", t)
    go([images, labels], ignore=255, classes=3, val="pages 1,2")
    page = page_of(here)
    dataset = data.load(images, labels, classes=3, ignore=255)
    total = np.zeros((3, 3), int)
    wanted = {}
    for i, p in zip((1, 2), answers(dataset, (1, 2)), strict=True):
        known, guess = t[i] != 255, p.argmax(2)
        for a in range(3):
            for b in range(3):
                total[a, b] += (known & (t[i] == a) & (guess == b)).sum()
        wanted[f"rgb.tif[{i}]"] = (guess != t[i])[known].mean()
    assert total.sum() == 2 * 39 * 48
    each = page.table("class", "true pixels")
    assert [r[1] for r in each] == total.sum(1).tolist()
    for row in page.table("image", "IoU", "Dice", "pixel error"):
        assert row[3] == pytest.approx(wanted[row[0]])
    assert "class 2" in page.sections["What it sees"]
    assert "Every object" not in page.text
    layers = [panels_of(page, f"image-{i}-truth") for i in (1, 2)]
    for layer in layers:
        assert (layer[:5, :, 3] == 255).all()
        assert set(np.unique(layer[:5, :, :3])) == {90, 150}, "ignored pixels are hatched"
        assert set(np.unique(layer[5:, :, 3])) <= {0, 96, 255}


def panels_of(page, name):
    return decoded(next(a["href"] for a in page.of("image") if a.get("id") == name))
