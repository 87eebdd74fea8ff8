"""Crop and concat of the first level: a copy, so look at GB/s."""

import pytest

from unetcu.ops.crop_concat import crop_concat


@pytest.mark.parametrize(("outer", "inner", "C"), [(568, 392, 64), (184, 104, 16)])
def test_crop_concat(time_op, random, direction, outer, inner, C):
    inputs = random((1, outer, outer, C)), random((1, inner, inner, C))
    time_op(crop_concat, inputs, direction)
