"""Matrix product: formula, slopes, whole numbers bit for bit, adjoints, one NaN, shapes."""

import numpy as np
import pytest
from check import check_op, inner, integers, run, same

from unetcu import threads
from unetcu.autograd import Tensor
from unetcu.errors import ShapeError
from unetcu.ops.matmul import MatMul, matmul

SHAPES = [  # rows, C, K
    (1, 1, 1),
    (2, 3, 1),
    (1, 5, 2),
    (3, 1, 8),
    (9, 8, 9),
    (63, 15, 16),
    (64, 16, 17),
    (65, 17, 15),
    (33, 64, 33),
    (257, 33, 3),
    (5000, 3, 2),
    (3, 5000, 2),
    (2, 3, 5000),
    (128, 64, 64),  # tiles of 64 by 64, in steps of 16
    (127, 65, 63),
    (129, 63, 65),
    (1023, 16, 17),  # 1024 rows a part
    (1024, 17, 16),
    (2049, 33, 3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_formula_and_slopes(on, rng, shape):
    R, C, K = shape
    check_op(MatMul, on, rng.standard_normal((R, C)), rng.standard_normal((C, K)), terms=(C, K, R))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_numbers_are_exact(on, rng, shape):
    R, C, K = shape
    a, b, dy = integers(rng, R, C), integers(rng, C, K), integers(rng, R, K)
    y, da, db = run(MatMul, on, [a, b], dy, [0, 1])
    ai, bi, gi = (m.astype(np.int64) for m in (a, b, dy))
    same(y, np.einsum("ic,ck->ik", ai, bi), "y")
    same(da, np.einsum("ik,ck->ic", gi, bi), "da")
    same(db, np.einsum("ic,ik->ck", ai, gi), "db")
    assert inner(y, dy) == inner(a, da) == inner(b, db)


def test_no_rows(on):
    a, b = np.zeros((0, 3), "f"), np.ones((3, 2), "f")
    y, _da, db = run(MatMul, on, [a, b], np.zeros((0, 2), "f"), [0, 1])
    same(y, np.zeros((0, 2)), "y")
    same(db, np.zeros((3, 2)), "db")


def test_nothing_to_add_up(on):
    a, b = np.ones((3, 0), "f"), np.ones((0, 2), "f")
    y, da, db = run(MatMul, on, [a, b], np.ones((3, 2), "f"), [0, 1])
    same(y, np.zeros((3, 2)), "y")
    assert (da.shape, db.shape) == ((3, 0), (0, 2))


@pytest.mark.parametrize("needs", [[0], [1]], ids=str)
def test_either_gradient_alone(on, rng, needs):
    arrays = [rng.standard_normal(s).astype("f") for s in [(70, 33), (33, 66)]]
    dy = rng.standard_normal((70, 66)).astype("f")
    both = run(MatMul, on, arrays, dy, [0, 1])
    assert run(MatMul, on, arrays, dy, needs)[1].tobytes() == both[1 + needs[0]].tobytes()


def test_one_nan_stays_in_its_row_and_column(on, rng):
    a, b = integers(rng, 130, 9), integers(rng, 9, 4)
    a[77, 3] = np.nan
    y, da, db = run(MatMul, on, [a, b], integers(rng, 130, 4), [0, 1])
    assert np.array_equal(np.isnan(y), np.arange(130)[:, None] == [[77] * 4])
    assert not np.isnan(da).any()
    assert np.array_equal(np.isnan(db), np.arange(9)[:, None] == [[3] * 4])


def test_any_number_of_threads_gives_the_same_bits(on, rng, monkeypatch):
    a, b, dy = (rng.standard_normal(s).astype("f") for s in [(3001, 50), (50, 20), (3001, 20)])
    bits = set()
    for n in (1, 2, 3, 4):
        monkeypatch.setattr(threads, "_count", n)
        bits.add(b"".join(r.tobytes() for r in run(MatMul, on, [a, b], dy, [0, 1])))
    assert len(bits) == 1


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((3,), (3, 2)), ((2, 3), (3,)), ((), ())])
def test_shapes_that_do_not_fit(on, shapes):
    a, b = (Tensor(np.zeros(s, "f"), on) for s in shapes)
    with pytest.raises(ShapeError, match=r"needs a \(I,C\) and b \(C,K\), got a"):
        matmul(a, b)
