"""Reshape: formula, slopes, order, -1, shapes that do not fit."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.reshape import Reshape, reshape

CASES = [  # from, to, comes out as
    ((), (), ()),
    ((), (1, 1), (1, 1)),
    ((1,), (), ()),
    ((6,), (2, 3), (2, 3)),
    ((2, 3, 4), (4, -1), (4, 6)),
    ((2, 3, 4), (-1,), (24,)),
    ((3, 5000), (-1, 3), (5000, 3)),
    ((2, 3, 5, 17), (6, 85), (6, 85)),
    ((0, 3), (3, 0), (3, 0)),
    ((7, 1), (-1, 7), (1, 7)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_formula_slopes_and_order(on, rng, case):
    shape, to, right = case
    x = integers(rng, *shape)
    assert Reshape.shape(shape, to=to) == right
    if x.size:
        check_op(Reshape, on, x, terms=(0, 0), scale="own", to=to)
    dy = integers(rng, *right)
    y, dx = run(Reshape, on, [x], dy, [0], to=to)
    same(y.ravel(), x.ravel(), "y")
    same(dx.ravel(), dy.ravel(), "dx")
    assert inner(y, dy) == inner(x, dx)


@pytest.mark.parametrize(
    ("shape", "to"),
    [
        ((6,), (4,)),
        ((6,), (-1, 4)),
        ((6,), (-1, -1)),
        ((6,), (-2, -3)),
        ((6,), ()),
        ((0,), (-1, 0)),
        ((6,), (0, -1)),
        ((4,), (-1, -4)),
    ],
)
def test_shapes_that_do_not_fit(on, shape, to):
    with pytest.raises(ShapeError, match=r"numbers of shape .* cannot be put in shape"):
        reshape(Tensor(np.zeros(shape, "f"), on), to=to)
