"""The network against the paper: parameters, layers, the sizes of figure 1, initial weights."""

import itertools

import numpy as np
import pytest

from unetcu import no_grad
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError, UsageError
from unetcu.ops.reduce import sum as total
from unetcu.unet import UNet, output_size, valid_sizes

# Heights and widths of figure 1, top left to bottom to top right; a pool or up-convolution between
# the groups.
FIGURE_1 = [
    (572, 570, 568),
    (284, 282, 280),
    (140, 138, 136),
    (68, 66, 64),
    (32, 30, 28),
    (56, 54, 52),
    (104, 102, 100),
    (200, 198, 196),
    (392, 390, 388),
]
CHANNELS = [64, 128, 256, 512, 1024, 512, 256, 128, 64]
CONVOLUTIONS = ("conv 3x3 + ReLU", "up-conv 2x2", "conv 1x1")


@pytest.fixture(scope="module")
def paper():
    """The paper's network; making its 31 million weights takes half a second."""
    return UNet()


def test_parameters_and_layers_of_the_paper(paper):
    assert paper.parameters.size == 31_030_658
    layers = list(paper.layers(572, 572))
    kinds = [layer.kind for layer in layers]
    assert [kinds.count(k) for k in CONVOLUTIONS] == [18, 4, 1]
    assert sum(k in CONVOLUTIONS for k in kinds) == 23
    assert kinds.count("max-pool 2x2") == kinds.count("crop + concat") == 4
    assert sum(layer.parameters for layer in layers) == 31_030_658
    by_name = {layer.name: layer.parameters for layer in layers}
    assert by_name["down1.conv1"] == 9 * 64 + 64
    assert by_name["bottom.conv2"] == 9 * 1024 * 1024 + 1024
    assert by_name["up4.upconv"] == 4 * 1024 * 512 + 512
    assert by_name["up4.conv1"] == 9 * 1024 * 512 + 512
    assert by_name["head"] == 64 * 2 + 2


def test_every_size_of_figure_1(paper):
    sizes = iter(paper.layers(572, 572))
    h, c = 572, 1
    for i, (group, channels) in enumerate(zip(FIGURE_1, CHANNELS, strict=True)):
        if 0 < i <= 4:
            pool = next(sizes)
            assert (pool.input, pool.output) == ((h, h, c), (group[0], group[0], c))
        if i > 4:
            up, concat = next(sizes), next(sizes)
            assert (up.input, up.output) == ((h, h, c), (group[0], group[0], channels))
            skip = FIGURE_1[8 - i][2]
            assert concat.input == (skip, skip, channels)
            assert concat.output == (group[0], group[0], 2 * channels)
            c = 2 * channels
        if i in range(1, 5):
            h = group[0]
        for before, after in itertools.pairwise(group):
            conv = next(sizes)
            assert (conv.input, conv.output) == ((before, before, c), (after, after, channels))
            c = channels
        h = group[2]
    head = next(sizes)
    assert (head.kind, head.input, head.output) == ("conv 1x1", (388, 388, 64), (388, 388, 2))
    assert next(sizes, None) is None


def test_operations_are_counted(paper):
    layers = {layer.name: layer for layer in paper.layers(572, 572)}
    assert layers["down1.conv2"].flops == 2 * 9 * 64 * 64 * 568 * 568
    assert layers["up1.upconv"].flops == 2 * 128 * 64 * 392 * 392
    assert layers["head"].flops == 2 * 64 * 2 * 388 * 388
    assert layers["down1.pool"].flops == layers["up1.concat"].flops == 0


@pytest.mark.parametrize(("h", "w"), [(188, 220), (204, 188)])
def test_a_forward_pass_goes_through_the_shapes_of_the_table(on, rng, h, w):
    net = UNet(4, 2, in_channels=3, classes=5, on=on)
    y = net(Tensor(rng.random((2, h, w, 3), np.float32), on))
    assert y.shape == (2, h - 184, w - 184, 5)
    graph = total(y).graph()
    made = [n.shape for n in graph.nodes if n.kind == "op" and n.label != "Sum"]
    assert made == [(2, *layer.output) for layer in net.layers(h, w)]


def test_the_papers_sizes_for_real(on):
    """572 in, 388 out, and all the sizes between; the first level has 1 channel instead of 64."""
    net = UNet(4, 1, on=on)
    y = net(Tensor(np.ones((1, 572, 572, 1), np.float32), on))
    assert y.shape == (1, 388, 388, 2)
    made = [n.shape[1] for n in y.graph().nodes if n.label in ("Conv3x3", "MaxPool2", "UpConv2")]
    assert made == [size for group in FIGURE_1 for size in group][1:]


@pytest.mark.parametrize(
    ("depth", "first", "out"), [(1, 18, 2), (2, 44, 4), (3, 92, 4), (4, 188, 4), (5, 380, 4)]
)
def test_valid_sizes(on, depth, first, out):
    sizes = valid_sizes(depth, 1, first + 3 * 2**depth)
    assert list(sizes) == [first + k * 2**depth for k in range(4)]
    assert output_size(first, depth) == out
    if depth <= 3:
        net = UNet(depth, 1, on=on)
        for size in (first, first + 2**depth):
            with no_grad():
                y = net(Tensor(np.ones((1, size, first, 1), np.float32), on))
            assert y.shape == (1, output_size(size, depth), out, 2)


