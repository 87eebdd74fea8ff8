"""Rounding to 16 bits alone: bound by memory. On GPUs only: the CPU computes in float32."""

import pytest

from unetcu.ops.cast import cast
from unetcu.precision import BF16, FP16


@pytest.mark.parametrize("to", [BF16, FP16], ids=["bf16", "fp16"])
def test_cast(time_op, random, on, to):
    if on.kind != "gpu":
        pytest.skip("the CPU has no 16-bit numbers: --on cuda or --on simt")
    time_op(cast, (random((1, 388, 388, 64)),), "forward", to=to)
