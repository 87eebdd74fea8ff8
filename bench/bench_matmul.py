"""Matrix product: what the convolutions are built on."""

import pytest

from unetcu.ops.matmul import matmul


@pytest.mark.parametrize("n", [256, 1024])
def test_matmul(time_op, random, direction, n):
    time_op(matmul, (random((n, n)), random((n, n))), direction, 2 * n**3)
