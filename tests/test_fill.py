"""Arrays of one value, of every type that is asked for, beside the edges of blocks."""

import numpy as np
import pytest
from gpus import CUDA

from unetcu.device import device
from unetcu.errors import KernelError

DEVICES = ["simt:guard", "simt:reverse,guard-before", CUDA]
VALUES = [
    (np.float32, 0.1),
    (np.float32, float("inf")),
    (np.float64, 0.1),
    (np.int32, -(2**31)),
    (np.uint32, 2**32 - 1),
    (np.uint8, 200),
]


@pytest.mark.parametrize("shape", [(), (0, 3), (255,), (256,), (257,), (2, 17, 13, 16)], ids=str)
@pytest.mark.parametrize(("dtype", "value"), VALUES)
@pytest.mark.parametrize("on", DEVICES)
def test_every_element_of_every_type(on, shape, dtype, value):
    got = device(on).get(device(on).full(shape, value, dtype))
    assert got.dtype == dtype
    assert got.tobytes() == np.full(shape, value, dtype).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32, np.uint8])
def test_zeros_are_the_same_everywhere(on, dtype):
    got = device(on).get(device(on).zeros((3, 100), dtype))
    assert got.dtype == dtype
    assert got.tobytes() == bytes(got.nbytes)


@pytest.mark.parametrize("on", DEVICES)
def test_a_type_without_a_kernel_is_refused(on):
    with pytest.raises(KernelError, match="no kernel fill_int16; it has fill_float32"):
        device(on).zeros((3,), np.int16)