@pytest.mark.parametrize("size", [571, 573, 556 + 8, 172, 1])
def test_sizes_that_do_not_fit(on, size):
    net = UNet(4, 1, on=on)
    for shape in [(1, size, 572, 1), (1, 572, size, 1)]:
        with pytest.raises(ShapeError, match=str(size)):
            net(Tensor(np.zeros(shape, np.float32), on))
    with pytest.raises(ShapeError, match=str(size)):
        list(net.layers(size, 572))
    with pytest.raises(ShapeError, match=str(size)):
        list(net.layers(572, size))


def test_inputs_that_do_not_fit(on):
    net = UNet(1, 1, in_channels=3, on=on)
    for shape in [(1, 20, 20, 1), (20, 20, 3), (1, 1, 20, 20, 3)]:
        with pytest.raises(ShapeError, match=r"takes \(N,H,W,3\), got"):
            net(Tensor(np.zeros(shape, np.float32), on))


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"depth": 9},
        {"base": 0},
        {"in_channels": 0},
        {"classes": 0},
        {"classes": -1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": float("nan")},
    ],
    ids=str,
)
def test_networks_that_make_no_sense(options):
    with pytest.raises(UsageError, match="must be at least"):
        UNet(**{"depth": 1, "base": 1, **options})


def test_names_tell_the_place_in_the_figure(on):
    net = UNet(2, 1, on=on)
    places = [
        *("down1.conv1", "down1.conv2", "down2.conv1", "down2.conv2", "bottom.conv1"),
        *("bottom.conv2", "up2.upconv", "up2.conv1", "up2.conv2", "up1.upconv", "up1.conv1"),
        *("up1.conv2", "head"),
    ]
    assert list(net.parameters) == [f"{p}.{which}" for p in places for which in "wb"]
    assert all(p.name == name for name, p in net.parameters.items())


def test_initial_weights_have_the_papers_deviation(paper):
    """sqrt(2 / N), N the incoming nodes of one neuron: 9 C, and C for an up-convolution, whose
    output pixels each see one input pixel."""
    for name, shape in paper.weight_shapes().items():
        w = paper.parameters[name + ".w"].numpy().ravel()
        n = shape[2] * (1 if name.endswith("upconv") else 9) if len(shape) == 4 else shape[0]
        sigma = np.sqrt(2 / n)
        assert abs(w.std() / sigma - 1) < 4 / np.sqrt(2 * w.size), name
        assert abs(w.mean()) < 4 * sigma / np.sqrt(w.size), name
        # Gaussian: as many within one deviation as there should be
        inside = np.mean(np.abs(w) < sigma)
        assert abs(inside - 0.6827) < 4 * np.sqrt(0.6827 * 0.3173 / w.size), name
        assert not paper.parameters[name + ".b"].numpy().any()


def test_layers_start_unlike_each_other_and_seeds_differ(on):
    net = UNet(2, 4, on=on)
    pairs = [("down1.conv2.w", "up1.conv2.w"), ("up1.conv1.w", "down2.conv1.w")]
    for a, b in pairs:
        u, v = (net.parameters[n].numpy().ravel()[:140] for n in (a, b))
        u, v = u / u.std(), v / v.std()
        assert abs(np.mean(u * v)) < 4 / np.sqrt(u.size)
    other = UNet(2, 4, seed=1, on=on)
    same = UNet(2, 4, on=on)
    assert same.parameters.flat.tobytes() == net.parameters.flat.tobytes()
    assert other.parameters.flat.tobytes() != net.parameters.flat.tobytes()


def test_config_builds_the_same_network(on):
    net = UNet(2, 3, 2, 4, dropout=0.25, on=on)
    again = UNet(**net.config, on=on)
    assert again.config == net.config
    assert again.parameters.flat.tobytes() == net.parameters.flat.tobytes()


def test_summary_is_the_figure_as_a_table(paper):
    lines = paper.summary().splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert "572 x 572 x 1" in rows["down1.conv1"]
    assert "570 x 570 x 64" in rows["down1.conv1"]
    assert "30 x 30 x 1024" in rows["bottom.conv1"]
    assert "9,438,208" in rows["bottom.conv2"]
    assert "388 x 388 x 2" in rows["head"]
    total_line = lines[-1]
    assert "23 convolutional layers, 31,030,658 parameters" in total_line
    assert "572x572 -> 388x388" in total_line
    flops = sum(layer.flops for layer in paper.layers(572, 572)) / 1e9
    assert f"{flops:.1f} GFLOP forward" in total_line
    # By hand: float32 megabytes of the first output, millions of its operations.
    assert rows["down1.conv1"].split()[-2:] == ["374", "83.2"]
    assert "188x188 -> 4x4" in paper.summary(188)


def test_dropout_acts_in_training_at_the_bottom_alone(on, rng):
    net = UNet(1, 2, dropout=0.5, on=on)
    x = Tensor(rng.random((1, 20, 20, 1), np.float32), on)
    when = Tensor(np.array([3, 7], np.uint32), on)
    plain, again, training = net(x), net(x), net(x, when)
    assert plain.numpy().tobytes() == again.numpy().tobytes()
    assert plain.numpy().tobytes() != training.numpy().tobytes()
    labels = [n.label for n in training.graph().nodes]
    assert "Dropout" not in [n.label for n in plain.graph().nodes]
    assert labels.count("Dropout") == 1
    bottom = next(n for n in training.graph().nodes if n.label == "Dropout").parents[0]
    assert bottom.label == "Conv3x3"
    assert bottom.shape == (1, 4, 4, 4)
    off = UNet(1, 2, dropout=0.0, on=on)
    assert "Dropout" not in str(off(x, when).graph())
    later = net(x, Tensor(np.array([3, 8], np.uint32), on))
    assert later.numpy().tobytes() != training.numpy().tobytes()
