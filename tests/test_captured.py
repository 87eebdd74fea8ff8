"""Replays have the bits of what they replay, wherever memory is used again, whatever goes aside."""

import copy
import gc
import weakref

import numpy as np
import pytest
from made_up_steps import STEPS, batch, everything, steps, trainer

from unetcu import infer
from unetcu.autograd import Tensor
from unetcu.device.captured import MOST, Asides
from unetcu.device.simt import Simt
from unetcu.errors import DeviceError, GraphError, KernelError
from unetcu.infer import whole
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.reduce import mean
from unetcu.parameters import Parameters
from unetcu.unet import UNet

KINDS = [("fp32", "adamw", 2), ("fp32", "sgd", 1), ("bf16", "sgd", 1), ("fp16", "adamw", 1)]


def plain():
    """simt without captures."""
    where = Simt()
    where.graphs = False
    return where


def counted(where):
    """`where`, and a list that gets an entry for each capture."""
    made, begin = [], where._begin_capture
    where._begin_capture = lambda: (made.append(1), begin())[1]
    return where, made


def scaled(where, by=2.0):
    """A function of x: by * x, in two launches."""

    def function(x):
        y = where.empty(x.shape)
        where.each("elementwise", "elementwise_add", x.size, x, x, y, x.size, x.size)
        z, factor = where.empty(x.shape), where.full((1,), by / 2)
        where.each("elementwise", "elementwise_multiply", x.size, y, factor, z, x.size, 1)
        return z

    return function


@pytest.mark.parametrize(("precision", "optimizer", "depth"), KINDS)
def test_replayed_steps_have_the_bits_of_eager_ones(precision, optimizer, depth):
    kind = precision, optimizer, depth
    sizes = {"depth": depth, "size": 20 if depth == 1 else 44}
    right = trainer(plain(), *kind)
    losses = steps(right, **sizes)
    for modes in ((), ("late",)):
        where, made = counted(Simt(modes))
        ours = trainer(where, *kind)
        assert steps(ours, **sizes) == losses, modes
        assert everything(ours) == everything(right), modes
        assert made == [1]
        assert where.launches == right.net.device.launches


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_resumed_between_replays_goes_on_bit_for_bit(precision):
    right = trainer(plain(), precision)
    losses = steps(right)
    first = trainer(Simt(), precision)
    assert steps(first, 0, 3) == losses[:3]
    saved = copy.deepcopy((first.weights(), first.state()))
    steps(first, 3)
    other = trainer(Simt(), precision, seed=1)
    steps(other, 0, 3)
    for t in (first, other):  # both have a capture, and weights and a scale of their own
        t.load(*saved, 3)
        assert steps(t, 3) == losses[3:]
        assert everything(t) == everything(right)


def test_what_runs_aside_holds_its_memory(monkeypatch):
    """Without that, work that is put off finds others' numbers: the test above would see it."""
    right = trainer(plain(), optimizer="sgd")
    steps(right)
    monkeypatch.setattr(Asides, "use", lambda self, given: None)
    ours = trainer(Simt(("late",)), optimizer="sgd")
    steps(ours)
    assert everything(ours) != everything(right)


def test_only_so_many_forks_are_open_and_a_join_closes_all():
    told = []
    asides = Asides(lambda: told.append("fork"), lambda: len(told), lambda end: told.append(end))
    for _ in range(3):
        with asides.aside():
            asides.use([object()])
    assert told == ["fork", "fork", 1, "fork"]
    asides.join()
    assert told == ["fork", "fork", 1, "fork", 2, 4]


def test_what_is_still_aside_at_the_end_is_joined():
    where = Simt(("late",))

    def function(x):
        y = where.empty(x.shape)
        with where.aside():
            where.each("elementwise", "elementwise_add", x.size, x, x, y, x.size, x.size)
        return y

    run = where.captured(function)
    for k in range(3):
        assert where.get(run(x=np.full(3, k, np.float32))).tolist() == [2 * k] * 3


def test_a_graph_recorded_before_a_replayed_step_can_no_longer_be_used():
    t = trainer(Simt())
    steps(t, 0, 3)
    y = mean(t.net(Tensor(batch(0).x, t.net.device)))
    t.step(batch(3))
    with pytest.raises(GraphError, match="changed between forward and backward"):
        y.backward()


