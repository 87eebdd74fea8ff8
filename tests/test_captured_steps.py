"""Replayed steps and tiles have the bits of eager ones; a network that is gone leaves nothing."""

import copy
import gc
import weakref

import numpy as np
import pytest
from gpus import CUDA
from made_up_steps import STEPS, batch, counted, everything, plain, steps, trainer

from unetcu import infer
from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.device.captured import Asides
from unetcu.device.simt import Simt
from unetcu.errors import GraphError, KernelError
from unetcu.infer import whole
from unetcu.ops.reduce import mean
from unetcu.unet import UNet

KINDS = [("fp32", "adamw", 2), ("fp32", "sgd", 1), ("bf16", "sgd", 1), ("fp16", "adamw", 1)]


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


@pytest.mark.parametrize("on", [CUDA])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_card_replayed_steps_have_the_bits_of_launches(on, precision, monkeypatch):
    where, found = device(on), []
    for graphs in (False, True):
        monkeypatch.setattr(where, "graphs", graphs)
        t = trainer(where, precision)
        found.append((steps(t), everything(t)))
        assert where.graphs == graphs, "the card refused to capture"
    assert found[0] == found[1]


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


def test_a_graph_recorded_before_a_replayed_step_can_no_longer_be_used():
    t = trainer(Simt())
    steps(t, 0, 3)
    y = mean(t.net(Tensor(batch(0).x, t.net.device)))
    t.step(batch(3))
    with pytest.raises(GraphError, match="changed between forward and backward"):
        y.backward()


def test_a_number_of_the_host_is_frozen_which_a_comparison_shows():
    right, ours = trainer(plain(), optimizer="sgd"), trainer(Simt(), optimizer="sgd")
    for k in range(STEPS):
        for t in (right, ours):
            t.optimizer.momentum = 0.5 + k / 10
            t.step(batch(k))
        assert (everything(ours) == everything(right)) == (k < 2), k


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
