"""a + b and a * b of two maps: bound by memory."""

import pytest

from unetcu.ops.elementwise import add, multiply


@pytest.mark.parametrize("op", [add, multiply], ids=["add", "multiply"])
def test_elementwise(time_op, random, direction, op):
    time_op(op, (random((1, 388, 388, 64)), random((1, 388, 388, 64))), direction)
