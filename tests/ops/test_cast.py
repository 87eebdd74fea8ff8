"""cast: floats to 16 bits and back."""

import numpy as np
import pytest
from gpus import CUDA

from unetcu.autograd import Tensor
from unetcu.device import device
from unetcu.errors import GraphError
from unetcu.ops.cast import Cast, cast
from unetcu.precision import BF16, FP16, floats, stored


@pytest.fixture(params=["simt:guard", "simt:reverse,guard-before", "simt:shuffled", CUDA])
def on(request):
    return request.param


SPECIAL = [
    0,
    -0.0,
    1,
    -1,
    np.inf,
    -np.inf,
    np.nan,
    65504,
    65520,
    1e-8,
    6e-8,
    1e-40,
    3.4e38,
    -3.3e38,
]


@pytest.mark.parametrize("to", [BF16, FP16], ids=["bf16", "fp16"])
def test_every_float_goes_to_the_nearest(on, to, rng):
    x = rng.integers(0, 2**32, 70000, np.uint32).view(np.float32)
    x = np.concatenate([x, np.array(SPECIAL, np.float32)])
    y = cast(Tensor(x, on), to=to)
    assert y.dtype == to
    with np.errstate(over="ignore"):
        right = floats(stored(x, to))
    got = floats(y.numpy())
    assert np.array_equal(got, right, equal_nan=True)
    assert np.array_equal(np.signbit(got)[~np.isnan(x)], np.signbit(x)[~np.isnan(x)])


def test_stored_rounds_to_the_nearest_even():
    """Against a definition of its own: of the two neighbours, the nearer, else the even one."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(20000) * 10.0 ** rng.integers(-30, 30, 20000)).astype(np.float32)
    ties = (rng.integers(0x100, 0x7F00, 2000).astype(np.uint32) << 16 | 0x8000).view(np.float32)
    for v, bits in zip(*(lambda a: (a, stored(a, BF16)))(np.concatenate([x, ties])), strict=True):
        low = np.float64(floats(np.uint16([bits - 1]))[0])
        mid, high = (np.float64(floats(np.uint16([b]))[0]) for b in (bits, bits + 1))
        away = abs(mid - np.float64(v))
        nearest = min(abs(low - np.float64(v)), abs(high - np.float64(v)))
        assert away < nearest or (away == nearest and bits % 2 == 0)


@pytest.mark.parametrize("to", [BF16, FP16], ids=["bf16", "fp16"])
def test_the_gradient_passes(on, to, rng):
    x = Tensor(rng.standard_normal((3, 5)).astype(np.float32), on, needs_grad=True)
    dy = stored(rng.standard_normal((3, 5)).astype(np.float32), to)
    cast(x, to=to).backward(device(on).put(dy))
    assert x.grad.dtype == np.float32
    assert np.array_equal(device(on).get(x.grad), floats(dy))


def test_the_reference_is_the_kernel_on_simt(rng):
    x = rng.standard_normal(1000).astype(np.float32)
    for to in (BF16, FP16):
        assert np.array_equal(Cast.reference(x, to), floats(cast(Tensor(x, "simt"), to=to).numpy()))


def test_only_to_16_bits_and_only_on_a_gpu():
    with pytest.raises(GraphError, match="the CPU has no 16-bit"):
        cast(Tensor(np.zeros(3, np.float32)), to=BF16)
    with pytest.raises(GraphError, match="not float64"):
        cast(Tensor(np.zeros(3, np.float32), "simt"), to=np.float64)
