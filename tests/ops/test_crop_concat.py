"""Crop and concatenate: formula, slopes, every margin, whole numbers bit for bit, shapes."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.crop_concat import CropConcat, crop_concat

SHAPES = [  # N, Hs, Ws, S; H, W, C
    ((1, 1, 1, 1), (1, 1, 1, 1)),
    ((1, 3, 2, 2), (1, 1, 2, 1)),
    ((2, 4, 9, 3), (2, 4, 5, 8)),
    ((3, 9, 6, 8), (3, 5, 4, 3)),
    ((1, 7, 12, 15), (1, 5, 2, 16)),
    ((1, 13, 6, 17), (1, 3, 4, 15)),
    ((2, 12, 10, 33), (2, 4, 6, 64)),
    ((1, 8, 11, 64), (1, 6, 1, 33)),
    ((1, 7, 5004, 1), (1, 3, 5000, 2)),
    ((1, 16, 8, 2), (1, 16, 8, 2)),  # 256 numbers of skip, 256 of x, 512 of y
    ((1, 3, 17, 5), (1, 1, 17, 10)),  # 255
    ((1, 257, 1, 1), (1, 257, 1, 1)),
    ((2, 20, 17, 16), (2, 16, 15, 17)),
    ((3, 9, 22, 33), (3, 9, 12, 16)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shapes):
    skip, x = (rng.standard_normal(s) for s in shapes)
    check_op(CropConcat, on, skip, x, terms=(0, 0, 0), scale="own")


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_whole_numbers_by_counting_pixels(on, rng, shapes):
    skip, x = (integers(rng, *s) for s in shapes)
    (N, Hs, Ws, S), (_, H, W, C) = shapes
    dy = integers(rng, N, H, W, S + C)
    y, dskip, dx = run(CropConcat, on, [skip, x], dy, [0, 1])
    right_y, right_dskip = np.full_like(y, np.nan), np.zeros_like(skip)
    rows = range(Hs)[(Hs - H) // 2 :][:H]  # as many are lost above as below
    assert rows.start == Hs - rows.stop
    columns = range(Ws)[(Ws - W) // 2 :][:W]
    assert columns.start == Ws - columns.stop
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            right_y[:, i, j] = np.hstack([skip[:, row, column], x[:, i, j]])
            right_dskip[:, row, column] = dy[:, i, j, :S]
    same(y, right_y, "y")
    same(dskip, right_dskip, "dskip")
    same(dx, dy[..., S:], "dx")
    assert inner(y, dy) == inner(skip, dskip) + inner(x, dx)


@pytest.mark.parametrize("needs", [[0], [1]], ids=str)
def test_either_gradient_alone(on, rng, needs):
    arrays, dy = [integers(rng, 2, 9, 8, 3), integers(rng, 2, 7, 4, 5)], integers(rng, 2, 7, 4, 8)
    both = run(CropConcat, on, arrays, dy, [0, 1])
    same(run(CropConcat, on, arrays, dy, needs)[1], both[1 + needs[0]], "gradient")


def test_no_pixels(on):
    arrays = [np.zeros((0, 6, 5, 2), "f"), np.zeros((0, 4, 5, 3), "f")]
    y, dskip, dx = run(CropConcat, on, arrays, np.zeros((0, 4, 5, 5), "f"), [0, 1])
    assert (y.size, dskip.size, dx.size) == (0, 0, 0)
    arrays = [np.ones((1, 3, 2, 2), "f"), np.zeros((1, 1, 0, 3), "f")]
    dskip = run(CropConcat, on, arrays, np.zeros((1, 1, 0, 5), "f"), [0])[1]
    same(dskip, np.zeros((1, 3, 2, 2)), "dskip")  # all of it was cropped away


def test_one_nan_reaches_its_own_place(on, rng):
    skip, x = integers(rng, 1, 6, 8, 2), integers(rng, 1, 4, 4, 3)
    skip[0, 0, 3, 1] = np.nan  # cropped away
    skip[0, 2, 3, 0] = np.nan
    x[0, 3, 1, 2] = np.nan
    y = crop_concat(Tensor(skip, on), Tensor(x, on)).numpy()
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 1, 1, 0], [0, 3, 1, 4]]


@pytest.mark.parametrize(
    ("skip", "x"),
    [
        ((1, 5, 4, 1), (1, 4, 4, 1)),
        ((1, 4, 5, 1), (1, 4, 4, 1)),
        ((1, 4, 4, 1), (1, 6, 4, 1)),
        ((1, 4, 4, 1), (1, 4, 6, 1)),
        ((2, 4, 4, 1), (1, 4, 4, 1)),
        ((4, 4, 1), (1, 4, 4, 1)),
        ((1, 4, 4, 1), (4, 4, 1)),
        ((1,), (1,)),
    ],
)
def test_shapes_that_do_not_fit(on, skip, x):
    with pytest.raises(ShapeError, match=r"larger than x .* by an even number"):
        crop_concat(Tensor(np.zeros(skip, "f"), on), Tensor(np.zeros(x, "f"), on))
