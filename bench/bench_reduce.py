"""Sum and mean of a map: bound by memory."""

import pytest

from unetcu.ops.reduce import mean, sum


@pytest.mark.parametrize("op", [sum, mean], ids=["sum", "mean"])
def test_reduce(time_op, random, direction, op):
    time_op(op, (random((1, 388, 388, 64)),), direction)
