"""ReLU alone (the convolutions have it built in): bound by memory."""

from unetcu.ops.relu import relu


def test_relu(time_op, random, direction):
    time_op(relu, (random((1, 388, 388, 64)),), direction)
