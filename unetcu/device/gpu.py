"""What the devices of kind "gpu" share: `cuda` and `simt` run the same kernels with the same
launches, so a machine without a GPU tests the launch code too.

Every launch is checked against the signature in the .cu file. With UNETCU_DEBUG=1 each launch is
waited for and looked over for NaN; an error then names the op and the line that called it.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..errors import KernelError
from ..kernel import FORMATS, Param, entries, formats
from .cpu import portable

BLOCK = 256  # threads of a block where each element has one thread
GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)
ALIGNMENT = 16  # bytes: kernels may load four floats at once
SHARED_LIMIT = 227 * 1024  # bytes a block; what a card really has is less on older ones
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Call(NamedTuple):
    """One launch that has been checked: the unit (kernel.py) and its entry point, blocks, threads a
    block, arguments as the C function wants them, and bytes of dynamic shared memory."""

    unit: str
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: list[Any]
    shared: int


class Gpu:
    """Allocation and launching; a subclass says where arrays live and how a kernel is started."""

    kind = "gpu"
    name: str
    usual = "fp32"  # the precision (precision.py) of a network that is not told one
    memory: int | None = None  # bytes of the GPU's memory, used or not; None: not known

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()  # entry point -> how often
        self.debug = os.environ.get("UNETCU_DEBUG", "") not in ("", "0")

    # What a subclass provides.
    def describe(self) -> str:
        """One line: what does the work."""
        raise NotImplementedError

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> Any:
        """An uninitialised array, C-contiguous."""
        raise NotImplementedError

    def put(self, array: np.ndarray) -> Any:
        """A copy on this device of a NumPy array or of an array already here."""
        raise NotImplementedError

    def get(self, array: Any) -> np.ndarray:
        """A NumPy array of the values; waits for the device."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until all launches are done."""
        raise NotImplementedError

    def _copy(self, source: Any, target: Any) -> None:
        """target[...] = source: alike, contiguous; source is NumPy's or lives here."""
        raise NotImplementedError

    def _owns(self, array: Any) -> bool:
        raise NotImplementedError

    def _address(self, array: Any) -> int:
        raise NotImplementedError

    def _start(self, call: Call) -> None:
        raise NotImplementedError

    # What ops use.
    def full(self, shape: Sequence[int], value: float, dtype: DTypeLike = np.float32) -> Any:
        """An array of one value (float32, float64, int32, uint32 or uint8)."""
        array = self.empty(shape, dtype)
        self.each("fill", f"fill_{np.dtype(dtype).name}", array.size, array, value, array.size)
        return array

    def zeros(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> Any:
        """An array of zeros."""
        return self.full(shape, 0, dtype)

    def copy(self, source: Any, target: Any) -> None:
        """target[...] = source: of this device and alike, or NumPy's, which is converted."""
        if not target.flags.c_contiguous:
            raise KernelError("only contiguous arrays are copied to")
        if self._owns(source):
            alike = source.shape == target.shape and source.dtype == target.dtype
            if not alike or not source.flags.c_contiguous:
                raise KernelError(
                    f"{source.dtype} {source.shape} is copied to {target.dtype} {target.shape}: "
                    "on a GPU both must be alike, and contiguous"
                )
        elif not isinstance(source, np.ndarray | np.generic):
            raise KernelError(f"{type(source).__name__} is no array of {self.name} nor of NumPy")
        elif not np.can_cast(source.dtype, target.dtype, "same_kind"):
            raise KernelError(f"{source.dtype} cannot be copied to {target.dtype}")
        else:
            source = portable(np.broadcast_to(source, target.shape).astype(target.dtype))
        self._copy(source, target)

    def add(self, a: Any, b: Any) -> Any:
        """a + b: how gradients are summed where a tensor was used more than once."""
        y = self.empty(a.shape, a.dtype)
        self.each("elementwise", "elementwise_add", y.size, a, b, y, y.size, b.size)
        return y

    def each(self, stem: str, entry: str, count: int, *args: Any) -> None:
        """Launch with one thread for each of `count` elements; nothing to do for none."""
        if count:
            self.launch(stem, entry, -(-count // BLOCK), BLOCK, *args)

    def launch(
        self,
        stem: str,
        entry: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        *args: Any,
        shared: int = 0,
    ) -> None:
        """Run the entry point `entry` of kernels/<stem>.cu; does not wait for it.

        stem: or "STEM:FORMAT"; otherwise the format is that of the arrays. grid: blocks, block:
        threads a block, each of up to three dimensions. args: arrays of this device and Python
        numbers, as the C signature says. shared: bytes of dynamic shared memory.
        Raises KernelError for whatever does not fit.
        """
        grids = _dimensions(entry, "grid", grid, GRID_LIMITS)
        blocks = _dimensions(entry, "block", block, BLOCK_LIMITS)
        if blocks[0] * blocks[1] * blocks[2] > 1024:
            raise KernelError(f"{entry}: a block has at most 1024 threads, not {blocks}")
        if not 0 <= shared <= SHARED_LIMIT:
            raise KernelError(f"{entry}: {shared} bytes of shared memory; at most {SHARED_LIMIT}")
        unit = stem if ":" in stem else _unit(stem, entry, args)
        parameters = signature(unit, entry)
        ready = self._checked(entry, parameters, args)
        self.launches[entry] += 1
        if self.debug:
            self._look(entry, parameters, ready, before=True)
        self._start(Call(unit, entry, grids, blocks, ready, shared))
        if self.debug:
            self.synchronize()
            self._look(entry, parameters, ready, before=False)

    def _checked(self, entry: str, parameters: tuple[Param, ...], args: tuple) -> list[Any]:
        """The arguments as the C function wants them."""
        if len(args) != len(parameters):
            names = ", ".join(p.name for p in parameters)
            raise KernelError(
                f"{entry} takes {len(parameters)} arguments ({names}), got {len(args)}"
            )
        ready = []
        for p, a in zip(parameters, args, strict=True):
            if not p.pointer:
                ready.append(_number(entry, p, a))
                continue
            if not self._owns(a):
                raise KernelError(
                    f"{entry}: {p.name} must be an array on {self.name}, got {type(a).__name__}"
                )
            if a.dtype != p.dtype or not a.flags.c_contiguous:
                raise KernelError(
                    f"{entry}: {p.name} must be a contiguous {p.dtype} array, "
                    f"got {a.dtype} of shape {a.shape} with strides {a.strides}"
                )
            if self._address(a) % ALIGNMENT:
                raise KernelError(f"{entry}: {p.name} does not start at a multiple of 16 bytes")
            ready.append(a)
        return ready

    def _look(self, entry: str, parameters: tuple[Param, ...], args: list, before: bool) -> None:
        """UNETCU_DEBUG: NaN may neither go into a kernel nor be made by it."""
        for p, a in zip(parameters, args, strict=True):
            if not p.pointer or not p.dtype.startswith("float") or (before and not p.const):
                continue
            values = self.get(a)
            bad = np.isnan(values)
            if not p.const:  # what is still as `empty` left it has not been made by a kernel
                bits = values.view(f"u{values.itemsize}")
                bad &= bits != np.iinfo(bits.dtype).max
            if bad.any():
                where = tuple(int(i) for i in np.argwhere(bad)[0])
                what = "is given" if before else "has made"
                raise KernelError(
                    f"{entry} {what} {bad.sum()} NaN of {bad.size} in {p.name}, the first at "
                    f"{where}; {_caller()}"
                )


def signature(unit: str, entry: str) -> tuple[Param, ...]:
    """The parameters of an entry point; KernelError if there is none of that name."""
    known = entries(unit)
    if entry not in known:
        raise KernelError(f"{unit} has no kernel {entry}; it has {', '.join(known) or 'none'}")
    return known[entry]


def _unit(stem: str, entry: str, args: tuple) -> str:
    """The unit whose `real` is the type of the arrays given for it."""
    given = zip(signature(stem, entry), args, strict=False)  # their number is checked later
    kind = next((str(a.dtype) for p, a in given if p.real and hasattr(a, "dtype")), "float32")
    form = next((f for f, dtype in FORMATS.items() if dtype == kind), "fp32")
    return formats(stem).get(form, stem)


def _dimensions(
    entry: str, what: str, given: int | Sequence[int], limits: tuple[int, ...]
) -> tuple[int, int, int]:
    sizes = (given,) if isinstance(given, int) else tuple(given)
    full = (*sizes, 1, 1, 1)[:3]
    if len(sizes) > 3 or any(not 1 <= n <= most for n, most in zip(full, limits, strict=True)):
        raise KernelError(f"{entry}: {what} {sizes} is outside 1 to {limits}")
    return full[0], full[1], full[2]


def _number(entry: str, p: Param, value: Any) -> np.generic:
    """A Python number as the C type; KernelError if it does not fit."""
    kind = np.dtype(p.dtype)
    if not isinstance(value, int | float | np.integer | np.floating):
        raise KernelError(f"{entry}: {p.name} must be a number, got {type(value).__name__}")
    if kind.kind != "f":
        limits = np.iinfo(p.dtype)
        if not (limits.min <= value <= limits.max and value == int(value)):  # NaN is no number
            raise KernelError(f"{entry}: {p.name} = {value} is no {p.dtype}")
        value = int(value)
    return kind.type(value)


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
