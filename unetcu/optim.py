"""Optimizers over the flat parameter arena: one pass over all weights at a time.

    SGD     v <- momentum v + g;   p <- p - lr v                          (section 3: momentum 0.99)
    AdamW   m <- b1 m + (1-b1) g;  s <- b2 s + (1-b2) g^2
            p <- p - lr ( (m / (1-b1^t)) / (sqrt(s / (1-b2^t)) + eps) + decay p )
                 (Kingma & Ba 2015; decoupled decay: Loshchilov & Hutter 2019)

What changes from step to step, the learning rate and the step number t, is read from the small
array `hyper` on the device: a captured CUDA graph, whose scalars are frozen, can then be replayed.
`state` holds the arrays a checkpoint must keep for resuming.
"""

from typing import Any

import numpy as np

from .device import Gpu
from .errors import UsageError
from .kernel import constants
from .parameters import Parameters
from .threads import each

CHUNK = 1 << 16  # elements a part: its four arrays stay in a core's cache


def hyper(lr: float, steps_done: int) -> np.ndarray:
    """What an optimizer's `hyper` is to be set to; UsageError for a rate that is not positive and
    finite."""
    if not (np.isfinite(lr) and lr > 0):
        raise UsageError(f"the learning rate must be positive and finite, got {lr}")
    return np.array([lr, steps_done], np.float64)


