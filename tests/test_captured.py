"""Functions that are captured: their memory, what runs aside, what is refused and redone."""

import numpy as np
import pytest
from made_up_steps import counted, plain

from unetcu.autograd import Tensor
from unetcu.device.captured import MOST, Asides
from unetcu.device.simt import Simt
from unetcu.errors import DeviceError, KernelError
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.reduce import mean
from unetcu.parameters import Parameters


def scaled(where, by=2.0):
    """A function of x: by * x, in two launches."""

    def function(x):
        y = where.empty(x.shape)
        where.each("elementwise", "elementwise_add", x.size, x, x, y, x.size, x.size)
        z, factor = where.empty(x.shape), where.full((1,), by / 2)
        where.each("elementwise", "elementwise_multiply", x.size, y, factor, z, x.size, 1)
        return z

    return function


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
