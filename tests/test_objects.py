"""The rule for objects is chosen on validation images, and stored in the model."""

import numpy as np
import pytest
import tifffile
from made_up_files import put
from made_up_runs import cells, quick, tiny

from unetcu import checkpoint, train
from unetcu.scores.instances import Rule, label_instances
from unetcu.scores.metrics import ObjectCounts
from unetcu.training import objects
from unetcu.training.objects import GAIN, choose
from unetcu.training.samples import Example
from unetcu.training.validation import Predicted, usual_rule


def example(ids):
    shape = ids.shape
    return Example(np.zeros((*shape, 1), "f"), (ids > 0).astype(np.int32), np.ones(shape, "f"), ids)


def touching_pairs(count=6):
    """Pairs of discs that touch, and a probability with a saddle of 0.7 between them."""
    y, x = np.mgrid[:60, : 80 * count]
    ids, p = np.zeros(y.shape, np.int32), np.zeros(y.shape, np.float32)
    for i in range(count):
        for side in (0, 1):
            r = np.hypot(y - 30, x - (80 * i + 28 + 22 * side))
            ids[(r < 12) & (ids == 0)] = 2 * i + side + 1
            p = np.maximum(p, np.clip(1.3 - r / 20, 0, 1).astype(np.float32))
    return ids, p


def seg_and_ap(ids, p, rule):
    counts = ObjectCounts.of(label_instances(p, rule), ids)
    return (counts.seg + counts.ap50) / 2


def test_objects_that_hang_together_call_for_summits():
    ids, p = touching_pairs()
    assert seg_and_ap(ids, p, Rule(grow=0)) < 0.3
    usual = usual_rule([example(ids)], 0)
    rule, reached, before = choose([(p, example(ids))], gap=0)
    assert before == seg_and_ap(ids, p, usual)
    assert reached == seg_and_ap(ids, p, rule) > 0.9
    assert rule.seed > rule.threshold
    assert rule.grow == 0


def test_summits_are_given_up_where_they_cut_what_belongs_together():
    ids, p = touching_pairs()
    pairs = (ids + 1) // 2
    assert seg_and_ap(pairs, p, usual_rule([example(pairs)], 0)) < 0.5
    rule, reached, _ = choose([(p, example(pairs))], gap=0)
    assert not rule.seed > 0.7
    assert reached > 0.9


