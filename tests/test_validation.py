"""Scores of whole images: by hand, from probabilities that are given instead of a network's."""

import math

import numpy as np
import pytest

from unetcu.errors import TrainingError
from unetcu.infer import whole
from unetcu.tiles import border, valid_sizes
from unetcu.training import validation
from unetcu.training.samples import Example
from unetcu.training.settings import Settings
from unetcu.training.validation import inference_tile, validate
from unetcu.unet import UNet

S = Settings(depth=1, base=2, tile=20)


def judged(monkeypatch, pages, settings=S, classes=2):
    """validate() of (probabilities, t, w, instances) pages."""
    answers = [p for p, *_ in pages]
    shapes = []

    def answer(net, x, tile_out):
        shapes.append((x.shape[:2], tile_out))
        return answers[len(shapes) - 1]

    monkeypatch.setattr(validation, "whole", answer)
    examples = [Example(np.zeros((*t.shape, 1), np.float32), t, w, i) for _, t, w, i in pages]
    scores = validate(UNet(1, 2, 1, classes), examples, settings)
    assert shapes == [(t.shape, inference_tile(1, max(t.shape))) for _, t, *_ in pages]
    return scores


def page(seed, shape=(9, 13), classes=2, instances=None):
    rng = np.random.default_rng(seed)
    p = rng.random((*shape, classes)).astype(np.float32) ** 3 + 1e-3
    t = rng.integers(-1, classes, shape).astype(np.int32)
    return p / p.sum(2, keepdims=True), t, rng.uniform(0, 3, shape).astype(np.float32), instances


def by_hand(pages, classes):
    loss = weight = wrong = known = 0
    both, either = np.zeros(classes), np.zeros(classes)
    for p, t, w, _ in pages:
        for at in np.ndindex(t.shape):
            if t[at] < 0:
                continue
            guess = int(np.argmax(p[at]))
            loss -= float(w[at]) * math.log(p[at][t[at]])
            weight += float(w[at])
            wrong, known = wrong + (guess != t[at]), known + 1
            for c in range(classes):
                both[c] += guess == c == t[at]
                either[c] += c in (guess, t[at])
    return loss / weight, float((both / either)[1:].mean()), wrong / known


@pytest.mark.parametrize("classes", [2, 3])
def test_loss_iou_and_pixel_error_against_a_loop(monkeypatch, classes):
    pages = [page(1, classes=classes), page(2, (5, 40), classes), page(3, (1, 1), classes)]
    scores = judged(monkeypatch, pages, classes=classes)
    got = scores.loss, scores.iou, scores.pixel_error
    assert np.allclose(got, by_hand(pages, classes), rtol=1e-6)
    assert math.isnan(scores.matched)
    assert not scores.constant
    assert scores.first is pages[0][0]


def test_ignored_pixels_count_nowhere_whatever_their_weight(monkeypatch):
    p, t, w, _ = page(4)
    clean = judged(monkeypatch, [(p, t, np.where(t < 0, 0, w).astype(np.float32), None)])
    p2, w2 = p.copy(), w.copy()
    p2[t < 0], w2[t < 0] = (0.01, 0.99), np.nan
    dirty = judged(monkeypatch, [(p2, t, w2, None)])
    assert (dirty.loss, dirty.iou, dirty.pixel_error) == (clean.loss, clean.iou, clean.pixel_error)


def objects(gap):
    """Two true objects side by side and one apart, which the prediction misses."""
    ids = np.zeros((20, 40), np.int32)
    ids[4:14, 2:12], ids[4:14, 12:22], ids[4:14, 30:38] = 1, 2, 3
    p = np.full((20, 40), 0.1, np.float32)
    p[4:14, 2 : 12 - gap], p[4:14, 12 + gap : 22] = 0.9, 0.9
    return np.stack([1 - p, p], 2), (ids > 0).astype(np.int32), np.ones((20, 40), np.float32), ids


