"""2x2 max-pool of the first level: bound by memory, so look at GB/s."""

import pytest

from unetcu.ops.maxpool2 import maxpool2


@pytest.mark.parametrize(("size", "C"), [(568, 64), (184, 16)])
def test_maxpool2(time_op, random, direction, size, C):
    time_op(maxpool2, (random((1, size, size, C)),), direction)
