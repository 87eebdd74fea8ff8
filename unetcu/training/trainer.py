"""The training loop's engine: network, optimizer and average, one step at a time, no files."""

import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..device import Fetched
from ..errors import CheckpointError
from ..optim import SGD, AdamW, Average, Optimizer, Scaling, hyper
from ..training.samples import Batch
from ..training.settings import Settings
from ..unet import UNet


def rate(settings: Settings, step: int, total: int) -> float:
    """The learning rate of this step of `total`, counted from 0."""
    if settings.schedule == "constant":
        return settings.lr
    late = max(0.0, step / total - 0.5) * 2
    return settings.lr * max(0.5 * (1 + math.cos(math.pi * late)), 1e-3)


class Trainer:
    """Trains `net` for `total` steps as `settings` say; `done` steps have been made."""

    def __init__(self, net: UNet, settings: Settings, total: int) -> None:
        self.net, self.settings, self.total, self.done = net, settings, total, 0
        self.optimizer: Optimizer
        if settings.optimizer == "sgd":
            self.optimizer = SGD(net.parameters, settings.lr, settings.momentum)
        else:
            self.optimizer = AdamW(net.parameters, settings.lr)
        self.average = Average(self.optimizer, settings.average)
        self.scaling = Scaling(self.optimizer) if net.precision == "fp16" else None
        scale = self.scaling.scale if self.scaling else net.device.put(np.ones((), np.float32))
        self.dy = Tensor.wrap(scale, net.device)  # of the loss, in every step
        ours = weakref.proxy(self)  # a capture keeps nobody alive
        self._work = net.device.captured(lambda **given: ours._step(**given))

    def rate(self, step: int) -> float:
        """The learning rate of this step: constant, or from half the run on down to (nearly) 0."""
        return rate(self.settings, step, self.total)

    def step(self, batch: Batch) -> float:
        """One step of gradient descent on one batch; returns the loss before it."""
        return self.begin(batch).item()

    def begin(self, batch: Batch) -> Fetched:
        """Begin a step; the loss before it can be waited for while a GPU works on."""
        given = {
            "when": np.array([self.settings.seed, self.done], np.uint32),
            "hyper": hyper(self.rate(self.done), self.done),
        }
        self.net.parameters.round()  # a replay takes them as they are
        with np.errstate(over="ignore", invalid="ignore"):  # the loss tells, in one line
            loss = self._work(**batch._asdict(), **given)
        self.net.parameters.stepped()
        self.done += 1
        return self.net.device.fetch(loss)

    def _step(self, x: Any, t: Any, w: Any, when: Any, hyper: Any) -> Any:
        """The work of a step, of arrays on the device. It is captured: nothing here may depend on
        values of the host that change."""
        x, t, w, when = (Tensor.wrap(a, self.net.device) for a in (x, t, w, when))
        loss = self.net.loss(x, t, w, when, self.dy)
        self.net.parameters.forget_gradients()
        loss.backward(self.dy)
        if self.scaling:
            self.scaling.look()
        self.net.device.copy(hyper, self.optimizer.hyper)
        self.optimizer.step()
        self.average.update()
        return loss.data

    def averaged(self) -> dict[str, np.ndarray]:
        """The weights to use: their moving average, name -> array on the host."""
        return self.net.parameters.named(self.net.device.get(self.average.flat))

    def weights(self) -> dict[str, np.ndarray]:
        """The weights as they are now, name -> array on the host."""
        return {name: p.numpy() for name, p in self.net.parameters.items()}

    def state(self) -> dict[str, np.ndarray]:
        """What, with `weights` and `done`, lets training go on as if it had never stopped."""
        return {name: self.net.device.get(array) for name, array in self._arrays().items()}

    def _arrays(self) -> dict[str, Any]:
        scaling = {"loss_scale": self.scaling.state} if self.scaling else {}
        return {"average": self.average.flat, **self.optimizer.state, **scaling}

    def load(
        self, weights: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray], done: int
    ) -> None:
        """Go back to a saved state. Raises CheckpointError if it is not this trainer's."""
        ours = self.state()
        fits = {k: (v.shape, v.dtype) for k, v in ours.items()}
        if fits != {k: (v.shape, v.dtype) for k, v in state.items()}:
            raise CheckpointError(
                f"cannot resume: the file holds {', '.join(state) or 'weights only'} and this "
                f"training needs {', '.join(ours)}"
            )
        where = self.net.device
        for name, array in self._arrays().items():
            where.copy(state[name], array)
        self.net.parameters.load(weights)  # last: with decay 0 the average is the same memory
        self.done = done
