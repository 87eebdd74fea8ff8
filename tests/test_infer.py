"""Tiled prediction against that of the whole image in one piece: bit for bit in the exact form.

The oracle mirrors the image pixel by pixel, runs the network once on all of it, and averages
the views of that; it knows no tiles.
"""

import math

import numpy as np
import pytest

from unetcu import infer, threads
from unetcu.autograd import Tensor, no_grad
from unetcu.device.cpu import exact
from unetcu.errors import ShapeError, UsageError
from unetcu.unet import UNet

TURN = 2 * math.pi / 7


def make_net(depth: int, channels: int = 1, classes: int = 2, base: int = 3) -> UNet:
    """Random weights, and biases too, so that a bias left out would be seen."""
    net = UNet(depth, base, channels, classes, seed=depth)
    rng = np.random.default_rng(depth)
    flat = net.parameters.writable()
    flat += rng.normal(0, 0.05, flat.shape).astype(np.float32)
    return net


def without_checkerboard(net: UNet) -> UNet:
    """The 4 pixels that an up-convolution makes of one get equal values."""
    weights = {name: weight.numpy().copy() for name, weight in net.parameters.items()}
    for name in weights:
        if name.endswith("upconv.w"):
            weights[name][...] = weights[name][:1, :1]
    net.parameters.load(weights)
    return net


def picture(seed: int, height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(height, width, channels)).astype(np.float32)


def reflected(position: int, size: int) -> int:
    """Walk back and forth between the first and the last pixel of a line."""
    at, step = 0, 1
    for _ in range(abs(position)):
        if size == 1:
            break
        if not 0 <= at + step < size:
            step = -step
        at += step
    return at


def padded(image: np.ndarray, depth: int) -> np.ndarray:
    """The image in its frame of mirrored pixels, up to legal sizes (which need not be square)."""
    lost, step = 6 * 2**depth - 4, 2**depth
    for axis in (0, 1):
        size = image.shape[axis]
        legal = size + 2 * lost
        while legal % step != -4 % step:
            legal += 1
        # A line is the same forwards and backwards from pixel 0, so negative positions are right.
        image = np.take(image, [reflected(i - lost, size) for i in range(legal)], axis=axis)
    return image


def run(net: UNet, x: np.ndarray) -> np.ndarray:
    with no_grad(), exact():
        z = net(Tensor(x[None])).numpy()[0]
    e = np.exp(z - z.max(axis=2, keepdims=True))
    return e / e.sum(axis=2, keepdims=True)