def test_a_gradient_that_is_added_to_waits_for_what_was_made_aside(rng):
    """A weight used twice: its second gradient is added to the first, on the main line."""
    found = []
    x = rng.standard_normal((1, 9, 9, 8)).astype(np.float32)
    w = rng.standard_normal((3, 3, 8, 8)).astype(np.float32)
    for where in (plain(), Simt(("late",))):
        p = Parameters({"a.w": (3, 3, 8, 8), "a.b": (8,)}, where)
        p.write("a.w", w)

        def function(x, where=where, p=p):
            y = conv3x3(conv3x3(Tensor.wrap(x, where), *p.values()), *p.values())
            p.forget_gradients()
            mean(y).backward()
            return p.gradients()

        run = where.captured(function)
        found.append([where.get(run(x=x * k)).tobytes() for k in (1, 2, 3)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


def test_a_number_of_the_host_is_frozen_which_a_comparison_shows():
    right, ours = trainer(plain(), optimizer="sgd"), trainer(Simt(), optimizer="sgd")
    for k in range(STEPS):
        for t in (right, ours):
            t.optimizer.momentum = 0.5 + k / 10
            t.step(batch(k))
        assert (everything(ours) == everything(right)) == (k < 2), k


def test_reading_and_host_values_in_a_capture_are_refused():
    where = Simt()
    for function, message in (
        (lambda x: (where.get(x), x)[1], "reads an array"),
        (lambda x: (where.copy(np.ones(3), x), x)[1], "copies values of the host"),
        (lambda x: where.put(np.ones(3, np.float32) + 0 * x.size), "copies values of the host"),
    ):
        run = where.captured(function)
        run(x=np.zeros(3, np.float32))
        with pytest.raises(KernelError, match=message):
            run(x=np.zeros(3, np.float32))
    assert where.get(where.put(np.ones(3))).tolist() == [1, 1, 1], "the capture was abandoned"


def test_more_memory_than_before_is_refused():
    where, sizes = Simt(), iter([1000, 1000, 9000])

    def function(x):
        scratch = where.full((next(sizes),), 1)
        y = where.empty(x.shape)
        where.each("elementwise", "elementwise_add", 3, x, scratch, y, 3, 3)
        return y

    next(sizes)
    run = where.captured(function)
    run(x=np.zeros(3, np.float32))
    with pytest.raises(DeviceError, match="needs more memory on simt than the same work did"):
        run(x=np.zeros(3, np.float32))


def test_each_shape_has_a_capture_and_all_share_one_memory():
    where, made = counted(Simt())
    run = where.captured(scaled(where))

    def right(size, seed):
        x = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
        return where.get(run(x=x)).tolist() == (2 * x).tolist()

    sizes = (100, 5000, 100, 5000, 100, 5000, 20000, 20000, 100, 5000, 20000)
    for seed, size in enumerate(sizes):
        assert right(size, seed), (seed, size)
    # 100, then 5000, for which there was too little memory: 100 again; 20000 likewise
    assert len(made) == 1 + 1 + 1 + 1 + 2
    assert where._block.nbytes < 4 * 20000 * 4
    assert where.blocks == 3
    for size in range(1, MOST + 5):
        assert right(size, size)
    assert len(run._shapes) == MOST
    assert right(20000, 1)


def test_an_array_made_before_is_kept_and_one_of_the_device_may_be_given():
    where = Simt()
    seven = [where.full((3,), 7)]

    def function(x):
        y = where.empty(x.shape)
        where.each("elementwise", "elementwise_add", 3, x, seven[0], y, 3, 3)
        return y

    run = where.captured(function)
    for k in range(4):
        if k == 2:
            (shape,) = run._shapes.values()
            assert any(a is seven[0] for a in shape.outside.values())
            seven.clear()
        given = np.full(3, k, np.float32)
        assert where.get(run(x=where.put(given) if k % 2 else given)).tolist() == [7 + k] * 3


def test_captures_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("UNETCU_GRAPH", "0")
    off = Simt()
    monkeypatch.setenv("UNETCU_GRAPH", "1")
    debug = Simt()
    debug.debug = True
    for where in (off, debug):
        where, made = counted(where)
        run = where.captured(scaled(where))
        for k in range(3):
            assert where.get(run(x=np.full(3, k, np.float32))).tolist() == [2 * k] * 3
        assert made == []


def test_where_captures_fail_the_work_is_done_without_and_that_is_said_once(capsys):
    right, where = trainer(plain()), Simt()

    def fails():
        raise KernelError("the driver cannot")

    where._begin_capture = fails
    with pytest.raises(KernelError, match="the driver cannot"):
        steps(trainer(where))
    where.does_without_graphs = True
    ours = trainer(where)
    assert steps(ours) == steps(right)
    assert everything(ours) == everything(right)
    assert capsys.readouterr().err == "note: simt works without CUDA graphs: the driver cannot\n"
    steps(trainer(where))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tiles_are_replayed_with_the_weights_of_now(rng, precision):
    image = rng.standard_normal((30, 20, 1)).astype(np.float32)
    nets = [UNet(1, 8, on=w, precision=precision) for w in (plain(), counted(Simt())[0])]
    for seed in range(2):
        fresh = {name: p.numpy() for name, p in UNet(1, 8, seed=seed).parameters.items()}
        for net in nets:
            net.parameters.load(fresh)
        maps = [whole(net, image, 12) for net in nets]
        assert maps[0].tobytes() == maps[1].tobytes()
    made = counted(nets[1].device)[1]
    whole(nets[1], image, 12)
    assert made == [], "every shape had its capture"


def test_training_and_inference_share_memory(rng):
    """Tiles between the steps: what they leave in the block is nobody's, and it grows for them."""
    image, found = rng.standard_normal((44, 44, 1)).astype(np.float32), []
    for where in (plain(), Simt()):
        t, maps = trainer(where, optimizer="sgd"), []
        for k in range(STEPS):
            t.step(batch(k))
            maps += [whole(t.net, image, 44).tobytes()]
        found.append((maps, everything(t)))
    assert found[0] == found[1]
    assert where.blocks == 2


def test_a_trainer_that_is_gone_takes_its_captures_along():
    t = trainer(Simt())
    steps(t)
    gone = weakref.ref(t._work)
    del t
    assert gone() is None


def test_a_network_that_is_gone_leaves_no_capture():
    gc.collect()
    before = len(infer._captured)
    net = UNet(1, 2, on=Simt())
    whole(net, np.zeros((16, 16, 1), np.float32), 16)
    assert len(infer._captured) == before + 1
    del net
    assert len(infer._captured) == before
