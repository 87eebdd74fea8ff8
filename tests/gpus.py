"""CUDA: "cuda" as a parameter of tests, skipped in one line where no GPU can be used."""

import pytest

from unetcu.device.cuda import problem

WHY_NOT = problem()
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(WHY_NOT is not None, reason=f"no GPU: {WHY_NOT}"),
    ],
)
