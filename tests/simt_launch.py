"""What the tests of the SIMT runtime share. Kernels are in tests/simt/runtime.cu."""

from typing import Any

import numpy as np
import pytest
from simt_units import Unit

ORDERS = ("forward", "reverse", "shuffled")
i32, f32 = np.int32, np.float32


def error(kernels: Unit, entry: str, grid: Any, block: Any, *args: Any, **how: Any) -> str:
    """The text of the error that a launch ends with; behind it, another launch works."""
    with pytest.raises(RuntimeError) as raised:
        kernels.launch(entry, grid, block, *args, **how)
    x, y = np.arange(64, dtype=i32), np.zeros(64, i32)
    kernels.launch("warp_sums", 1, 64, x, y)
    assert y.tolist() == [31 * 16] * 32 + [95 * 16] * 32
    assert "\n" not in str(raised.value)
    return str(raised.value)


def line_of(kernels: Unit, entry: str) -> int:
    (line,) = kernels.here[entry]
    return line
