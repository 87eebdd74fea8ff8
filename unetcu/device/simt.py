"""The `simt` device: the .cu files themselves, run on the CPU by the SIMT runtime (kernels/simt).

Slow, and that does not matter: it is how every kernel is proved on a machine without a GPU. Its
modes, after a colon and joined by commas ("simt:reverse,guard"), are for proofs:

    reverse, shuffled   the order in which threads take their turns
    guard, guard-before an access behind (before) an array is an error: a page faults there
    checked             races, reads of what was never written, and all other misuse of memory
    profile             what each source line costs, kept in `records`
    late                work aside (captured.py) is put off as long as it may be
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import threads
from ..errors import DeviceError, KernelError
from ..kernel import entries
from .boxes import Boxes, of_boxes, replaced
from .cpu import portable
from .gpu import Call, Gpu

MODES = ("reverse", "shuffled", "guard", "guard-before", "checked", "profile", "late")


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


def _plain(given: Any) -> Any:
    """An argument of a launch as the runtime wants it."""
    if isinstance(given, Boxes):
        return tuple(given._replace(array=_plain(given.array)))
    return given.view(np.ndarray) if isinstance(given, SimtArray) else given


class _Memory:
    """The memory of an array in a block, for NumPy; it keeps the array's owner alive."""

    def __init__(self, owner: Any, address: int, shape: Sequence[int], dtype: np.dtype) -> None:
        self._owner, self.block = owner, owner.block
        self.__array_interface__ = {
            "data": (address, False),
            "shape": tuple(shape),
            "typestr": dtype.str,
            "version": 3,
        }


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
        self._late = "late" in modes
        self._steps: list[Callable[[], None]] | None = None  # of the capture that goes on
        self._main: list[Callable[[], None]] = []  # while we are aside: those of the main line
        self.records: list[tuple[str, Any]] = []  # profile: (entry, the launch's rows)

    def describe(self) -> str:
        """One line: what does the work."""
        return f"{self.name} (the CUDA kernels, run on the CPU: exact, and slow)"

    def _empty(self, shape: Sequence[int], dtype: DTypeLike) -> SimtArray:
        """Every byte is 0xFF (NaN in floats): what a kernel forgets to write is seen."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return np.full(size, 255, np.uint8).view(dtype).reshape(shape).view(SimtArray)

    def _place(
        self, block: Any, start: int, shape: Sequence[int], dtype: DTypeLike, owner: Any
    ) -> SimtArray:
        """A replay fills the bytes with 0xFF, which is what `_empty` has done to the block."""
        if self._steps is not None:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            there = block.view(np.ndarray)[start : start + size]
            self._steps.append(functools.partial(there.fill, 255))
        address = block.ctypes.data + start
        return np.asarray(_Memory(owner, address, shape, np.dtype(dtype))).view(SimtArray)

    def put(self, array: np.ndarray) -> SimtArray:
        """A copy."""
        if self.work is None:
            return portable(array).view(SimtArray)
        copied: SimtArray = self.empty(array.shape, array.dtype)
        self.copy(array, copied)
        return copied

    def get(self, array: SimtArray) -> np.ndarray:
        """The same memory as a NumPy array."""
        if self._steps is not None:
            raise KernelError("a captured function reads an array: its values are not there yet")
        return array.view(np.ndarray)

    def synchronize(self) -> None:
        """Nothing to do: every launch is over when it returns."""

    def _copy(self, source: Any, target: SimtArray) -> None:
        if self._steps is None:
            np.copyto(target.view(np.ndarray), source.view(np.ndarray))
            return
        if not self.owns(source):
            raise KernelError("a captured function copies values of the host: they would be frozen")
        to, of = (self._lasting(a).view(np.ndarray) for a in (target, source))
        self._steps.append(functools.partial(np.copyto, to, of))

    def _submit(self, call: Call) -> None:
        if self._steps is None:
            self._start(call)
            return
        args = [
            replaced(a, self._lasting(of_boxes(a))) if isinstance(of_boxes(a), SimtArray) else a
            for a in call.args
        ]
        self._steps.append(functools.partial(self._start, call._replace(args=args)))

    def _lasting(self, array: SimtArray) -> SimtArray:
        """The same memory without a say in when it is free, as a GPU's graph knows it."""
        whole: Any = array
        while isinstance(whole, np.ndarray):
            whole = whole.base
        if not isinstance(whole, _Memory):
            return array
        start = array.ctypes.data - whole.block.ctypes.data
        view = whole.block[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        view.flags.writeable = array.flags.writeable
        return view

    def _begin_capture(self) -> None:
        self._steps = []

    def _end_capture(self) -> Callable[[], None]:
        steps, self._steps = self._steps or [], None

        def replay() -> None:
            for step in steps:
                step()

        return replay

    def _abandon_capture(self) -> None:
        self._steps = None

    def _fork(self) -> None:
        self._main, self._steps = self._steps or [], []

    def _back(self) -> list[Callable[[], None]]:
        """The steps aside. They are done at once or, if the mode is "late", when they must be."""
        aside, self._steps = self._steps or [], self._main
        if not self._late:
            self._steps += aside
        return aside if self._late else []

    def _merge(self, end: list[Callable[[], None]]) -> None:
        assert self._steps is not None
        self._steps += end

    def owns(self, array: Any) -> bool:
        """Whether it was made here."""
        return isinstance(array, SimtArray)

    def address(self, array: SimtArray) -> int:
        return array.ctypes.data

    def _start(self, call: Call) -> None:
        parameters = entries(call.unit)[call.entry]
        for p, a in zip(parameters, call.args, strict=True):
            if p.pointer and not p.const and not a.flags.writeable:
                raise KernelError(f"{call.entry} writes to {p.name}, which is read-only")
        plain = [_plain(a) for a in call.args]
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
