"""3x3 convolution + ReLU: first layer, a wide shallow one, a deep one, and a small net's."""

import pytest

from unetcu.ops.conv3x3 import conv3x3

LAYERS = [(572, 1, 64), (282, 128, 128), (30, 512, 1024), (186, 16, 16)]  # input size, C, K


@pytest.mark.parametrize(("size", "C", "K"), LAYERS)
def test_conv3x3(time_op, random, direction, size, C, K):
    inputs = random((1, size, size, C)), random((3, 3, C, K)), random((K,))
    flops = 2 * 9 * (size - 2) ** 2 * C * K
    time_op(conv3x3, inputs, direction, flops, relu=True)