def test_the_usual_rule_suits_the_sizes_of_the_objects():
    ids = np.zeros((100, 400), np.int32)
    areas = [100 * (i + 1) for i in range(11)]
    for i, area in enumerate(areas):
        ids.ravel()[4000 * i // 2 : 4000 * i // 2 + area] = i + 1
    assert np.bincount(ids.ravel())[1:].tolist() == areas
    assert usual_rule([example(ids)], 3) == Rule(
        seed=0.9, smooth=1.0, seed_size=60, min_size=20, grow=3
    )
    assert usual_rule([example(ids * 0)], 1).min_size == 0


def test_several_pages_count_together():
    ids, p = touching_pairs(2)
    apart = np.where(ids % 2, ids, 0)
    pages = [(p, example(ids)), (np.where(apart > 0, 0.9, 0.1).astype("f"), example(apart))]
    rule, reached, _ = choose(pages, gap=1)
    counts = [ObjectCounts.of(label_instances(p, rule), e.instances) for p, e in pages]
    total = counts[0] + counts[1]
    assert reached == pytest.approx((total.seg + total.ap50) / 2)


def test_what_changes_nothing_stays_as_it_is():
    ids, _ = touching_pairs(3)
    perfect = np.where(np.where(ids % 2, ids, 0) > 0, 1, 0).astype(np.float32)
    alone = example(np.where(ids % 2, ids, 0))
    rule, reached, before = choose([(perfect, alone)], gap=2)
    assert rule == usual_rule([alone], 2)
    assert reached == before == 1
    assert GAIN > 0


def test_holes_are_filled_where_that_is_right():
    ids, _ = touching_pairs(3)
    ids = np.where(ids % 2, ids, 0)
    p = (ids > 0).astype(np.float32)
    for i in range(3):
        p[24:37, 80 * i + 22 : 80 * i + 35] = 0
    rule, _, _ = choose([(p, example(ids))], gap=0)
    assert rule.fill_holes


def test_of_many_images_some_are_enough():
    ids, _ = touching_pairs(1)
    many = [example(ids) for _ in range(10)]
    assert len(objects._some(many, 99 * ids.size)) == 10
    found = objects._some(many, 3 * ids.size)
    assert len(found) == 3
    assert (found[0], found[-1]) == (0, 9)
    assert objects._some(many, 0.5 * ids.size) == []


@pytest.mark.parametrize(
    ("pixels", "judged", "trained"), [(1e9, 3, 5), (4, 2, 2), (7, 3, 4), (1, 1, 0)]
)
def test_the_rule_is_tried_on_validation_and_on_training_images(
    monkeypatch, tmp_path, pixels, judged, trained
):
    ids, p = touching_pairs(1)
    training, validation = [example(ids) for _ in range(5)], [example(ids) for _ in range(3)]
    tried, asked = [], []

    def predicted(model, some, where):
        asked.extend(some)
        return [Predicted(p, ids) for _ in some]

    def choose(pages, gap):
        tried.extend(e for _, e in pages)
        return Rule(), 0.0, 0.0

    monkeypatch.setattr(objects, "predictions", predicted)
    monkeypatch.setattr(objects, "choose", choose)
    monkeypatch.setattr(objects, "ENOUGH", pixels * ids.size)
    monkeypatch.setattr(objects, "load", lambda model: checkpoint.Checkpoint({}, {}))
    monkeypatch.setattr(objects.Checkpoint, "save", lambda *_, **__: None)
    answers = predicted(None, validation, None)
    asked.clear()
    _, line, counts = objects.choose_rule(tmp_path, training, validation, answers, 1, None)
    kept = [id(e) for e in tried]
    assert (len(set(kept) & set(map(id, validation))), len(asked)) == (judged, trained)
    assert {id(e) for e in asked} <= set(map(id, training))
    assert len(kept) == len(set(kept)) == judged + trained
    assert f"on {judged} validation and {trained} training images" in line
    assert counts.true == 6, "scored are all validation images and no others"


def test_train_stores_the_rule_and_says_how_good_it_is(tmp_path, monkeypatch, capsys):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    images, labels = cells(tmp_path)
    kept = []

    def seen(model, training, validation, predicted, *rest):
        kept.extend(zip(predicted, validation, strict=True))
        return choose_rule(model, training, validation, predicted, *rest)

    choose_rule = train.choose_rule
    monkeypatch.setattr(train, "choose_rule", seen)
    monkeypatch.setattr(objects, "ENOUGH", 1)
    done = train.train(images, labels, settings=tiny(instances=True, steps=4, val="0.5"))
    out, err = capsys.readouterr()
    assert "objects: " in err
    stored = checkpoint.load(done.folder / "best.safetensors").meta["objects"]
    rule = Rule.from_dict(stored)
    assert rule.to_dict() == stored
    assert len(kept) == 2, "scored are all, however few the rule was chosen on"
    counts = [ObjectCounts.of(label_instances(p.foreground, rule), e.instances) for p, e in kept]
    total = counts[0] + counts[1]
    line = next(line for line in out.splitlines() if line.startswith("best model: "))
    assert line.endswith(
        f"SEG {total.seg:.4f}  AP50 {total.ap50:.4f}  matched {total.matched_share:.4f}"
    )


def test_validation_images_without_objects_are_nothing_to_choose_on(tmp_path, monkeypatch, capsys):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    images, labels = cells(tmp_path)
    ids = tifffile.imread(labels)
    ids[3] = 0
    put(labels, ids)
    done = train.train(images, labels, settings=tiny(instances=True, steps=4, val="pages 3"))
    err = capsys.readouterr().err
    assert "warning: the validation images hold no foreground" in err
    assert "objects: " not in err
    stored = Rule.from_dict(checkpoint.load(done.folder / "best.safetensors").meta["objects"])
    assert stored == usual_rule([example(page.astype(np.int32)) for page in ids[:3]], 1)
    assert stored.min_size > 0
    page = (done.folder / "report.html").read_text()
    assert "No validation image holds an object" in page
    assert "was chosen on" not in page


def test_without_validation_images_there_is_nothing_to_choose_on(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    images, labels = cells(tmp_path)
    done = train.train(images, labels, settings=tiny(instances=True, steps=4, val="none"))
    stored = checkpoint.load(done.folder / "best.safetensors").meta["objects"]
    assert Rule.from_dict(stored).seed == 0.9, "the usual rule"
