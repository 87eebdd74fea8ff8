"""The weight map (equation 2) against brute force over every pixel and every instance."""

import math

import numpy as np
import pytest

from unetcu.errors import DataError, UsageError
from unetcu.weightmap import class_weights, instances_of, picture, separate, weight_map

FLAT = np.ones(2, np.float32)


def blobs(seed, height=40, width=47, count=9, low=1):
    """Random overlapping discs: touching, nested, cut by the edge; ids far apart, not in order."""
    r = np.random.default_rng(seed)
    yy, xx = np.mgrid[:height, :width]
    ids = r.permutation(np.arange(1, count + 1) * 7919)
    out = np.zeros((height, width), np.int32)
    for i in ids:
        y, x, radius = r.integers(height), r.integers(width), r.uniform(low, 8)
        out[(yy - y) ** 2 + (xx - x) ** 2 <= radius**2] = i
    return out


def brute_force(classes_map, instances, balance, w0, sigma):
    height, width = classes_map.shape
    ids = [i for i in set(instances.ravel().tolist()) if i > 0]
    pixels = {i: [tuple(p) for p in np.argwhere(instances == i).tolist()] for i in ids}
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            c = int(classes_map[y, x])
            if c < 0:
                continue
            out[y, x] = float(balance[c])
            if c == 0 and len(ids) >= 2:
                d = sorted(min(math.dist((y, x), p) for p in pixels[i]) for i in ids)
                out[y, x] += w0 * math.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))
    return out


@pytest.mark.parametrize(
    ("seed", "w0", "sigma"),
    [
        (0, 10.0, 5.0),
        (1, 10.0, 2.0),
        (2, 3.0, 0.7),
        (3, 1000.0, 1.5),
        (4, 0.0, 5.0),
        (5, 1.0, 90.0),
    ],
)
def test_equals_brute_force(seed, w0, sigma):
    instances = separate(blobs(seed))
    classes_map = (instances > 0).astype(np.int32)
    classes_map[5:9, 3:20] = -1
    balance = np.array([0.7, 1.9], np.float32)
    w = weight_map(classes_map, instances, balance, w0=w0, sigma=sigma)
    want = brute_force(classes_map, instances, balance, w0, sigma)
    assert w.dtype == np.float32
    assert (w[classes_map < 0] == 0).all()
    cut = w0 * 1e-4  # the term below which it is taken as 0
    exact = (want - balance[0] > cut * 1.001) | (classes_map != 0)
    assert np.abs(w - want)[exact].max() <= 2e-6 * want.max()
    assert np.abs(w - want).max() <= cut * 1.001 + 2e-6 * want.max()


def test_hand_computed():
    """Two single pixels 4 apart in a row: d1 + d2 = 4 on the line between, sqrt at the side."""
    instances = np.zeros((3, 7), np.uint16)
    instances[1, 1], instances[1, 5] = 65535, 3
    w = weight_map((instances > 0).astype(np.uint8), instances, FLAT, w0=10, sigma=5)
    assert w[1, 2] == pytest.approx(1 + 10 * math.exp(-16 / 50), rel=1e-6)
    assert w[1, 3] == pytest.approx(1 + 10 * math.exp(-16 / 50), rel=1e-6)
    assert w[0, 1] == pytest.approx(1 + 10 * math.exp(-((1 + math.sqrt(17)) ** 2) / 50), rel=1e-6)
    assert w[1, 1] == w[1, 5] == 1


def test_default_is_the_paper():
    instances = np.zeros((3, 5), np.int32)
    instances[:, 0], instances[:, 4] = 1, 2
    w = weight_map((instances > 0).astype(np.int32), instances, FLAT)
    assert w[1, 2] == pytest.approx(1 + 10 * math.exp(-16 / (2 * 25)), rel=1e-6)


@pytest.mark.parametrize("ids", [[], [4]])
def test_no_border_term_with_fewer_than_two_instances(ids):
    instances = np.zeros((20, 20), np.int32)
    for i in ids:
        instances[5:9, 5:9] = i
    w = weight_map((instances > 0).astype(np.int32), instances, np.array([0.5, 2], np.float32))
    assert np.array_equal(w, np.where(instances > 0, 2, 0.5).astype(np.float32))


def test_image_without_background():
    instances = np.repeat([[3, 9]], 4, axis=0)
    w = weight_map((instances > 0).astype(np.int32), instances, FLAT)
    assert (w == 1).all()
    # Class 0 may lie inside an instance too, when the caller drew the gap in classes only.
    w = weight_map(np.array([[1, 0]] * 4), instances, FLAT)
    assert w[0, 1] == pytest.approx(1 + 10 * math.exp(-1 / 50), rel=1e-6)


def test_more_classes_and_ignored_instances():
    classes_map = np.array([[2, 2, 0, 1, -1, 0]])
    instances = np.array([[1, 1, 0, 2, -1, -1]])
    w = weight_map(classes_map, instances, np.array([1, 2, 3], np.float32), w0=10, sigma=5)
    term = [10 * math.exp(-(d**2) / 50) for d in (2, 6)]
    assert w[0].tolist() == pytest.approx([3, 3, 1 + term[0], 2, 0, 1 + term[1]], rel=1e-6)


