"""The engine: gradients summed at fan-out, in the right order, for any graph; which dy it takes."""

import numpy as np

from unetcu.autograd import Op, Tensor
from unetcu.ops.reduce import sum as total
from unetcu.ops.relu import relu


def leaf(values, on="cpu", name=""):
    return Tensor(np.array(values, np.float64), on, needs_grad=True, name=name)


def test_gradients_are_summed_where_a_tensor_is_used_twice(on):
    x = leaf([1.0, 2, 3], on)
    total(x * x + x).backward()
    assert x.grad.tolist() == [3, 5, 7]


def test_one_tensor_as_both_inputs(on):
    x = leaf([3.0], on)
    (x * x).backward()
    assert x.grad.tolist() == [6]
    x = leaf([3.0], on)
    (x + x).backward()
    assert x.grad.tolist() == [2]


def test_a_diamond_of_diamonds(on):
    """2^20 paths from y to x; each tensor's op must be asked once, when its gradient is whole."""
    x = leaf([1.0], on)
    y = x
    for _ in range(20):
        y = y + y
    y.backward()
    assert x.grad.tolist() == [2.0**20]


def test_branches_of_unlike_length(on):
    """x + (x^2 + (x^2)^2): the short branch's gradient must wait for the long one's."""
    x = leaf([2.0], on)
    square = x * x
    (x + (square + square * square)).backward()
    assert x.grad.tolist() == [1 + 2 * 2 + 4 * 8]


def test_a_random_graph_against_its_slope(on, rng):
    """Sixty ops on tensors chosen at random, against central differences of the same program."""
    plan = [(rng.integers(3), *rng.integers(0, i + 3, 2)) for i in range(60)]

    def value(leaves):
        have = list(leaves)
        for kind, i, j in plan:
            a, b = have[i], have[j]
            # halved, so that values stay near 1 however the choice falls
            have.append([a * half + b * half, a * b * half, relu(a) * half + half][kind])
        return total(have[-1] * have[-2] + have[-3])

    half = Tensor(np.float64(0.5), on)
    start = [rng.uniform(0.5, 1, 4) for _ in range(3)]
    leaves = [leaf(a, on) for a in start]
    value(leaves).backward()
    for k, t in enumerate(leaves):
        s, h = rng.standard_normal(4), 1e-5

        def at(step, k=k, s=s):
            moved = [Tensor(a + step * s if i == k else a, on) for i, a in enumerate(start)]
            return value(moved).item()

        slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        got = 0.0 if t.grad is None else float(t.grad @ s)
        assert abs(got - slope) <= 1e-9 * (1 + abs(slope))


def test_backward_adds_to_what_a_leaf_already_has(on):
    x = leaf([1.0, 2], on)
    total(x * x).backward()
    first = x.grad
    total(x).backward()
    assert x.grad.tolist() == [3, 5]
    assert first.tolist() == [2, 4], "the array of the first pass belongs to whoever holds it"


def test_leaves_that_share_a_gradient_do_not_share_its_memory_later(on):
    """a + b hands one array to both; adding to a's must not change b's."""
    a, b = leaf([1.0], on), leaf([1.0], on)
    (a + b).backward([1.0])
    (a * a).backward([1.0])
    assert (a.grad.tolist(), b.grad.tolist()) == ([3], [1])


class Sum(Op):
    """a + b, that hands the very same array to both, as it may."""

    @staticmethod
    def shape(a, b):
        return a

    def forward_cpu(self, a, b):
        return a + b

    def backward_cpu(self, dy):
        return dy, dy


def test_a_gradient_that_two_tensors_share_is_not_added_to_in_place():
    x, z = leaf([3.0]), leaf([0.0])
    square = x * x
    # square and the inner sum wait with one array, which the inner sum hands to square and to z
    Sum.apply(square, Sum.apply(square, z)).backward([1.0])
    assert x.grad.tolist() == [2 * 2 * 3]
    assert z.grad.tolist() == [1]


def test_backward_of_a_leaf(on):
    x = leaf([1.0, 2], on)
    x.backward([5, 7])
    assert x.grad.tolist() == [5, 7]


def test_only_what_needs_a_gradient_gets_one(on):
    x, c = leaf([1.0, 2], on), Tensor([3.0, 4], on)
    y = total(x * c)
    assert (x * c).needs_grad
    assert not (c * c).needs_grad
    assert (c * c).maker is None
    y.backward()
    assert c.grad is None
    assert y.grad is None
    assert x.grad.tolist() == [3, 4]


def test_dy_of_many_kinds(on):
    for dy in ([2.0, 3.0], (2, 3), np.array([2, 3]), np.array([2, 3], np.float32)):
        x = leaf([1.0, 1], on)
        (x * x).backward(dy)
        assert x.grad.dtype == np.float64
        assert x.grad.tolist() == [4, 6]
    for dy in (3, 3.0, np.float32(3), np.float64(3)):
        x = leaf(2.0, on)
        (x * x).backward(dy)
        assert x.grad.tolist() == 12


def test_dy_is_copied(on):
    x, dy = leaf([1.0, 2], on), np.array([1.0, 1])
    (x + x).backward(dy)
    x2 = leaf([1.0, 2], on)
    x2.backward(dy)
    dy[:] = 99
    assert x2.grad.tolist() == [1, 1]
