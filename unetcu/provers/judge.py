"""What every kernel must get right: ops, shapes and values, and how far from right is allowed.

A case is an op at one shape. The CPU path in float64, which shares no code with the kernels, says
what is right. Each element of the result and of every gradient must then lie within

    (2 sqrt(K) + 4) u S        u = 2^-24

K: the number of terms summed for one element; S: the sum of their absolute values. Small whole
numbers make every sum exact, so with them a kernel must agree with the CPU path bit for bit.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import Op, Tensor
from ..device import Device, device
from ..errors import KernelError

U = 2.0**-24
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

    @property
    def name(self) -> str:
        """Like conv3x3(1x5x4x3, 3x3x3x2, 2, relu=True) whole."""
        sizes = ", ".join("x".join(map(str, s)) or "()" for s in self.shapes)
        options = "".join(f", {key}={value}" for key, value in self.options.items())
        return f"{self.op.__name__.lower()}({sizes}{options}) {self.kind}"

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
        return arrays, dy

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
    inputs = [Tensor(a, where, needs_grad=i in needs) for i, a in enumerate(arrays)]
    y = case.op.apply(*inputs, **case.options)
    value = np.array(y.numpy())
    y.backward(dy)
    grads = [np.array(where.get(inputs[i].grad)) for i in needs]
    return [value, *grads]


def right(case: Case, arrays: Arrays, dy: np.ndarray) -> tuple[Arrays, Arrays]:
    """What is right, in float64, and how far from it each element may lie."""
    cpu = device("cpu")
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in (*arrays, dy)]
    exact = run(case, cpu, wide[:-1], wide[-1])
    if case.kind != "normal":
        return exact, [np.zeros_like(r) for r in exact]
    if case.sizes:
        sizes = case.sizes(wide[:-1], wide[-1])
    elif case.chooses:
        sizes = [np.abs(r) for r in exact]
    else:
        positive = [np.abs(a) if a.dtype.kind == "f" else a for a in wide]
        sizes = run(case, cpu, positive[:-1], positive[-1])
    return exact, [(2 * np.sqrt(K) + 4) * U * S for K, S in zip(case.terms, sizes, strict=True)]


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