def test_memory_does_not_grow_with_the_number_of_instances():
    import tracemalloc

    instances = np.zeros((400, 400), np.int32)
    instances[2::8, 2::8] = np.arange(1, 2501).reshape(50, 50)
    tracemalloc.start()
    w = weight_map((instances > 0).astype(np.int32), instances, FLAT, sigma=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 80 * instances.size  # a stack of 2500 distances would be 20,000 bytes a pixel
    assert w[6, 6] == pytest.approx(1 + 10 * math.exp(-((2 * math.sqrt(32)) ** 2) / 8), abs=2e-3)


def shrunk_by_hand(instances, gap):
    """Every pixel with another instance in its square is cleared: four plain loops."""
    out = instances.copy()
    height, width = instances.shape
    for y in range(height):
        for x in range(width):
            near = instances[max(y - gap, 0) : y + gap + 1, max(x - gap, 0) : x + gap + 1]
            if instances[y, x] > 0 and any(
                int(v) > 0 and v != instances[y, x] for v in near.ravel()
            ):
                out[y, x] = 0
    return out


@pytest.mark.parametrize("gap", [0, 1, 2, 3])
def test_separate_clears_both_sides(gap):
    instances = blobs(11, low=6)
    instances[:3, :10] = -1
    before = instances.copy()
    out = separate(instances, gap)
    assert np.array_equal(instances, before)
    assert out.dtype == instances.dtype
    want = shrunk_by_hand(instances, gap)
    whole = np.isin(instances, np.unique(want))
    assert whole.mean() > 0.9
    assert np.array_equal(out[whole], want[whole])
    assert set(np.unique(out)) == set(np.unique(instances))
    if gap:
        assert (out != instances).any()


def test_separate_leaves_lone_instances_alone():
    instances = np.zeros((9, 20), np.uint16)
    instances[2:7, 2:7], instances[2:7, 10:15] = 65535, 1
    assert np.array_equal(separate(instances), instances)


def test_separate_two_halves():
    instances = np.repeat([[1, 1, 1, 2, 2, 2]], 4, axis=0).astype(np.uint8)
    assert separate(instances)[0].tolist() == [1, 1, 0, 0, 2, 2]
    assert separate(instances, 2)[0].tolist() == [1, 0, 0, 0, 0, 2]
    # Three would erase both: each keeps what is farthest from the other.
    assert separate(instances, 5)[0].tolist() == [1, 0, 0, 0, 0, 2]


def test_separate_never_erases_an_instance():
    instances = np.full((9, 9), 5, np.int32)
    instances[4, 4] = 7
    instances[0, :] = 9
    out = separate(instances)
    assert out[4, 4] == 7
    assert (out[3:6, 3:6] == 0).sum() == 8
    assert (out[0] == 9).all()
    assert (out[1] == 0).all()
    assert out[2, 2] == 5
    assert (out == 5).sum() == 7 * 9 - 9


def test_instances_of():
    classes_map = np.array([[1, 2, 0, 1], [0, 0, -1, 0], [3, 0, 0, 0], [0, 3, 0, 0]])
    found = instances_of(classes_map)
    assert found.dtype == np.int32
    assert found.max() == 4
    assert found[0, 0] == found[0, 1] != found[0, 3]
    assert found[2, 0] != found[3, 1]
    assert np.array_equal(found > 0, classes_map > 0)


@pytest.mark.parametrize("strength", [0, 0.25, 0.5, 0.9])
def test_class_weights_in_part(strength):
    maps = [np.array([[0, 0, 0, 0, 1, -1]]), np.array([[0, 0, 2, 2, 1, 1]])]
    w = class_weights(maps, 4, strength)
    share = np.array([6, 3, 2]) / 11
    assert (w[:3] @ share) == pytest.approx(1)
    assert w[1] / w[0] == pytest.approx(2**strength)
    assert w[2] / w[0] == pytest.approx(3**strength)
    assert w[3] <= w[2]


def test_class_weights():
    maps = [np.array([[0, 0, 0, -1], [0, 0, 0, 1]]), np.array([[1, -1]])]
    w = class_weights(maps, 3)
    assert w.dtype == np.float32
    assert w.tolist() == pytest.approx([8 / (2 * 6), 8 / (2 * 2), 1])
    labelled = np.concatenate([m[m >= 0] for m in maps])
    assert w[labelled].mean() == pytest.approx(1)
    assert class_weights(iter([np.zeros((2, 2), np.uint8)]), 2).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (DataError, "at most 1", lambda: class_weights([np.array([[0, 2]])], 2)),
        (DataError, "no pixel", lambda: class_weights([np.array([[-1]])], 2)),
        (DataError, "2 classes", lambda: weight_map(np.array([[2]]), np.array([[0]]), FLAT)),
        (DataError, "one image", lambda: weight_map(np.array([[0]]), np.array([[0, 0]]), FLAT)),
        (UsageError, "sigma", lambda: weight_map(np.array([[0]]), np.array([[0]]), FLAT, sigma=0)),
        (UsageError, "w0", lambda: weight_map(np.array([[0]]), np.array([[0]]), FLAT, w0=math.nan)),
        (UsageError, "gap", lambda: separate(np.array([[0]]), -1)),
    ],
)  # fmt: skip
def test_errors_are_one_line(error, words, call):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_picture():
    weight = np.linspace(0, 11, 70 * 90, dtype=np.float32).reshape(70, 90)
    image = picture(weight)
    assert image.dtype == np.uint8
    assert image.shape == (70, 146, 3)
    light = image[:, :90].astype(int).sum(2)
    assert light[0, 0] < 20
    assert light[-1, -1] > 550
    assert (np.diff(light.ravel()) >= -3).all()  # perceptual: brighter is heavier
    assert (image[:, 115:] < 100).any()  # the numbers
    assert picture(np.zeros((3, 4), np.float32)).shape == (64, 60, 3)
