"""Dropout at the end of the contracting path: ten rounds of Philox for every two elements."""

import numpy as np

from unetcu.autograd import Tensor
from unetcu.ops.dropout import dropout


def test_dropout(time_op, random, direction, on):
    when = Tensor(np.array([0, 0], np.uint32), on)
    time_op(dropout, (random((1, 28, 28, 1024)), when), direction)
