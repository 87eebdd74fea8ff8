"""Sums and products: formula, slopes, the repeated operand, whole numbers, shapes."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.elementwise import Add, Multiply, add, multiply

SHAPES = [  # of a, of b
    ((), ()),
    ((1,), (1,)),
    ((5,), ()),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((4, 1), (1,)),
    ((2, 3, 5, 17), (17,)),
    ((3, 5, 2, 8), (2, 8)),
    ((3, 2, 7, 9), ()),
    ((3, 5000), (5000,)),
    ((5000, 3), (3,)),
    ((2, 3, 5, 64), (2, 3, 5, 64)),
    ((256,), (256,)),  # a block
    ((257,), (257,)),
    ((255, 1), (1,)),
    ((1025, 16), (16,)),
    ((3, 17, 13, 16), (13, 16)),
    ((300, 17), ()),
]


@pytest.mark.parametrize("op", [Add, Multiply])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, op, shapes):
    a, b = (np.asarray(rng.standard_normal(s)) for s in shapes)
    check_op(op, on, a, b, terms=(1, 1, a.size // b.size))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_whole_numbers_are_exact(on, rng, shapes):
    (a, b), dy = (integers(rng, *s) for s in shapes), integers(rng, *shapes[0])
    repeated = tuple(range(a.ndim - b.ndim))
    y, da, db = run(Add, on, [a, b], dy, [0, 1])
    same(y, a.astype(int) + b.astype(int), "a + b")
    same(da, dy, "da")
    same(db, dy.astype(int).sum(axis=repeated), "db")
    assert inner(y, dy) == inner(a, da) + inner(b, db)
    y, da, db = run(Multiply, on, [a, b], dy, [0, 1])
    same(y, a.astype(int) * b.astype(int), "a b")
    same(da, dy.astype(int) * b.astype(int), "da")
    same(db, (dy.astype(int) * a.astype(int)).sum(axis=repeated), "db")
    assert inner(y, dy) == inner(a, da) == inner(b, db)


@pytest.mark.parametrize("op", [Add, Multiply])
def test_nothing_repeated(on, op):
    for rows, columns in [(0, 3), (3, 0), (0, 0)]:
        a, b = np.zeros((rows, columns), "f"), np.ones(columns, "f")
        y, da, db = run(op, on, [a, b], a, [0, 1])
        assert y.shape == da.shape == a.shape
        same(db, np.zeros(columns), "db")


@pytest.mark.parametrize("op", [Add, Multiply])
@pytest.mark.parametrize("needs", [[0], [1]], ids=str)
def test_either_gradient_alone(on, rng, op, needs):
    arrays, dy = [integers(rng, 7, 5, 33), integers(rng, 5, 33)], integers(rng, 7, 5, 33)
    both = run(op, on, arrays, dy, [0, 1])
    same(run(op, on, arrays, dy, needs)[1], both[1 + needs[0]], "gradient")


def test_signs_on_tensors(on):
    a, b = (Tensor(np.array(v, "f"), on, needs_grad=True) for v in ([1, 2], [3, 5]))
    (a * b + a).backward([1, 10])
    assert a.grad.tolist() == [4, 60]
    assert b.grad.tolist() == [1, 20]


def test_one_nan_stays_in_its_place(on):
    a, b = np.zeros((3, 2), "f"), np.ones(2, "f")
    a[1, 0] = np.nan
    for op in (add, multiply):
        y = op(Tensor(a, on), Tensor(b, on)).numpy()
        assert np.argwhere(np.isnan(y)).tolist() == [[1, 0]]


@pytest.mark.parametrize("op", [add, multiply])
@pytest.mark.parametrize(
    "shapes", [((3,), (2,)), ((2, 3), (2,)), ((3,), (2, 3)), ((2, 3), (1, 3)), ((), (1,))]
)
def test_shapes_that_do_not_fit(on, op, shapes):
    a, b = (Tensor(np.zeros(s, "f"), on) for s in shapes)
    with pytest.raises(ShapeError, match="a's shape or its last dimensions; got a"):
        op(a, b)