class Optimizer:
    """What SGD and AdamW share: `step()` after `backward()`, with `lr` set before."""

    moments: tuple[str, ...]

    def __init__(self, parameters: Parameters, lr: float) -> None:
        self.parameters = parameters
        size, dtype = parameters.flat.size, parameters.flat.dtype
        self.state = {name: parameters.device.zeros((size,), dtype) for name in self.moments}
        self.hyper = parameters.device.zeros((2,), np.float64)  # lr, t
        if isinstance(parameters.device, Gpu):  # of the gradients: see Scaling
            self.factor = parameters.device.full((1,), 1.0)
        self.set(lr, 0)

    def set(self, lr: float, steps_done: int) -> None:
        """Set the learning rate (positive, finite) and how many steps have been made."""
        self.parameters.device.copy(hyper(lr, steps_done), self.hyper)

    def step(self) -> None:
        """Move every parameter by its gradient."""
        values, grads = self.parameters.writable(), self.parameters.gradients()
        arrays = [values, grads, *self.state.values()]
        if isinstance(self.parameters.device, Gpu):
            self._launch(self.parameters.device, *arrays)
            self.parameters.rounded_with_the_step()
            return
        self.hyper[1] += 1
        native = self.parameters.device.native(values.dtype)
        if native is not None:
            self._native(native, *arrays)
            return

        def part(i: int) -> None:
            here = slice(i * CHUNK, (i + 1) * CHUNK)
            self._update(*(a[here] for a in arrays))

        each(part, -(-values.size // CHUNK))

    def _update(self, p: Any, g: Any, *moments: Any) -> None:
        """One step on the CPU by NumPy, of a piece of the arrays."""
        raise NotImplementedError

    def _native(self, native: Any, p: Any, g: Any, *moments: Any) -> None:
        """One step by kernels/cpu/optim.cpp: the same bits."""
        raise NotImplementedError

    def _launch(self, where: Gpu, p: Any, g: Any, *moments: Any) -> None:
        """One step by kernels/optim.cu, which also counts `hyper`'s t."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    moments = ("velocity",)

    def __init__(self, parameters: Parameters, lr: float, momentum: float = 0.99) -> None:
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum must be at least 0 and below 1, got {momentum}")
        self.momentum = momentum
        super().__init__(parameters, lr)

    def _update(self, p: Any, g: Any, *moments: Any) -> None:
        (v,) = moments
        v *= p.dtype.type(self.momentum)
        v += g
        p -= p.dtype.type(self.hyper[0]) * v

    def _native(self, native: Any, p: Any, g: Any, *moments: Any) -> None:
        native.sgd(p, g, *moments, self.hyper[0], self.momentum)

    def _launch(self, where: Gpu, p: Any, g: Any, *moments: Any) -> None:
        (v,) = moments
        rounded, rounds = self.parameters.to_round()
        rest = self.hyper, self.factor, self.momentum, p.size, rounds
        where.each("optim", "optim_sgd", p.size, p, g, v, rounded, *rest)


class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    moments = ("mean", "square")

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        decay: float = 0.0,
    ) -> None:
        if not all(0 <= b < 1 for b in betas) or not eps > 0 or not decay >= 0:
            raise UsageError(f"AdamW cannot work with betas {betas}, eps {eps}, decay {decay}")
        self.betas, self.eps, self.decay = betas, eps, decay
        super().__init__(parameters, lr)

    def _update(self, p: Any, g: Any, *moments: Any) -> None:
        m, s = moments
        of_mean, of_square, square, eps, keep, rate = map(p.dtype.type, self._factors())
        m += of_mean * (g - m)
        s += of_square * (g * g - s)
        size = np.sqrt(s * square)
        size += eps
        p *= keep
        p -= rate * (m / size)

    def _native(self, native: Any, p: Any, g: Any, *moments: Any) -> None:
        native.adamw(p, g, *moments, *self._factors())

    def _factors(self) -> tuple[float, ...]:
        """What is the same for all elements, in double."""
        lr, t = self.hyper
        b1, b2 = self.betas
        rates = 1 - lr * self.decay, lr / (1 - b1**t)
        return 1 - b1, 1 - b2, 1 / (1 - b2**t), self.eps, *rates

    def _launch(self, where: Gpu, p: Any, g: Any, *moments: Any) -> None:
        m, s = moments
        b1, b2 = self.betas
        factors = where.empty((3,))
        where.launch("optim", "optim_adamw_begin", 1, 1, self.hyper, factors, b1, b2, self.decay)
        rounded, rounds = self.parameters.to_round()
        rest = factors, self.factor, 1 - b1, 1 - b2, self.eps, p.size, rounds
        where.each("optim", "optim_adamw", p.size, p, g, m, s, rounded, *rest)


class Scaling:
    """The scale of the loss, where gradients of 16 bits (fp16) would vanish without it.

    loss.backward(scaling.scale), then `scaling.look()` before the optimizer's step: it sets the
    factor of the gradients to 1 / scale or, if one of them was not finite, to 0, which leaves the
    step out; and it moves the scale (optim.cu). state: what a checkpoint must keep.
    """

    def __init__(self, optimizer: Optimizer, scale: float = 4096.0) -> None:
        self.parameters, where = optimizer.parameters, optimizer.parameters.device
        self.state = where.put(np.array([scale, 1 / scale, 0], np.float32))
        self.scale = self.state[:1].reshape(())
        optimizer.factor = where.zeros((1,))
        self._factor = optimizer.factor

    def look(self) -> None:
        """After backward, before the step."""
        where: Any = self.parameters.device  # a GPU
        grads = self.parameters.gradients()
        size = constants("optim")
        blocks = -(-grads.size // size["SPAN"])
        parts = where.empty((blocks,), np.float64)
        where.launch("optim", "optim_finite", blocks, size["BLOCK"], grads, parts, grads.size)
        where.launch("optim", "optim_scale", 1, size["BLOCK"], parts, self.state, blocks)
        where.copy(self.state[1:2], self._factor)


class Average:
    """The moving average of the weights (Polyak & Juditsky 1992): smoother than the last ones.

    a <- a + (1 - d) (p - a)  after step t, with d = min(decay, t / (t + 10)): early on the average
    follows quickly and so forgets the random start. `flat` is laid out like the parameters; with
    decay 0 it is the parameters.
    """

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"the average's decay must be at least 0 and below 1, got {decay}")
        self.parameters, self.decay = optimizer.parameters, decay
        flat, where = self.parameters.flat, self.parameters.device
        self.flat = where.put(flat) if decay else flat
        self._hyper = optimizer.hyper  # t is read from there

    def update(self) -> None:
        """Take in the weights after a step of the optimizer."""
        values, where = self.parameters.flat, self.parameters.device
        if values is self.flat:
            return
        if isinstance(where, Gpu):
            rest = self._hyper, 1 - self.decay, values.size
            where.each("optim", "optim_average", values.size, self.flat, values, *rest)
            return
        steps_done = float(self._hyper[1])
        share = self.flat.dtype.type(1 - min(self.decay, steps_done / (steps_done + 10)))
        native = where.native(self.flat.dtype)
        if native is not None:
            native.average(self.flat, values, share)
            return

        def part(i: int) -> None:
            here = slice(i * CHUNK, (i + 1) * CHUNK)
            self.flat[here] += share * (values[here] - self.flat[here])

        each(part, -(-values.size // CHUNK))
