"""What NVRTC makes of the kernels for Hopper computes what is right, on the PTX machine: images in
bands copied by TMA, multiplied by wgmma, at tiny shapes."""

import numpy as np
import pytest
from test_ptx_kernels import HOPPER, agrees

from unetcu import kernel
from unetcu.autograd import Tensor
from unetcu.ops import _conv3x3_tma as tma
from unetcu.ops import _conv3x3_variants
from unetcu.ops._conv3x3_variants import studied
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.crop_concat import crop_concat
from unetcu.precision import floats, stored
from unetcu.provers.cases import of_form
from unetcu.provers.ptx.device import PtxDevice
from unetcu.provers.sums import conv3x3_case


@pytest.fixture(scope="module")
def where():
    return PtxDevice()


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
    """It makes tile after tile, of a slab too."""
    monkeypatch.setattr(tma, "MULTIPROCESSORS", 1)
    monkeypatch.setattr(_conv3x3_variants, "BLOCKS", 2)


# N, H, W, C, K: chunks of channels, tiles of pixels and of channels beyond the first, and odd rows.
CASES = {
    "small": ("bf16", 1, 5, 11, 8, 72),
    "wide": ("bf16", 2, 4, 6, 72, 8),
    "slim": ("fp16", 1, 19, 5, 8, 8),
    "narrow": ("fp16", 1, 19, 20, 8, 8),
}


@pytest.mark.parametrize("tile", CASES)
def test_convolution(tile, where):
    """Forward and both gradients, of whole numbers: every bit."""
    form, *sizes = CASES[tile]
    before = where.launches.copy()
    with studied(f"conv3x3_wgmma/{tile}"), studied("conv3x3_wgmma_w"):
        agrees(of_form(conv3x3_case(*sizes, kind="whole"), form), where)
    suffix = "" if tile == "wide" else f"_{tile}"
    entries = [f"conv3x3_wgmma_{w}{suffix}" for w in ("forward", "backward_x")]
    assert {*entries, "conv3x3_wgmma_w_backward"} <= set(where.launches - before)


def test_two_sources(where, rng):
    """Every bit as from one image that holds the channels of both."""
    shapes = (1, 7, 9, 16), (1, 5, 7, 8), (3, 3, 24, 8)
    arrays = [rng.integers(-4, 5, s).astype(np.float32) for s in shapes]
    dy, results = stored(rng.integers(-4, 5, (1, 3, 5, 8)).astype(np.float32), "uint16"), []
    for copy in (True, False):
        given = [where.put(stored(a, "uint16")) for a in arrays]
        inputs = [Tensor.wrap(a, where, True) for a in given]
        bias = Tensor.wrap(where.put(np.ones(8, np.float32)), where)
        with studied("conv3x3_wgmma/small"), studied("conv3x3_wgmma_w"):
            y = conv3x3(crop_concat(*inputs[:2], copy=copy), inputs[2], bias, precision="bf16")
            y.backward(where.put(dy))
        results.append([y.numpy(), *(where.get(t.grad) for t in inputs)])
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()
    assert floats(results[0][0]).any()


def test_every_kernel_for_hopper_was_launched(request, where):
    """Only after a whole run of this file: selected tests alone cannot tell."""
    if len([i for i in request.session.items if "test_ptx_kernels_hopper" in i.nodeid]) > 5:
        assert {e for stem in HOPPER for e in kernel.entries(stem)} <= set(where.launches)
