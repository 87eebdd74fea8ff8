"""Every weight of a network in one flat array, and every gradient in another.

The optimizer then sees one long vector instead of 46 small arrays (one kernel launch a step on
a GPU), a checkpoint is one buffer with a table, and "the gradients" is something one can hash.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .autograd import Op, Tensor
from .device import Device, Gpu
from .errors import ShapeError
from .precision import HALVES

PIECE = 1 << 16  # numbers drawn at a time
LINE = 32  # each parameter starts at a multiple of so many numbers: a GPU's cache line


class Parameter(Tensor):
    """A leaf tensor whose values and gradient are slices of the two flat arrays. Where ops take
    16-bit weights, `data` is a slice of a third, the values rounded."""

    arena: "Parameters"
    values: Any  # the slice of the flat values, in this tensor's shape
    slot: Any  # that of the flat gradient

    def numpy(self) -> np.ndarray:
        """The values, not rounded, as a NumPy array; waits for the device."""
        return self.device.get(self.values) if self.dtype in HALVES else super().numpy()

    @property
    def version(self) -> int:
        """Grows with every write to the parameters."""
        return self.arena.version

    def accumulate(self, gradient: Any) -> None:
        """Add to `grad`, which lives in the flat gradient array."""
        if self.grad is not None:
            self.device.join()  # what is there may have been made aside
            gradient = self.device.add(self.grad, gradient)
        if gradient is not self.slot:
            self.device.copy(gradient, self.slot)
        self.grad = self.slot


class Parameters(Mapping[str, Parameter]):
    """name -> Parameter, in the order given, over `values` and `grads` (both flat, same dtype).

    rounded: how ops take those whose name ends in ".w", if not as they are (precision.py)."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        where: Device,
        dtype: DTypeLike = np.float32,
        rounded: DTypeLike | None = None,
    ) -> None:
        """One parameter of zeros for each entry of `shapes` (name -> shape)."""
        self.device, self.version = where, 0
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        flat = (sum(_room(shape) for shape in self._shapes.values()),)
        self._values, self.grads = where.zeros(flat, dtype), where.zeros(flat, dtype)
        self._rounded = None if rounded is None else where.empty(flat, rounded)
        self._rounded_version = -1
        self._table: dict[str, Parameter] = {}
        slots, values = self.named(self.grads), self.named(self._values)
        taken = values if self._rounded is None else self.named(self._rounded)
        for name, own in values.items():
            data = taken[name] if name.endswith(".w") else own
            tensor = Parameter.wrap(data, where, needs_grad=True, name=name)
            tensor.arena, tensor.values, tensor.slot = self, own, slots[name]
            self._table[name] = tensor

    def __getitem__(self, name: str) -> Parameter:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def size(self) -> int:
        """How many numbers there are to learn."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    @property
    def flat(self) -> Any:
        """All values in one array, for reading; see `writable`. Between parameters lie zeros."""
        return self._values

    def named(self, flat: Any) -> dict[str, Any]:
        """An array laid out like `flat`, as name -> array of that parameter's shape."""
        parts, at = {}, 0
        for name, shape in self._shapes.items():
            parts[name] = flat[at : at + math.prod(shape)].reshape(shape)
            at += _room(shape)
        return parts

    def writable(self) -> Any:
        """The flat values, to be written to now: graphs recorded before can no longer be used."""
        self.version += 1
        return self._values

    def round(self) -> None:
        """Bring the rounded weights up to date; before every forward pass."""
        if isinstance(self.device, Gpu) and self._rounded_version != self.version:
            if self._rounded is not None:
                size = self._values.size
                self.device.each("cast", "cast_forward", size, self._values, self._rounded, size)
            self._rounded_version = self.version

    def to_round(self) -> tuple[Any, int]:
        """(where an optimizer's kernel writes the rounded weights, whether it is to do so)."""
        return (self._values, 0) if self._rounded is None else (self._rounded, 1)

    def rounded_with_the_step(self) -> None:
        """An optimizer's kernel has rounded what it wrote."""
        self._rounded_version = self.version

    def gradients(self) -> Any:
        """The flat gradients, for a step: 0 where no backward has reached a parameter."""
        self.device.join()
        for p in self.values():
            if p.grad is None:  # what stands there belongs to an earlier step
                self.device.copy(self.device.zeros(p.shape, self.grads.dtype), p.slot)
        return self.grads

    def stepped(self) -> None:
        """A captured step was replayed: it has moved and rounded the values."""
        self.writable()
        self.rounded_with_the_step()

    def write(self, name: str, array: np.ndarray) -> None:
        """Set one parameter to `array`, of its shape (else ShapeError)."""
        if array.shape != self[name].shape:
            raise ShapeError(f"{name} is {self[name].shape}, the array given {array.shape}")
        self.device.copy(array, self.named(self.writable())[name])

    def draw(self, name: str, rng: np.random.Generator, deviation: float) -> None:
        """Set one parameter to Gaussian numbers, drawn a piece at a time: all are a lot."""
        flat = self.named(self.writable())[name].reshape(-1)
        for at in range(0, flat.size, PIECE):
            piece = flat[at : at + PIECE]
            gauss = rng.standard_normal(piece.size, np.float32)
            self.device.copy(gauss * np.float32(deviation), piece)

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


def room(op: Op, i: int, shape: tuple[int, ...]) -> Any:
    """Memory where `op` may write the gradient of its input i, of this shape.

    That of a parameter whose gradient is not there yet is its place in the flat array.
    """
    source = op.sources[i]
    if isinstance(source, Parameter) and source.grad is None:
        return source.slot
    return op.device.empty(shape)


# Numbers of an image: its layer's launches make so few blocks that a GPU has room beside them. Of
# larger ones, what runs aside would hold much memory and overlap little.
ASIDE = 1 << 22


def aside(op: Op, *rooms: Any) -> AbstractContextManager[None]:
    """For launches that write into these rooms of its last inputs: beside what follows, if they are
    places of parameters' gradients, which nobody uses before `join`."""
    owners = op.sources[-len(rooms) :]
    ours = all(
        isinstance(p, Parameter) and p.slot is there for p, there in zip(owners, rooms, strict=True)
    )
    where: Any = op.device  # a GPU
    return where.aside() if ours else nullcontext()


def _room(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // LINE) * LINE
