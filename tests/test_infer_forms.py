"""The two forms of inference on the CPU: the fast one, bounded and measured, and the exact one.

That the exact form gives the bits of the whole image is in test_infer.py. Here is what the fast
form may be off by: to first order, rounding errors e of the numbers y that the layers make move a
probability p by the sum of dp/dy e. The derivatives are those of the same network in float64, done
by NumPy. |e| is at most b, the bound of its op: patchwise.py has it for the 3x3 convolution, and
(2 sqrt n + 4) u S is that of a sum of n products. Errors have either sign, and the largest of
thousands stays below b, so b is several standard deviations of e, and the root of the sum of
(dp/dy b)^2 as many of p's. (The plain sum, as if all conspired, is a hundred times as large.)
"""

import re

import numpy as np
import pytest
import tifffile
from patchwise import U, bounds
from predictset import pages, save_model, stack_file

from unetcu import infer, stackwise
from unetcu.autograd import Tensor, no_grad
from unetcu.device import device
from unetcu.device.cpu import exact
from unetcu.ops.conv1x1 import Conv1x1
from unetcu.ops.conv3x3 import Conv3x3
from unetcu.ops.upconv2 import UpConv2
from unetcu.predict import predict
from unetcu.unet import UNet

two_forms = pytest.mark.skipif(
    device("cpu").native(np.float32) is None, reason="the compiled module is not in use"
)


def made(depth, base, channels=1, classes=2):
    """A network with biases, as after training."""
    net, rng = UNet(depth, base, channels, classes, seed=depth), np.random.default_rng(depth)
    flat = net.parameters.writable()
    flat += rng.normal(0, 0.05, flat.shape).astype(np.float32)
    return net


