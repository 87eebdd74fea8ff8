"""UNETCU_DEBUG: the arguments of a launch are looked over for NaN; an error names the op."""

import os
import sys
from typing import Any

import numpy as np

from ..errors import KernelError
from ..kernel import Param
from .boxes import of_boxes

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def look(where: Any, entry: str, parameters: tuple[Param, ...], args: list, before: bool) -> None:
    """UNETCU_DEBUG: NaN may neither go into a kernel nor be made by it."""
    for p, a in zip(parameters, args, strict=True):
        a = of_boxes(a)
        if isinstance(a, np.generic) or a.dtype.kind != "f" or (before and not p.const):
            continue
        values = where.get(a)
        bad = np.isnan(values)
        if not p.const:  # what is still as `empty` left it has not been made by a kernel
            bits = values.view(f"u{values.itemsize}")
            bad &= bits != np.iinfo(bits.dtype).max
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            what = "is given" if before else "has made"
            raise KernelError(
                f"{entry} {what} {bad.sum()} NaN of {bad.size} in {p.name}, the first at "
                f"{place}; {_caller()}"
            )


def _caller() -> str:
    """The op that launched, and the nearest line outside autograd, ops and devices."""
    op, frame = "", sys._getframe(2)
    inner = tuple(os.path.join(OURS, part) for part in ("autograd.py", "ops", "device"))
    while frame.f_back is not None:
        file = os.path.abspath(frame.f_code.co_filename)
        if not op and frame.f_code.co_name in ("forward_gpu", "backward_gpu"):
            op = f"{type(frame.f_locals['self']).__name__}, {frame.f_code.co_name[:-4]}, "
        if not file.startswith(inner):
            break
        frame = frame.f_back
    return f"{op}called at {frame.f_code.co_filename}:{frame.f_lineno}"