def in_one_piece(net: UNet, image: np.ndarray, tta: str) -> np.ndarray:
    x = padded(image, net.depth)
    if tta == "none":
        p = run(net, x)
    else:
        views = [x, x[:, ::-1]]
        views = [np.rot90(v, turns).copy() for turns in range(4) for v in views]
        back = [np.rot90(run(net, v), -(i // 2)) for i, v in enumerate(views)]
        p = sum(b[:, ::-1] if i % 2 else b for i, b in enumerate(back)) / np.float32(8)
    return p[: image.shape[0], : image.shape[1]]


def cases() -> list[tuple[int, int, int, int, int, int]]:
    """(depth, height, width, output tile, channels, classes): corner cases, then 20 at random."""
    chosen = [(1, 1, 1, 2, 1, 2), (3, 1, 1, 12, 2, 3), (2, 1, 37, 8, 1, 2), (2, 41, 1, 12, 1, 2)]
    chosen += [(2, 8, 8, 8, 1, 2), (2, 9, 8, 8, 1, 2), (2, 16, 17, 8, 1, 2), (3, 12, 13, 12, 1, 2)]
    rng = np.random.default_rng(12)
    for i in range(20):
        depth = 1 + i % 3
        height, width = rng.integers(1, (25, 40, 50)[depth - 1], 2).tolist()
        step, first = 2**depth, {1: 4, 2: 8, 3: 12}[depth]
        tile = first + step * int(rng.integers(0, 5))
        chosen.append(
            (depth, height, width, tile, int(rng.integers(1, 4)), int(rng.choice([2, 3])))
        )
    return chosen


@pytest.mark.parametrize("tta", ["none", "mirror"])
@pytest.mark.parametrize("case", cases(), ids=str)
def test_tiled_equals_the_whole_image_bit_for_bit(case, tta):
    depth, height, width, tile, channels, classes = case
    net, image = make_net(depth, channels, classes), picture(7, height, width, channels)
    tiled = infer.whole(net, image, tile, tta, exact=True)
    assert tiled.shape == (height, width, classes)
    assert tiled.dtype == np.float32
    assert np.array_equal(tiled, in_one_piece(net, image, tta))
    assert np.allclose(tiled.sum(axis=2), 1, atol=1e-6)


def test_one_filter_a_level_is_exact_too():
    """The narrowest network: its matrix products have one column."""
    net, image = make_net(2, base=1), picture(3, 33, 50)
    tiled = infer.whole(net, image, 8, exact=True)
    assert np.array_equal(tiled, in_one_piece(net, image, "none"))


def test_views_are_what_they_are_called():
    """mirror: turning or flipping the image turns the result; none: it does not."""
    net, image = make_net(2), picture(1, 20, 20)
    for turned in (lambda a: np.rot90(a).copy(), lambda a: a[:, ::-1].copy()):
        one = infer.whole(net, turned(image), 20, "mirror")
        assert np.allclose(one, turned(infer.whole(net, image, 20, "mirror")), atol=1e-5)
        plain = infer.whole(net, turned(image), 20)
        assert np.abs(plain - turned(infer.whole(net, image, 20))).max() > 0.01


def test_bands_come_in_order_and_every_tile_is_reported():
    net, image, done, windows = make_net(2), picture(5, 30, 21), [], []

    def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        assert 0 <= y0 < y1 <= 30
        assert 0 <= x0 < x1 <= 21
        windows.append((y1 - y0, x1 - x0))
        return image[y0:y1, x0:x1]

    next_row = bands = 0
    for y0, band in infer.probabilities(net, read, 30, 21, 8, progress=done.append):
        assert y0 == next_row
        assert band.shape == (len(band), 21, 2)
        next_row, bands = y0 + len(band), bands + 1
        assert len(windows) == len(done) == 3 * bands  # nothing was computed ahead of its band
    assert next_row == 30
    assert done == [1] * 12
    assert max(max(w) for w in windows) <= 8 + 2 * 20


def test_tiles_at_the_edge_are_no_larger_than_they_must_be(monkeypatch):
    net, image, shapes, real = make_net(2), picture(6, 45, 33), [], infer.softmax

    def watched(net: UNet, x: np.ndarray, exact: bool) -> np.ndarray:
        shapes.append(x.shape[:2])
        return real(net, x, exact)

    monkeypatch.setattr(infer, "softmax", watched)
    infer.whole(net, image, 32)  # 32 and 13 rows, 32 and 1 columns
    assert shapes == [(72, 72), (72, 44), (56, 72), (56, 44)]


@pytest.mark.parametrize("tta", infer.VIEWS)
@pytest.mark.parametrize("form", [False, True], ids=["fast", "exact"])
def test_threads_do_not_change_a_bit(tta, form):
    net, image = make_net(2, base=5), picture(2, 30, 20)
    before, results = threads.count(), []
    try:
        for count in (1, 2, 3):
            threads.set_count(count)
            results.append(infer.whole(net, image, 16, tta, form))
    finally:
        threads.set_count(before)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_rotated_views_of_other_tilings_are_close():
    """A pixel's cubic spline is cut off at another place, 12 pixels away: no more than that."""
    net, image = make_net(2, 2, 3), picture(4, 31, 23, 2)
    whole = infer.whole(net, image, 32, "rot7")
    assert whole.shape == (31, 23, 3)
    for tile in (8, 20):
        assert np.abs(infer.whole(net, image, tile, "rot7") - whole).max() < 1e-4
    assert np.abs(whole.sum(axis=2) - 1).max() < 1e-5
    assert whole.min() >= 0


@pytest.mark.parametrize("tta", infer.VIEWS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (30, 40)])
def test_a_constant_image_stays_constant(shape, tta):
    net = without_checkerboard(make_net(2))
    p = infer.whole(net, np.full((*shape, 1), 0.7, np.float32), 12, tta)
    assert p.shape == (*shape, 2)
    assert np.ptp(p.reshape(-1, 2), axis=0).max() < 1e-5
    assert np.allclose(p, infer.whole(net, np.full((1, 1, 1), 0.7, np.float32), 4), atol=1e-5)


def test_the_seven_rotations_are_a_group():
    """The mean over 7 rotations of a rotated scene is the rotated mean; one view is not.

    The scene is a smooth formula, sampled straight and turned by 1/7 about the image's origin.
    Compared are pixels whose surroundings lie inside the image before and after the turn.
    """

    def scene(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        waves = np.sin(0.21 * y + 0.5) + np.sin(0.13 * y + 0.19 * x) + np.cos(0.17 * x - 0.1 * y)
        return waves[..., None].astype(np.float32)

    size = 150
    y, x = np.indices((size, size)).astype(float)
    back_y = math.cos(TURN) * y - math.sin(TURN) * x
    back_x = math.sin(TURN) * y + math.cos(TURN) * x
    straight, turned = scene(y, x), scene(back_y, back_x)
    net = without_checkerboard(make_net(1))
    far = 25  # the border that a pixel sees, in any direction, and the reach of the splines
    kept = [v[(back_y > far) & (back_y < size - far)] for v in (y, x, back_y, back_x)]
    inside = np.all([(v > far) & (v < size - far) for v in kept], axis=0)
    py, px, by, bx = (v[inside] for v in kept)
    assert inside.sum() > 500

    def gap(tta: str) -> float:
        from scipy.ndimage import map_coordinates

        a, b = (infer.whole(net, image, 64, tta)[..., 1] for image in (straight, turned))
        expected = map_coordinates(a.astype(float), [by, bx], order=3)
        return float(np.abs(b[py.astype(int), px.astype(int)] - expected).max())

    assert gap("none") > 0.05
    assert gap("rot7") < 0.1 * gap("none")


@pytest.mark.parametrize("centre", [(40, 30), (0, 0), (79, 59), (-30, 70)])
def test_between_pixels_lies_the_cubic_spline_of_the_mirrored_image(centre):
    from scipy.ndimage import map_coordinates

    image = picture(8, 80, 60, 2)

    def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        return image[y0:y1, x0:x1]

    y, x = np.indices((9, 7)) * 0.9
    at = np.stack([centre[0] + 0.8 * y - 0.6 * x, centre[1] + 0.6 * y + 0.8 * x])
    here = infer._read_at(read, 80, 60, at)
    assert here.shape == (9, 7, 2)
    for c in range(2):
        wanted = map_coordinates(image[..., c].astype(float), at, order=3, mode="mirror")
        assert np.abs(here[..., c] - wanted).max() < 1e-5


def test_what_cannot_be_done_is_refused():
    net, image = make_net(2), picture(0, 30, 30)
    with pytest.raises(UsageError, match="--tta twice is not known: give one of none, mirror"):
        infer.whole(net, image, 8, "twice")
    with pytest.raises(ShapeError, match="nearest output sizes are 8 and 12"):
        infer.whole(net, image, 9)
    with pytest.raises(ShapeError):
        infer.whole(net, picture(0, 30, 30, 2), 8)
