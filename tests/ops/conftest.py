"""Memory that an op asks for comes full of NaN here: what it forgets to write shows."""

import numpy as np
import pytest
from gpus import CUDA

from unetcu import gemm
from unetcu.device import Cpu
from unetcu.ops import conv3x3

DEVICES = ["cpu", "simt:guard", "simt:reverse,guard-before", "simt:shuffled", CUDA]


@pytest.fixture(params=DEVICES)
def on(request):
    """The name of a device; a test that asks for it runs once on each."""
    return request.param


def _spoiled(shape, dtype):
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


@pytest.fixture(autouse=True)
def _spoil(monkeypatch):
    monkeypatch.setattr(Cpu, "empty", lambda self, shape, dtype=np.float32: _spoiled(shape, dtype))
    for module in (gemm, conv3x3):
        monkeypatch.setattr(module, "scratch", lambda key, shape, dtype: _spoiled(shape, dtype))
