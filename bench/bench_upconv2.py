"""2x2 up-convolution: the deepest and the topmost of the paper's network, and a small net's."""

import pytest

from unetcu.ops.upconv2 import upconv2


@pytest.mark.parametrize(("size", "C"), [(28, 1024), (196, 128), (52, 32)])
def test_upconv2(time_op, random, direction, size, C):
    K = C // 2
    inputs = random((1, size, size, C)), random((2, 2, C, K)), random((K,))
    time_op(upconv2, inputs, direction, 2 * 4 * size**2 * C * K)
