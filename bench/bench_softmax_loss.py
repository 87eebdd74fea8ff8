"""Softmax and weighted cross entropy at the paper's output size."""

import numpy as np

from unetcu.autograd import Tensor
from unetcu.ops.softmax_loss import softmax_loss


def test_softmax_loss(time_op, random, direction, on):
    logits = random((1, 388, 388, 2))
    labels = Tensor(np.zeros((1, 388, 388), np.int32), on)
    weights = Tensor(np.ones((1, 388, 388), np.float32), on)
    time_op(softmax_loss, (logits, labels, weights), direction)
