"""The formats that numbers have on a GPU, and how NumPy holds them.

NumPy has no bfloat16: its bits travel as uint16. A bfloat16 is a float32 without its last 16 bits,
so it reaches as far, with 3 decimal digits; a float16 (NumPy's own) has 4, and ends at 65504.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import UsageError

# What a network can be asked to compute in: floats, multiplied exactly (fp32) or on tensor cores,
# or 16 bits, multiplied on tensor cores and added up in float. FORMS: how images are then stored.
FORMS: dict[str, "np.dtype[Any]"] = {
    "fp32": np.dtype(np.float32),
    "tf32x3": np.dtype(np.float32),
    "tf32": np.dtype(np.float32),
    "bf16": np.dtype(np.uint16),
    "fp16": np.dtype(np.float16),
}
PRECISION_HELP = (
    "arithmetic of a GPU: fp32, exact; tf32x3, nearly so, and tf32, on tensor cores; bf16, fp16, "
    "with images of 16 bits, the fastest (default: bf16 where the GPU has it)"
)
BF16 = np.dtype(np.uint16)
FP16 = np.dtype(np.float16)
HALVES = (BF16, FP16)  # formats of 16 bits, in which a GPU stores images and filters


def stored(a: NDArray[np.floating], dtype: DTypeLike) -> np.ndarray:
    """Floats, rounded to the nearest numbers of a format (of two, the even one)."""
    if np.dtype(dtype) != BF16:
        return np.asarray(a, dtype)
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(a), np.uint32(0x7FFF), rounded).astype(np.uint16)


def floats(a: np.ndarray) -> np.ndarray:
    """The values of an array of any format, as float32 if its format has 16 bits."""
    if a.dtype == BF16:
        return (a.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return a.astype(np.float32) if a.dtype == FP16 else a


def form_of(dtype: DTypeLike, precision: str) -> str:
    """The form in which arrays of this type are multiplied: that of 16 bits, else `precision`."""
    if np.dtype(dtype) in HALVES:
        return next(form for form, kind in FORMS.items() if kind == dtype)
    return precision


def on_tensor_cores(form: str, *channels: int) -> bool:
    """Whether our kernels multiply so many channels on tensor cores: they take 16 bytes at a time.
    Where not, the general kernels do it, in float."""
    piece = 16 // FORMS[form].itemsize
    return form != "fp32" and all(c % piece == 0 for c in channels)


def settled(precision: str, where: Any) -> str:
    """The precision of a network on a device: "auto" is the device's usual one.

    Raises UsageError for one that the device has not.
    """
    if precision == "auto":
        return str(where.usual)
    known = FORMS if where.kind == "gpu" else ("fp32",)
    if precision not in known:
        raise UsageError(f"--precision {precision}: {where.name} computes in {', '.join(known)}")
    return precision
