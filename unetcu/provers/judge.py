"""What every kernel must get right: ops, shapes and values, and how far from right is allowed.

A case is an op at one shape. The CPU path in float64, which shares no code with the kernels, says
what is right. Each element of the result and of every gradient must then lie within

    (2 sqrt(K) + 4) u S        u = 2^-24

K: the number of terms summed for one element; S: the sum of their absolute values. Small whole
numbers make every sum exact, so with them a kernel must agree with the CPU path bit for bit. In
other forms (precision.py) inputs are rounded before; products or results may be less exact, as
ERRORS says; and of whole numbers a result of 16 bits is the right one, rounded.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import Op, Tensor
from ..device import Device, device
from ..errors import KernelError
from ..precision import FORMS, HALVES, stored
from ..precision import floats as unrounded

U = 2.0**-24
# Of a form: the relative error of a product, that of storing a result, and the least absolute one.
ERRORS = {
    "fp32": (0, 0, 0),
    "tf32": (2**-10, 0, 0),
    "tf32x3": (2**-20, 0, 0),
    "bf16": (0, 2**-8, 0),
    "fp16": (0, 2**-11, 2**-25),
}
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """One op at one shape, with the values of its inputs drawn from the case's name."""

    stem: str
    op: type[Op]
    shapes: tuple[tuple[int, ...], ...]
    terms: tuple[int, ...]  # K of y, then of each gradient
    channels: int  # of the widest map: 16 and more make a kernel use its tiles
    kind: str = "normal"  # or "whole": small whole numbers; "special": with NaN, Inf and -0 too
    options: dict[str, Any] = field(default_factory=dict)
    chooses: bool = False  # only copies and chooses: S is the result itself
    needs: tuple[int, ...] | None = None  # which inputs get a gradient; None: all floats
    inputs: Callable[["Case", np.random.Generator], Arrays] | None = None
    sizes: Callable[[Arrays, np.ndarray], Arrays] | None = None  # S, where it is another
    form: str = "fp32"
    images: tuple[int, ...] = ()  # which results a form stores as it stores images; y is 0

    @property
    def name(self) -> str:
        """Like conv3x3(1x5x4x3, 3x3x3x2, 2, relu=True) whole."""
        sizes = ", ".join("x".join(map(str, s)) or "()" for s in self.shapes)
        options = "".join(f", {key}={value}" for key, value in self.options.items())
        form = "" if self.form == "fp32" else f" in {self.form}"
        return f"{self.op.__name__.lower()}({sizes}{options}) {self.kind}{form}"

    def draw(self) -> tuple[Arrays, np.ndarray]:
        """The inputs and dy; floats are float32."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        arrays = (
            self.inputs(self, rng) if self.inputs else [self.values(rng, s) for s in self.shapes]
        )
        shape = self.op.shape(*(a.shape for a in arrays), **self.options)
        dy = self.values(rng, shape)
        if self.kind == "special":
            arrays[0], dy = _spoiled(rng, arrays[0]), _spoiled(rng, dy)
        if self.form != "fp32":
            arrays = [self.rounded(a) if self.takes(i, a) else a for i, a in enumerate(arrays)]
            dy = self.rounded(dy) if 0 in self.images else dy
        return arrays, dy

    def rounded(self, a: np.ndarray) -> np.ndarray:
        """Floats as the form stores them."""
        return unrounded(stored(a.astype(np.float32), FORMS[self.form]))

    def takes(self, i: int, a: np.ndarray) -> bool:
        """Whether input i comes as the form stores it: images and filters, which come first."""
        return a.dtype.kind == "f" and i < 2

    def values(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers as this case wants them."""
        if self.kind == "normal":
            return np.asarray(rng.standard_normal(shape), np.float32)
        return np.asarray(rng.integers(-4, 5, shape), np.float32)


def _spoiled(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    """A few of its values are NaN, infinite or -0."""
    a = a.copy()
    values = rng.choice([np.nan, np.nan, np.inf, -np.inf, -0.0], max(1, a.size // 40))
    a.reshape(-1)[rng.integers(0, a.size, values.size)] = values
    return a


def run(case: Case, where: Device, arrays: Arrays, dy: np.ndarray) -> Arrays:
    """[y, gradient of each float input] of the op on a device, as NumPy arrays."""
    floats = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")
    needs = floats if case.needs is None else case.needs
    on_it = FORMS[case.form] if where.kind == "gpu" else dy.dtype
    kept = [stored(a, on_it) if case.takes(i, a) else a for i, a in enumerate(arrays)]
    inputs = [Tensor.wrap(where.put(a), where, i in needs) for i, a in enumerate(kept)]
    y = case.op.apply(*inputs, **case.options)
    results = [np.array(y.numpy())]
    y.backward(where.put(stored(dy, on_it if 0 in case.images else dy.dtype)))
    results += [np.array(where.get(inputs[i].grad)) for i in needs]
    for i, r in enumerate(results):
        if on_it in HALVES and (r.dtype == on_it) != (i in case.images):
            raise KernelError(f"{case.name}: result {i} is {r.dtype}")
    return [unrounded(r) for r in results] if on_it in HALVES else results


def right(case: Case, arrays: Arrays, dy: np.ndarray) -> tuple[Arrays, Arrays]:
    """What is right, in float64, and how far from it each element may lie."""
    cpu = device("cpu")
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in (*arrays, dy)]
    exact = run(case, cpu, wide[:-1], wide[-1])
    product, store, least = ERRORS[case.form]
    if case.kind != "normal":
        if store:  # float64 to float32 is exact for these
            exact = [case.rounded(r) if i in case.images else r for i, r in enumerate(exact)]
        return exact, [np.zeros_like(r) for r in exact]
    if case.sizes:
        sizes = case.sizes(wide[:-1], wide[-1])
    elif case.chooses:
        sizes = [np.abs(r) for r in exact]
    else:
        positive = [np.abs(a) if a.dtype.kind == "f" else a for a in wide]
        sizes = run(case, cpu, positive[:-1], positive[-1])
    step = U if case.form == "fp32" else 2 * U  # mma truncates its sums
    bounds = [
        ((2 * np.sqrt(K) + 4) * step + product) * S for K, S in zip(case.terms, sizes, strict=True)
    ]
    if store:
        for i in case.images:
            bounds[i] = bounds[i] + store * (np.abs(exact[i]) + bounds[i]) + least
    return exact, bounds


def judge(case: Case, results: Arrays, exact: Arrays, bounds: Arrays) -> float:
    """The largest error as a share of what is allowed; KernelError where it is more than 1."""
    worst = 0.0
    for i, (got, want, bound) in enumerate(zip(results, exact, bounds, strict=True)):
        what = f"{case.name}: {'y' if i == 0 else f'gradient {i}'}"
        if got.shape != want.shape or got.dtype != np.float32:
            raise KernelError(f"{what} is {got.dtype} {got.shape}, not float32 {want.shape}")
        with np.errstate(invalid="ignore"):
            error = np.abs(got - want)
        wrong = ~(error <= bound)  # so that NaN is wrong
        if case.kind == "special":  # but where it belongs
            wrong &= ~((got == want) | (np.isnan(got) & np.isnan(want)))
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise KernelError(
                f"{what}: {wrong.sum()} of {wrong.size} elements are wrong, the first at {at}: "
                f"{got[at]!r} instead of {want[at]!r} +- {bound[at]:.2e}"
            )
        counts = bound > 0
        worst = max(worst, float((error[counts] / bound[counts]).max(initial=0)))
    return worst