def image(net, height, width, bright=0.0):
    """Noise, and bright spots, which the fast form likes least."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((height, width, net.in_channels))
    x[rng.random(x.shape) < bright] *= 100
    return x.astype(np.float32)


def conv3x3_bound(x, w, b):
    N, H, W, _ = x.shape
    return bounds(x, w, b, np.zeros((N, H - 2, W - 2, len(b))))[0]


def conv1x1_bound(x, w, b):
    S = np.abs(x) @ np.abs(w) + np.abs(b)
    return (2 * np.sqrt(len(w) + 1) + 4) * U * S


def upconv2_bound(x, w, b):
    N, H, W, _ = x.shape
    y = np.empty((N, 2 * H, 2 * W, len(b)))
    for at, column in np.ndindex(2, 2):
        y[:, at::2, column::2] = conv1x1_bound(x, w[at, column], b)
    return y


BOUNDS = {Conv3x3: conv3x3_bound, UpConv2: upconv2_bound, Conv1x1: conv1x1_bound}


def right(monkeypatch, net, x, places):
    """Probabilities in float64, and what rounding may move them by, at (row, column, class)s."""
    twin = UNet(**net.config, dtype=np.float64)
    twin.parameters.load({name: p.numpy().astype(float) for name, p in net.parameters.items()})
    squares = []

    def watch(op, bound, patch):
        forward, backward = op.forward_cpu, op.backward_cpu

        def forth(self, x, w, b, relu=False, **_):
            y = forward(self, x, w, b, relu) if op is Conv3x3 else forward(self, x, w, b)
            self.seen, self.open = (x, w, b), y > 0 if relu else True
            return y

        def back(self, dy):
            squares.append(np.square(dy * self.open * bound(*self.seen)).sum())
            return backward(self, dy)

        patch.setattr(op, "forward_cpu", forth)
        patch.setattr(op, "backward_cpu", back)

    values, allowed = [], []
    with monkeypatch.context() as patch:
        for op, bound in BOUNDS.items():
            watch(op, bound, patch)
        for i, j, c in places:
            z = twin(Tensor(x[None].astype(float)))
            e = np.exp(z.numpy()[0, i, j])
            p, dz = e / e.sum(), np.zeros(z.shape)
            dz[0, i, j] = p[c] * ((np.arange(len(p)) == c) - p)
            squares.clear()
            z.backward(dz)
            assert len(squares) == 5 * net.depth + 3  # every layer has been counted
            values.append(p[c])
            allowed.append(np.sqrt(sum(squares)) + 8 * U)  # exp, the sum and the division
    return np.array(values), np.array(allowed)


def excess(monkeypatch, net, x, p):
    """Errors of p over what rounding explains: 5 undecided ones, 5 furthest from the exact form."""
    undecided = np.argsort(np.abs(p - 0.5), axis=None)[:5]
    worst = np.argsort(np.abs(p - infer.softmax(net, x, exact=True)), axis=None)[-5:]
    places = np.transpose(np.unravel_index([*undecided, *worst], p.shape))
    wanted, allowed = right(monkeypatch, net, x, places)
    return np.abs(p[tuple(places.T)] - wanted) / allowed


@pytest.mark.parametrize("bright", [0, 0.003])
@pytest.mark.parametrize(
    ("config", "size"),
    [((1, 3), 46), ((1, 16, 2, 3), 38), ((2, 4), 60), ((2, 12), 64), ((3, 6, 1, 3), 100)],
    ids=str,
)
def test_no_probability_is_off_by_more_than_rounding_explains(monkeypatch, config, size, bright):
    net = made(*config)
    x = image(net, size, size + 2 ** config[0], bright)
    for form in (False, True):
        assert (excess(monkeypatch, net, x, infer.softmax(net, x, exact=form)) <= 1).all()


def test_numbers_of_11_bits_are_off_by_more(monkeypatch):
    """So that the bound means something: what TF32 makes of the inputs is not within it."""
    net, forward = made(2, 12), Conv3x3.forward_cpu
    x = image(net, 64, 68)

    def coarse(self, x, w, b, relu=False, **_):
        x, w = (((a.view("u4") + 0x1000) & 0xFFFFE000).view("f") for a in (x, w))
        return forward(self, x, w, b, relu)

    with monkeypatch.context() as patch:
        patch.setattr(Conv3x3, "forward_cpu", coarse)
        p = infer.softmax(net, x)
    assert excess(monkeypatch, net, x, p).max() > 2


@two_forms
def test_fast_unless_exact_is_asked_for():
    net = made(2, 5)
    x = image(net, 60, 64)

    def run():
        with no_grad():
            z = net(Tensor(x[None])).numpy()[0]
        e = np.exp(z - z.max(axis=2, keepdims=True))
        return e / e.sum(axis=2, keepdims=True)

    with exact():
        slow = run()
    assert infer.softmax(net, x, exact=True).tobytes() == slow.tobytes()
    assert infer.softmax(net, x).tobytes() == infer.softmax(net, x, exact=False).tobytes()
    assert infer.softmax(net, x).tobytes() == run().tobytes()
    assert run().tobytes() != slow.tobytes()


@pytest.mark.parametrize("tta", infer.VIEWS)
def test_every_view_takes_the_form_that_was_asked_for(monkeypatch, tta):
    net, forms, softmax = made(1, 2), [], infer.softmax

    def watched(net, x, exact=False):
        forms.append(exact)
        return softmax(net, x, exact)

    monkeypatch.setattr(infer, "softmax", watched)
    for form in (False, True):
        forms.clear()
        infer.whole(net, image(net, 20, 20), 20, tta, form)
        assert forms == [form] * {"none": 1, "mirror": 8, "rot7": 7}[tta]


@pytest.mark.parametrize("shape", [(61, 230), (9, 500), (150, 150), (3, 2)], ids=str)
@pytest.mark.parametrize("tile_out", [20, 100, 160])
def test_the_difference_is_that_of_the_middle(monkeypatch, shape, tile_out):
    net, (height, width), asked = made(1, 2), shape, []
    pixels = image(net, height, width)

    def read(y0, y1, x0, x1):
        asked.append((y0, y1, x0, x1))
        return pixels[y0:y1, x0:x1]

    def given(net, x, exact=False):
        high, wide = (n - 16 for n in x.shape[:2])
        assert high <= min(tile_out, 100, height + 1)
        assert wide <= min(tile_out, 100, width + 1)
        p = np.full((high, wide, 2), 0.5, np.float32)
        p[high // 3, wide // 2, 1] -= 0.25 * exact
        return p

    monkeypatch.setattr(infer, "softmax", given)
    found = infer.difference(net, read, height, width, tile_out)
    if device("cpu").native(np.float32) is None:
        assert found is None
        assert not asked
        return
    assert found == 0.25
    ((y0, y1, x0, x1),) = asked
    for start, stop, size in ((y0, y1, height), (x0, x1, width)):
        assert abs(start + stop - size) <= 2
        assert stop - start >= min(size, tile_out, 100)


def test_where_there_is_one_form_there_is_no_difference(monkeypatch):
    assert infer.difference(UNet(1, 2, on="simt"), None, 30, 30, 20) is None
    monkeypatch.setenv("UNETCU_NATIVE", "0")
    assert infer.difference(UNet(1, 2), None, 30, 30, 20) is None


SAID = (
    r"fast form: probabilities differ .* by up to (\S+) \(measured in the middle of (\S+), page 1\)"
)


@two_forms
def test_predict_says_once_how_far_the_fast_form_is_off(tmp_path, capsys):
    model = save_model(tmp_path / "m.safetensors", depth=2)
    files = [stack_file(tmp_path / f"{n}.tif", pages(i, 2, 60, 50)) for i, n in enumerate("ab")]
    fast, slow = (predict(model, files, tmp_path / str(e), exact=e) for e in (False, True))
    ((figure, name),) = re.findall(SAID, capsys.readouterr().err)
    assert name.endswith("a.tif")
    a, b = (tifffile.imread(written[0]) for written in (fast, slow))
    apart = np.abs(a[0] - b[0]).max()  # the page is one tile, and less than is compared
    assert 0 < apart < 1e-5
    assert figure == f"{apart:.1g}"


@pytest.mark.parametrize(("apart", "warned"), [(2e-3, 1), (9e-4, 0), (float("nan"), 1)])
def test_a_large_difference_is_a_warning(tmp_path, capsys, monkeypatch, apart, warned):
    monkeypatch.setattr(stackwise, "difference", lambda *a: apart)
    file = stack_file(tmp_path / "a.tif", pages(0, 1, 30, 30))
    predict(save_model(tmp_path / "m.safetensors"), file, tmp_path / "out")
    assert capsys.readouterr().err.count("warning: fast form") == warned


def test_nothing_is_said_where_nothing_differs(tmp_path, capsys, monkeypatch):
    model = save_model(tmp_path / "m.safetensors")
    file = stack_file(tmp_path / "a.tif", pages(0, 1, 30, 30))
    predict(model, file, tmp_path / "exact", exact=True)
    monkeypatch.setenv("UNETCU_NATIVE", "0")
    predict(model, file, tmp_path / "numpy")
    assert "fast form" not in capsys.readouterr().err