def test_the_share_of_objects_found_one_to_one(monkeypatch):
    assert judged(monkeypatch, [objects(1)]).matched == 2 / 3
    assert judged(monkeypatch, [objects(1), objects(1)]).matched == 2 / 3
    assert judged(monkeypatch, [objects(0)]).matched == 0, "grown together"
    p, t, w, ids = objects(1)
    empty = judged(monkeypatch, [(p, t, w, ids * 0)])
    assert math.isnan(empty.matched)


def test_objects_are_grown_back_by_the_gap_of_the_settings(monkeypatch):
    """Thin objects, 3 wide: with 2 of 4 pixels lost to the gap, only growing makes IoU > 0.5."""
    ids = np.zeros((40, 12), np.int32)
    ids[:, 2:6], ids[:, 6:10] = 1, 2
    p = np.full((40, 12), 0.1, np.float32)
    p[:, 2:4] = p[:, 8:10] = 0.9
    given = (np.stack([1 - p, p], 2), (ids > 0).astype(np.int32), np.ones((40, 12), np.float32))
    assert judged(monkeypatch, [(*given, ids)], Settings(depth=1, base=2, tile=20)).matched == 0
    grown = Settings(depth=1, base=2, tile=20, gap=2)
    assert judged(monkeypatch, [(*given, ids)], grown).matched == 1


def test_a_constant_prediction_is_told(monkeypatch):
    p, t, w, _ = page(5)
    same = np.broadcast_to(np.float32([0.6, 0.4]), p.shape)
    assert judged(monkeypatch, [(same, t, w, None)] * 2).constant
    other = np.broadcast_to(np.float32([0.4, 0.6]), p.shape)
    assert not judged(monkeypatch, [(same, t, w, None), (other, t, w, None)]).constant
    assert not judged(monkeypatch, [(same, np.minimum(t, 0), w, None)]).constant, "it is right"


def test_what_is_not_defined_is_nan(monkeypatch):
    p, t, w, _ = page(6)
    nothing = judged(monkeypatch, [(p, t * 0 - 1, w, None)])
    assert all(map(math.isnan, (nothing.loss, nothing.iou, nothing.pixel_error)))
    zero = judged(monkeypatch, [(p, np.abs(t), w * 0, None)])
    assert math.isnan(zero.loss)
    assert zero.pixel_error > 0


def test_a_probability_of_zero_is_no_infinite_loss(monkeypatch):
    p = np.zeros((2, 2, 2), np.float32)
    p[..., 0] = 1
    scores = judged(monkeypatch, [(p, np.ones((2, 2), np.int32), np.ones((2, 2)), None)])
    assert 60 < scores.loss < 80


def test_a_network_that_has_diverged():
    net = UNet(1, 2, 1, 2)
    net.parameters.writable()[:] *= 1e30
    x = np.random.default_rng(0).standard_normal((9, 9, 1)).astype(np.float32)
    e = Example(x, np.zeros((9, 9), np.int32), np.ones((9, 9), np.float32), None)
    with pytest.raises(TrainingError, match=r"not finite: training has diverged; .* than 0\.5$"):
        validate(net, [e], Settings(depth=1, base=2, tile=20, lr=0.5))


def test_a_real_network_is_asked_for_the_whole_image():
    net, rng = UNet(1, 2, 1, 2, seed=1), np.random.default_rng(0)
    x = rng.standard_normal((21, 30, 1)).astype(np.float32)
    t = rng.integers(0, 2, (21, 30)).astype(np.int32)
    scores = validate(net, [Example(x, t, np.ones((21, 30), np.float32), None)], S)
    assert scores.first.tobytes() == whole(net, x, inference_tile(1, 30)).tobytes()
    assert scores.pixel_error == (scores.first.argmax(2) != t).mean()


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_tile_covers_a_small_image_and_is_bounded_for_a_large_one(depth):
    lost = 2 * border(depth)
    for side in (1, 100, 333, 480, 481, 5000):
        out = inference_tile(depth, side)
        assert out + lost in valid_sizes(depth, 1, 10000)
        assert 0 <= out - min(side, 480) < 2**depth
