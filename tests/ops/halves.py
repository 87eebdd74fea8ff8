"""Ops in the forms that tensor cores multiply, against float64.

Whole numbers are exact in all of them, and so are their sums; a result of 16 bits is rounded once.
So with whole numbers every bit is known: that of the exact result, rounded to the form.
"""

from collections.abc import Sequence

import numpy as np

from unetcu.autograd import Op, Tensor
from unetcu.device import device
from unetcu.precision import FORMS, floats, stored

MMA = ("tf32", "tf32x3", "bf16", "fp16")
# The relative error of a product of rounded factors, of a sum's step, of storing the result. The
# steps of mma are truncated on a GPU: twice the error of rounding.
ERRORS = {
    "fp32": (0, 2**-24, 0),
    "tf32": (2**-10, 2**-23, 0),
    "tf32x3": (2**-20, 2**-23, 0),
    "bf16": (0, 2**-23, 2**-8),
    "fp16": (0, 2**-23, 2**-11),
}


def tensors(on: str, form: str, arrays: Sequence[np.ndarray], needs: Sequence[int]) -> list[Tensor]:
    """Inputs as the form stores them; arrays of one dimension (biases) stay floats."""
    where = device(on)
    kept = [stored(a, FORMS[form]) if a.ndim > 1 else a for a in arrays]
    return [Tensor.wrap(where.put(a), where, i in needs) for i, a in enumerate(kept)]


def run_form(
    op: type[Op], on: str, form: str, arrays: Sequence[np.ndarray], dy: np.ndarray, **options
) -> list[np.ndarray]:
    """[y, gradients of all inputs], as they are stored."""
    where, inputs = device(on), tensors(on, form, arrays, range(len(arrays)))
    y = op.apply(*inputs, **options)
    assert y.dtype == FORMS[form]
    value = np.array(y.numpy())
    y.backward(where.put(stored(dy, FORMS[form])))
    return [value, *(np.array(where.get(t.grad)) for t in inputs)]


def same_bits(got: np.ndarray, exact: np.ndarray, what: str) -> None:
    """Assert that got is the exact result, rounded to its type."""
    right = stored(exact.astype(np.float32), got.dtype)
    wrong = got.view(f"u{got.itemsize}") != right.view(f"u{right.itemsize}")
    wrong &= ~((floats(got) == 0) & (exact == 0))  # of either sign
    assert got.shape == exact.shape, what
    assert not wrong.any(), (
        f"{what}: {wrong.sum()} of {wrong.size} differ, first at {np.argwhere(wrong)[0]}: "
        f"{floats(got)[wrong][0]} instead of {exact[wrong][0]}"
    )


def within(
    got: np.ndarray, exact: np.ndarray, size: np.ndarray, terms: int, form: str, what: str
) -> None:
    """Assert that each element is as near to the exact sum of `terms` products, whose absolute
    values add up to `size`, as the form allows."""
    product, step, store = ERRORS[form]
    kept = store if got.itemsize == 2 else 0
    bound = (product + (2 * np.sqrt(terms) + 4) * step) * size + kept * np.abs(exact)
    if form == "fp16":
        bound = bound + 2**-25  # below 6e-5 its numbers are equally far apart
    error = np.abs(floats(got) - exact)
    assert (error <= bound).all(), f"{what}: {np.max(error / bound)} times the bound"
