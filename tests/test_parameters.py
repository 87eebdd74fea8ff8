"""The parameter arena: slices of two flat arrays, versions, stale gradients, loading."""

import numpy as np
import pytest

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.errors import ShapeError
from unetcu.ops.conv1x1 import conv1x1
from unetcu.ops.reduce import sum as total
from unetcu.optim import SGD
from unetcu.parameters import Parameters

SHAPES = {"first.w": (2, 3), "first.b": (3,), "scale": ()}
VALUES = {"first.w": np.arange(6).reshape(2, 3), "first.b": np.arange(6, 9), "scale": 9}


@pytest.fixture
def arena(on):
    """Parameters with the values 0, 1, 2, ... in the order of the flat array."""
    p = Parameters(SHAPES, device(on))
    for name, values in p.named(p.writable()).items():
        values[...] = VALUES[name]
    return p


def numbers(arena, flat):
    """A flat array's numbers in the order given, without what pads it."""
    return np.concatenate([a.ravel() for a in arena.named(flat).values()]).tolist()


def test_a_mapping_in_the_order_given(arena):
    assert list(arena) == list(SHAPES)
    assert len(arena) == 3
    assert arena.size == 10
    assert [p.shape for p in arena.values()] == list(SHAPES.values())
    assert [p.name for p in arena.values()] == list(SHAPES)
    assert all(p.needs_grad and p.dtype == np.float32 for p in arena.values())
    with pytest.raises(KeyError):
        arena["second.w"]


def test_parameters_are_slices_of_the_flat_array(arena):
    assert arena["first.w"].numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arena["first.b"].numpy().tolist() == [6, 7, 8]
    assert arena["scale"].item() == 9
    assert arena.flat.shape == arena.grads.shape == (96,)
    arena.writable()[32] = 60
    assert arena["first.b"].numpy().tolist() == [60, 7, 8]
    named = arena.named(np.arange(96))
    assert named["first.w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert named["first.b"].tolist() == [32, 33, 34]
    assert named["scale"].tolist() == 64


def test_each_parameter_starts_on_a_cache_line(arena):
    starts = [p.numpy().ctypes.data - arena.flat.ctypes.data for p in arena.values()]
    assert starts == [0, 128, 256]
    assert arena.flat.sum() == sum(range(10))  # between them lies nothing


def test_a_new_arena_is_zero_and_of_the_precision_asked_for(on):
    p = Parameters(SHAPES, device(on), np.float64)
    assert p.flat.dtype == p.grads.dtype == p["scale"].dtype == np.float64
    assert not p.flat.any()
    assert not p.grads.any()


def test_values_can_only_be_written_with_notice(arena):
    with pytest.raises(ValueError, match="read-only"):
        arena["first.w"].numpy()[:] = 0
    before = arena["first.b"].version
    arena.writable()
    assert arena["first.w"].version == arena["first.b"].version > before
    before = arena.version
    arena.write("scale", np.float32(4))
    assert arena.version > before
    before = arena.version
    arena.load({name: np.zeros(shape) for name, shape in SHAPES.items()})
    assert arena.version > before


def test_gradients_land_in_the_flat_array_and_add_up(on, arena):
    x = Tensor(np.ones((1, 2), np.float32), on)

    def backward():
        total((x @ arena["first.w"]) + arena["first.b"]).backward()

    backward()
    assert numbers(arena, arena.grads) == [1] * 9 + [0]
    assert np.shares_memory(arena["first.w"].grad, arena.grads)
    assert arena["scale"].grad is None
    backward()
    assert numbers(arena, arena.grads) == [2] * 9 + [0]
    arena.forget_gradients()
    assert arena["first.w"].grad is None
    backward()
    assert numbers(arena, arena.grads) == [1] * 9 + [0]


def test_a_parameter_used_twice(on, arena):
    b = arena["first.b"]
    total(b * b).backward()
    assert arena["first.b"].grad.tolist() == [12, 14, 16]


def test_an_old_gradient_moves_nothing(on, arena):
    """Step 1 reaches `scale`, step 2 does not: with no momentum it must then stay."""
    optimizer = SGD(arena, 1.0, momentum=0.0)
    total(arena["first.b"] * arena["scale"]).backward()
    optimizer.step()
    scale = arena["scale"].item()
    assert scale != 9
    arena.forget_gradients()
    total(arena["first.b"] + arena["first.b"]).backward()
    before = arena["first.b"].numpy().copy()
    optimizer.step()
    assert arena["scale"].item() == scale
    assert np.array_equal(arena["first.b"].numpy(), before - 2)


def test_writing_one(arena):
    arena.write("first.b", np.array([3, 1, 2]))
    assert numbers(arena, arena.flat) == [0, 1, 2, 3, 4, 5, 3, 1, 2, 9]
    with pytest.raises(ShapeError, match=r"first\.b is \(3,\), the array given \(2,\)"):
        arena.write("first.b", np.zeros(2))
    with pytest.raises(ShapeError, match=r"scale is \(\), the array given \(1,\)"):
        arena.write("scale", np.zeros(1))


def test_loading_all(arena, rng):
    new = {name: rng.standard_normal(shape) for name, shape in reversed(SHAPES.items())}
    new["scale"] = np.asarray(new["scale"])
    arena.load(new)
    for name, array in new.items():
        assert np.array_equal(arena[name].numpy(), array.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": None}, r"scale is missing in what was given, \(\) in this network"),
        ({"head": np.zeros(2)}, r"head is \(2,\) in what was given, absent in this network"),
        ({"first.w": np.zeros((3, 2))}, r"first\.w is \(3, 2\) in what .* \(2, 3\) in this"),
        ({"first.b": np.zeros((3, 1))}, r"first\.b is \(3, 1\) in what .* \(3,\) in this"),
    ],
    ids=["missing", "too many", "transposed", "column"],
)
def test_weights_that_do_not_fit_change_nothing(arena, change, says):
    given = {name: np.full(shape, 5.0) for name, shape in SHAPES.items()} | change
    given = {name: array for name, array in given.items() if array is not None}
    before = arena.flat.copy()
    with pytest.raises(ShapeError, match=f"weights do not fit: {says}"):
        arena.load(given)
    assert np.array_equal(arena.flat, before)


@pytest.mark.parametrize("native", ["0", "1"])
def test_a_weight_used_twice_gets_both_gradients(rng, monkeypatch, native):
    """The first is written to its place in the flat array, the second is added to it."""
    monkeypatch.setenv("UNETCU_NATIVE", native)
    p = Parameters({"w": (3, 4), "b": (4,)}, device("cpu"))
    p.write("w", rng.integers(-3, 4, (3, 4)).astype(np.float32))
    x, y = (Tensor(rng.integers(-3, 4, (1, 5, 6, 3)).astype(np.float32)) for _ in range(2))
    for _ in range(2):  # what stands there from the step before is written over
        p.forget_gradients()
        (conv1x1(x, p["w"], p["b"]) + conv1x1(y, p["w"], p["b"])).backward(np.ones((1, 5, 6, 4)))
        sums = (x.numpy() + y.numpy()).sum((0, 1, 2))
        assert p["w"].grad.tolist() == np.repeat(sums[:, None], 4, 1).tolist()
        assert p["b"].grad.tolist() == [60.0] * 4
        assert np.shares_memory(p["w"].grad, p.gradients())
