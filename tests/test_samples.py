"""What the network learns from: targets, weights, and tiles that depend on (seed, step) alone."""

import threading

import numpy as np
import pytest

from unetcu.augment import sample
from unetcu.data.dataset import Dataset
from unetcu.data.ranges import fit
from unetcu.training import samples
from unetcu.training.samples import AHEAD, Example, Tiles, balance, examples, targets
from unetcu.training.settings import Settings

SMALL = Settings(depth=1, base=2, tile=20)


def dataset(images, labels, **more):
    names = [f"page {i}" for i in range(len(images))]
    given = {"classes": 2, "instances": False, "range": fit(images, "dtype"), **more}
    return Dataset(images, labels, names, [0] * len(images), **given)


def touching():
    """Two objects side by side, one apart; ignored pixels at the bottom."""
    ids = np.zeros((12, 14), np.int32)
    ids[2:6, 1:5], ids[2:6, 5:9], ids[2:6, 11:13] = 4, 2, 9
    ids[10:] = -1
    return ids


def test_touching_instances_get_the_gap():
    for gap in (0, 1, 2):
        t, objects = targets(touching(), Settings(gap=gap), instances=True)
        expected = touching()
        expected[2:6, 5 - gap : 5 + gap] = 0
        assert (objects == expected).all()
        assert t.dtype == np.int32
        assert (t == np.where(expected < 0, -1, expected != 0)).all()


def test_classes_stay_as_they_are_and_their_pieces_are_the_objects():
    labels = np.minimum(touching(), 3)
    t, objects = targets(labels, Settings(), instances=False)
    assert (t == labels).all()
    assert (objects > 0).tolist() == (labels > 0).tolist()
    assert objects.max() == 2
    assert len(np.unique(objects[2:6, 1:9])) == 1


def test_the_balance_is_that_of_the_training_images_after_the_gap():
    first = touching()
    second = np.ones((12, 14), np.int32)
    d = dataset([np.zeros((12, 14, 1), np.uint8)] * 2, [first, second], instances=True)
    t = targets(first, Settings(), True)[0]
    back, front = np.count_nonzero(t == 0), np.count_nonzero(t == 1)
    half = (back + front) / 2
    even = Settings(balance=1.0)
    got = balance(d, [0], even)
    assert np.allclose(got, [half / back, half / front])
    assert not np.allclose(balance(d, [0, 1], even), got)


def test_the_kinds_of_weights():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (12, 14, 2), np.uint8) for _ in range(3)]
    d = dataset(images, [np.zeros((12, 14), np.int32), touching(), touching()], instances=True)
    w_c = np.array([0.5, 2], np.float32)
    by_kind = {}
    for kind, w0 in (("balance", 0.0), ("border", 7.0)):
        s = Settings(w0=w0, sigma=3)
        (e,) = examples(d, [1], s, w_c)
        by_kind[kind] = e.w
        assert (e.x == d.range.apply(images[1])).all()
        assert (e.instances == touching()).all()
        assert (e.t == targets(touching(), s, True)[0]).all()
        assert (e.w[10:] == 0).all()
        assert e.w.dtype == e.x.dtype == np.float32
    t = e.t
    (even,) = examples(d, [1], Settings(w0=0.0), balance(d, [1], Settings()))
    assert (even.w == (t >= 0)).all()
    assert (by_kind["balance"] == np.where(t < 0, 0, np.where(t == 1, 2, 0.5))).all()
    more = by_kind["border"] - by_kind["balance"]
    assert (more[t != 0] == 0).all()
    # Row 3, columns 4 and 5 are the gap: 1 and 2 pixels from the two objects at its sides.
    assert np.allclose(more[3, 4:6], 7 * np.exp(-9 / 18), rtol=1e-6)
    assert len(examples(d, [0, 2], Settings(), w_c)) == 2


def test_labels_that_are_classes_have_no_instances():
    d = dataset([np.zeros((12, 14, 1), np.uint8)], [np.minimum(touching(), 1)])
    assert examples(d, [0], Settings(), np.ones(2, np.float32))[0].instances is None


