"""The head and the loss in one pass at the paper's output size."""

import numpy as np

from unetcu.autograd import Tensor
from unetcu.ops.head_loss import head_loss


def test_head_loss(time_op, random, direction, on):
    """Forward alone makes the loss only; backward, of a dy it was not told, the whole pass."""
    head = random((1, 388, 388, 64)), random((64, 2)), random((2,))
    labels = Tensor(np.zeros((1, 388, 388), np.int32), on)
    weights = Tensor(np.ones((1, 388, 388), np.float32), on)
    time_op(head_loss, (*head, labels, weights), direction, 2 * 388**2 * 64 * 2)
