"""Streams, events and graphs of the cuda device, on a card that puts off whatever it may."""

import numpy as np
import pytest
from fakecuda import FakeCudaError
from made_up_steps import STEPS, batch, everything, steps, trainer

from unetcu.device.cuda import Cuda
from unetcu.device.simt import Simt
from unetcu.errors import KernelError

pytest_plugins = ("fakestreams",)  # the fixture `world`


@pytest.fixture
def right():
    """(losses, all arrays) of steps without captures."""
    where = Simt()
    where.graphs = False
    t = trainer(where)
    return steps(t), everything(t)


def doubled(where):
    """A function of x: 2 x."""

    def function(x):
        y = where.empty(x.shape)
        where.each("elementwise", "elementwise_add", x.size, x, x, y, x.size, x.size)
        return y

    return function


def test_training_has_the_bits_of_simt(world, right):
    ours = trainer(Cuda())
    assert steps(ours) == right[0]
    assert everything(ours) == right[1]
    assert world.log.count("null: graph") == STEPS - 1


def test_the_host_may_be_steps_ahead(world, right):
    ours = trainer(Cuda())
    losses = [ours.begin(batch(k)) for k in range(STEPS)]
    before = world.null.done
    assert world.streams["stream 1"].done == 2, "two batches of three wait to be copied"
    assert losses[1].item() == right[0][1]
    assert before < world.null.done < len(world.null.work), "later steps have not been waited for"
    assert [loss.item() for loss in losses] == right[0]
    assert everything(ours) == right[1]


def test_what_a_batch_and_its_step_ask_for(world):
    where = Cuda()
    run = where.captured(doubled(where))
    for k in range(4):
        fetched = None
        world.log.clear()
        given = {"x": np.full(100, k, np.float32)}
        fetched = where.fetch(run(**given))
        if k == 1:
            assert "stream 1: wait for null" in world.log, "its memory was someone's before"
            assert world.log[:3] == ["host: trim", "stream 2: begin capture",
                                     "stream 2: elementwise_add"]  # fmt: skip
            assert world.log[3:5] == ["stream 2: device to device", "stream 2: end capture"]
        if k == 3:
            assert world.log == [
                "host: wait for stream 1",  # the batch before last has been copied
                "stream 1: wait for null",  # and taken
                "stream 1: host to device",
                "null: wait for stream 1",
                "null: device to device",
                "null: graph",
                "null: device to host",
            ]
        assert fetched.numpy().tolist() == [2 * k] * 100


def test_weight_gradients_fork_off_and_are_waited_for(world):
    ours = trainer(Cuda())
    steps(ours, 0, 2)
    begin, end = (
        next(i for i, line in enumerate(world.log) if line.endswith(f" {what} capture"))
        for what in ("begin", "end")
    )
    main = world.log[begin].partition(":")[0]
    captured = [line for line in world.log[begin + 1 : end] if not line.startswith("null")]
    side = {line.partition(":")[0] for line in captured} - {main}
    assert len(side) == 1
    (side,) = side
    aside = [line.split(": ")[1] for line in captured if line.startswith(side)]
    weights = [what for what in aside if "backward_w" in what]
    assert len(weights) == 6 + 1  # convolutions; the up-convolution
    assert aside.count(f"wait for {main}") == captured.count(f"{main}: wait for {side}") == 7
    step = captured.index(f"{main}: optim_adamw")
    assert captured[:step].count(f"{main}: wait for {side}") == 7
    assert not any(line.startswith(side) for line in captured[step:])


def test_inputs_that_are_on_the_card_are_copied_there(world):
    where = Cuda()
    run = where.captured(lambda x, y: doubled(where)(x) if y.size else None)
    for k in range(4):
        x, y = np.full((2, 3), k, np.float32), np.arange(k, k + 5)
        got = run(x=x if k == 3 else where.put(x), y=where.put(y) if k == 2 else y)
        assert where.owns(got)
        assert where.get(got).tolist() == (2 * x).tolist()
    (shape,) = run._shapes.values()
    assert where.get(shape.inputs.arrays["y"]).tolist() == y.tolist()
    assert all(a.ctypes.data % 16 == 0 for a in shape.inputs.arrays.values())


@pytest.mark.parametrize("refuses", ["begin", "end"])
def test_a_card_that_captures_nothing_works_without(world, right, capsys, refuses):
    world.refuses = refuses
    ours = trainer(Cuda())
    assert steps(ours) == right[0]
    assert everything(ours) == right[1]
    assert "null: graph" not in world.log
    assert capsys.readouterr().err.startswith(
        "note: cuda:0 works without CUDA graphs: a kernel failed on cuda:0: CUDA_ERROR_STREAM_CAP"
    )


def test_a_capture_that_goes_wrong_is_ended_and_said(world, capsys):
    where = Cuda()
    for what, message in (("get", "reads an array"), ("copy", "copies values of the host")):
        where.graphs = True

        def function(x, what=what):
            if what == "get":
                where.get(x)
            else:
                where.copy(np.zeros(3, np.float32), x)
            return doubled(where)(x)

        run = where.captured(function)
        for _ in range(3):
            assert where.get(run(x=np.ones(3, np.float32))).tolist() == [2 * (what == "get")] * 3
        assert message in capsys.readouterr().err
        assert world.capture == []


def test_an_error_of_the_program_is_no_error_of_the_card(world):
    where, wrong = Cuda(), []

    def function(x):
        if wrong:
            raise ZeroDivisionError
        return doubled(where)(x)

    run = where.captured(function)
    run(x=np.ones(3, np.float32))
    wrong.append(1)
    with pytest.raises(ZeroDivisionError):
        run(x=np.ones(3, np.float32))
    assert world.capture == []
    wrong.clear()
    assert where.get(run(x=np.ones(3, np.float32))).tolist() == [2, 2, 2]
    assert where.graphs


def test_memory_of_the_host_is_not_given_back_while_it_is_copied(world):
    where = Cuda()
    run = where.captured(doubled(where))
    for _ in range(3):
        run(x=np.ones(3, np.float32))
    fetched, copies = where.fetch(where.empty((1,))), world.streams["stream 1"]
    assert copies.done < len(copies.work)
    del run
    assert copies.done == len(copies.work)
    assert world.null.done < len(world.null.work)
    del fetched
    assert world.null.done == len(world.null.work)


def test_errors_while_waiting_are_those_of_the_device(world):
    where = Cuda()
    fetched = where.fetch(where.put(np.ones(1, np.float32)))

    def fails():
        raise FakeCudaError("CUDA_ERROR_ILLEGAL_ADDRESS")

    world.null.work.insert(0, fails)
    with pytest.raises(KernelError, match="ILLEGAL_ADDRESS"):
        fetched.item()