def made(shapes):
    out = []
    for i, shape in enumerate(shapes):
        rng = np.random.default_rng(i)
        x = rng.standard_normal((*shape, 1)).astype(np.float32)
        t = (x[..., 0] > 0).astype(np.int32)
        t[:3] = -1
        out.append(Example(x, t, np.where(t < 0, 0, 1 + t).astype(np.float32), None))
    return out


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_a_batch_is_a_function_of_seed_and_step():
    given = made([(40, 30), (25, 50)])
    tiles = Tiles(given, Settings(depth=1, tile=20, batch=3, seed=5))
    first = tiles.batch(7)
    assert first.x.shape == (3, 20, 20, 1)
    assert first.t.shape == first.w.shape == (3, 4, 4)
    assert [a.dtype for a in first] == [np.float32, np.int32, np.float32]
    tiles.batch(8)
    assert same(tiles.batch(7), first)
    assert same(Tiles(given, Settings(depth=1, tile=20, batch=3, seed=5)).batch(7), first)
    alone = Tiles(given, Settings(depth=1, tile=20, seed=5)).batch(7)
    assert same(alone, [a[:1] for a in first])
    others = [tiles.batch(8), Tiles(given, Settings(depth=1, tile=20, batch=3, seed=6)).batch(7)]
    every = [b.x[i].tobytes() for b in (first, *others) for i in range(3)]
    assert len(set(every)) == 9


def test_a_tile_is_cut_from_image_target_and_weight_together():
    """Weights are 1 + class where labelled, 0 where ignored: so they are in every tile."""
    tiles = Tiles(made([(40, 30), (25, 50)]), Settings(depth=1, tile=44, batch=4))
    seen = set()
    for step in range(6):
        b = tiles.batch(step)
        assert (b.w == np.where(b.t < 0, 0, 1 + b.t)).all()
        seen |= set(np.unique(b.t))
    assert seen == {-1, 0, 1}


def test_the_settings_of_the_augmentation_reach_the_tile(monkeypatch):
    seen = []

    def spy(x, t, w, tile, out, rng, augment):
        seen.append((tile, out, augment))
        return sample(x, t, w, tile, out, rng, augment)

    monkeypatch.setattr(samples, "sample", spy)
    s = Settings(depth=1, tile=24, elastic=2, gray=0.1, symmetry="none", scale=0)
    Tiles(made([(40, 30)]), s).batch(0)
    assert seen == [(24, 8, s.augment())]


def test_images_are_drawn_by_their_area(monkeypatch):
    given = made([(20, 20), (40, 40), (20, 40)])
    which = {id(e.x): i for i, e in enumerate(given)}
    drawn = []

    def spy(x, t, w, tile, out, rng, augment):
        drawn.append(which[id(x)])
        return np.zeros(1), np.zeros(1), np.zeros(1)

    monkeypatch.setattr(samples, "sample", spy)
    tiles = Tiles(given, Settings(depth=1, tile=20, batch=20))
    for step in range(100):
        tiles.batch(step)
    share = np.bincount(drawn, minlength=3) / 2000
    assert np.abs(share - np.array([1, 4, 2]) / 7).max() < 0.04  # 4 standard deviations
    first = drawn[: 20 * 10]
    assert len({tuple(first[i : i + 20]) for i in range(0, 200, 20)}) == 10


@pytest.mark.parametrize(
    ("drawn", "index"), [(0.0, 0), (np.nextafter(0.5, 0), 0), (0.5, 1), (np.nextafter(1, 0), 2)]
)
def test_the_ends_of_each_images_share(monkeypatch, drawn, index):
    given = made([(20, 20), (20, 15), (10, 10)])
    monkeypatch.setattr(
        samples, "stream", lambda *a: type("R", (), {"random": staticmethod(lambda: drawn)})
    )
    monkeypatch.setattr(samples, "sample", lambda x, *rest: (x, x, x))
    x = Tiles(given, Settings(depth=1, tile=20)).batch(0).x[0]
    assert x.shape == given[index].x.shape
    assert (x == given[index].x).all()


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("unetcu-tiles")]


@pytest.mark.parametrize(("first", "end"), [(0, 9), (3, 5), (4, 5), (6, 6)])
def test_batches_come_in_order_whatever_is_made_ahead(first, end):
    tiles = Tiles(made([(40, 30)]), SMALL)
    got = list(tiles.batches(first, end))
    assert len(got) == end - first
    assert all(same(b, tiles.batch(k)) for k, b in enumerate(got, first))
    assert workers() == []


def test_only_a_few_are_made_ahead_and_none_after_the_last_is_taken():
    made_up = []
    tiles = Tiles(made([(40, 30)]), SMALL)
    tiles.batch = lambda step: made_up.append(step) or step
    taken = tiles.batches(10, 100)
    assert [next(taken), next(taken)] == [10, 11]
    taken.close()
    assert workers() == []
    assert made_up == list(range(10, 10 + len(made_up)))
    assert 2 <= len(made_up) <= 2 + AHEAD


def test_an_error_in_the_making_reaches_the_taker():
    tiles = Tiles(made([(40, 30)]), SMALL)

    def fails(step):
        if step == 2:
            raise ValueError("tile 2")
        return step

    tiles.batch = fails
    got = []
    with pytest.raises(ValueError, match="tile 2"):
        got.extend(tiles.batches(0, 9))
    assert workers() == []
