"""The `simt` device: the .cu files themselves, run on the CPU by the SIMT runtime (kernels/simt).

Slow, and that does not matter: it is how every kernel is proved on a machine without a GPU. Its
modes, after a colon and joined by commas ("simt:reverse,guard"), are for proofs:

    reverse, shuffled   the order in which threads take their turns
    guard, guard-before an access behind (before) an array is an error: a page faults there
    checked             races, reads of what was never written, and all other misuse of memory
    profile             what each source line costs, kept in `records`
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import threads
from ..errors import DeviceError, KernelError
from ..kernel import entries
from .cpu import portable
from .gpu import Call, Gpu

MODES = ("reverse", "shuffled", "guard", "guard-before", "checked", "profile")


class SimtArray(np.ndarray):
    """An array of the simt device: memory only. NumPy does no arithmetic on it."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        raise KernelError(
            f"NumPy's {ufunc.__name__} on an array of the simt device; only kernels may compute "
            "there. device.get(array) gives a NumPy array"
        )

    def __array_function__(self, func: Any, types: Any, args: Any, options: Any) -> Any:
        raise KernelError(
            f"NumPy's {func.__name__} on an array of the simt device; only kernels may compute "
            "there. device.get(array) gives a NumPy array"
        )


class Simt(Gpu):
    """Runs kernels on the CPU; `modes` as in the module's docstring."""

    def __init__(self, modes: Sequence[str] = ()) -> None:
        super().__init__()
        self.name = "simt" + (":" + ",".join(modes) if modes else "")
        unknown = [m for m in modes if m not in MODES]
        if unknown:
            raise DeviceError(f"simt has no mode {unknown[0]!r}; its modes are {', '.join(MODES)}")
        for either in (("reverse", "shuffled"), ("guard", "guard-before"), ("checked", "profile")):
            if set(either) <= set(modes):
                raise DeviceError(f"simt cannot be {' and '.join(either)} at once: choose one")
        self._build = next((m for m in ("checked", "profile") if m in modes), "fast")
        order = next((m for m in ("reverse", "shuffled") if m in modes), "forward")
        guard = {"guard": "after", "guard-before": "before"}
        self._how: dict[str, Any] = {
            "order": order,
            "guard": next((guard[m] for m in modes if m in guard), "none"),
            "checked": self._build == "checked",
            "profile": self._build == "profile",
        }
        self.records: list[tuple[str, Any]] = []  # profile: (entry, the launch's rows)

    def describe(self) -> str:
        """One line: what does the work."""
        return f"{self.name} (the CUDA kernels, run on the CPU: exact, and slow)"

    def empty(self, shape: Sequence[int], dtype: DTypeLike = np.float32) -> SimtArray:
        """Every byte is 0xFF (NaN in floats): what a kernel forgets to write is seen."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.full(size, 255, np.uint8).view(dtype).reshape(shape).view(SimtArray)

    def put(self, array: np.ndarray) -> SimtArray:
        """A copy."""
        return portable(array).view(SimtArray)

    def get(self, array: SimtArray) -> np.ndarray:
        """The same memory as a NumPy array."""
        return array.view(np.ndarray)

    def synchronize(self) -> None:
        """Nothing to do: every launch is over when it returns."""

    def _copy(self, source: np.ndarray, target: SimtArray) -> None:
        np.copyto(target.view(np.ndarray), source.view(np.ndarray))

    def _owns(self, array: Any) -> bool:
        return isinstance(array, SimtArray)

    def _address(self, array: SimtArray) -> int:
        return array.ctypes.data

    def _start(self, call: Call) -> None:
        parameters = entries(call.unit)[call.entry]
        for p, a in zip(parameters, call.args, strict=True):
            if p.pointer and not p.const and not a.flags.writeable:
                raise KernelError(f"{call.entry} writes to {p.name}, which is read-only")
        plain = [a.view(np.ndarray) if isinstance(a, SimtArray) else a for a in call.args]
        names = [p.name for p in parameters]
        loaded = load(call.unit, self._build)
        try:
            how = {**self._how, "workers": threads.count()}
            rows = loaded.launch(
                call.entry, call.grid, call.block, plain, shared=call.shared, names=names, **how
            )
        except RuntimeError as error:
            raise KernelError(str(error)) from None
        if self._build == "profile":
            self.records.append((call.entry, rows))


@functools.cache
def load(unit: str, build: str) -> Any:
    """The compiled unit (kernel.py), ready to be launched."""
    from ..simtbuild import module

    return load_file(str(module(unit, build)))


def load_file(path: str) -> Any:
    """A compiled kernel module; DeviceError where the runtime was not built, or the module does
    not run on this CPU."""
    try:
        from .. import _simt  # type: ignore[attr-defined, unused-ignore]
    except ImportError as error:
        raise DeviceError(
            f"the simt device needs unetcu's compiled part, which is not there ({error}); install "
            "a C++ compiler, then install unetcu again"
        ) from None
    try:
        return _simt.Module(path)
    except RuntimeError as error:
        raise DeviceError(f"the simt device cannot load a kernel: {error}") from None
