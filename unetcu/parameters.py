"""Every weight of a network in one flat array, and every gradient in another.

The optimizer then sees one long vector instead of 46 small arrays (one kernel launch a step on
a GPU), a checkpoint is one buffer with a table, and "the gradients" is something one can hash.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .autograd import Tensor
from .device import Cpu
from .errors import ShapeError


class Parameter(Tensor):
    """A leaf tensor whose values and gradient are slices of the two flat arrays."""

    arena: "Parameters"
    slot: Any  # the slice of the flat gradient, in this tensor's shape

    @property
    def version(self) -> int:
        """Grows with every write to the parameters."""
        return self.arena.version

    def accumulate(self, gradient: Any) -> None:
        """Add to `grad`, which lives in the flat gradient array."""
        if self.grad is not None:
            gradient = self.device.add(self.grad, gradient)
        self.device.copy(gradient, self.slot)
        self.grad = self.slot


class Parameters(Mapping[str, Parameter]):
    """name -> Parameter, in the order given, over `values` and `grads` (both flat, same dtype)."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        where: Cpu,
        dtype: DTypeLike = np.float32,
    ) -> None:
        """One parameter of zeros for each entry of `shapes` (name -> shape)."""
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        self.device, self.version = where, 0
        self._values = where.zeros((sum(sizes),), dtype)
        self.grads = where.zeros((sum(sizes),), dtype)
        self._table: dict[str, Parameter] = {}
        start = 0
        for (name, shape), size in zip(shapes.items(), sizes, strict=True):
            part = slice(start, start + size)
            values = self._values[part].reshape(shape)
            tensor = Parameter.wrap(values, where, needs_grad=True, name=name)
            tensor.arena, tensor.slot = self, self.grads[part].reshape(shape)
            self._table[name] = tensor
            start += size

    def __getitem__(self, name: str) -> Parameter:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def size(self) -> int:
        """How many numbers there are to learn."""
        return int(self._values.size)

    @property
    def flat(self) -> Any:
        """All values in one array, for reading; see `writable`."""
        return self._values

    def named(self, flat: Any) -> dict[str, Any]:
        """An array laid out like `flat`, as name -> array of that parameter's shape."""
        sizes = [int(np.prod(p.shape)) for p in self.values()]
        starts = np.cumsum([0, *sizes]).tolist()
        parts = zip(self.items(), starts, sizes, strict=False)
        return {name: flat[at : at + n].reshape(p.shape) for (name, p), at, n in parts}

    def writable(self) -> Any:
        """The flat values, to be written to now: graphs recorded before can no longer be used."""
        self.version += 1
        return self._values

    def gradients(self) -> Any:
        """The flat gradients, for a step: 0 where no backward has reached a parameter."""
        for p in self.values():
            if p.grad is None:  # what stands there belongs to an earlier step
                self.device.copy(self.device.zeros(p.shape, p.dtype), p.slot)
        return self.grads

    def write(self, name: str, array: np.ndarray) -> None:
        """Set one parameter to `array`, of its shape (else ShapeError)."""
        if array.shape != self[name].shape:
            raise ShapeError(f"{name} is {self[name].shape}, the array given {array.shape}")
        self.device.copy(array, self.named(self.writable())[name])

    def forget_gradients(self) -> None:
        """Before each step: the next backward writes gradients instead of adding to them."""
        for p in self.values():
            p.grad = None

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over the values of `arrays`; names and shapes must be exactly ours (ShapeError)."""
        ours = {name: p.shape for name, p in self.items()}
        theirs = {name: a.shape for name, a in arrays.items()}
        for name in [*ours, *theirs]:
            if ours.get(name) != theirs.get(name):
                raise ShapeError(
                    f"weights do not fit: {name} is {theirs.get(name, 'missing')} in what was "
                    f"given, {ours.get(name, 'absent')} in this network"
                )
        for name in ours:
            self.write(name, arrays[name])
