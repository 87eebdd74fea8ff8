"""The 1x1 head: 64 channels to 2 classes at the paper's output size, 16 to 2 for a small net."""

import pytest

from unetcu.ops.conv1x1 import conv1x1


@pytest.mark.parametrize(("size", "C"), [(388, 64), (100, 16)])
def test_conv1x1(time_op, random, direction, size, C):
    inputs = random((1, size, size, C)), random((C, 2)), random((2,))
    time_op(conv1x1, inputs, direction, 2 * size**2 * C * 2)
