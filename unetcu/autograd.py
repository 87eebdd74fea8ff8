"""Reverse-mode differentiation: a Tensor remembers the Op that made it.

The whole engine is the loop in `Tensor.backward`. If L is a scalar that depends on t, then
t.grad becomes dL/dt: every op, asked newest first, turns the gradient of its output into the
gradients of its inputs (the chain rule), and gradients that meet at one tensor are added.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self

import numpy as np

from .device import Device, Gpu, device
from .errors import GraphError, ShapeError
from .graph import Graph, Node, nodes_of
from .precision import FP16

_recording = ContextVar("recording", default=True)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, ops keep nothing for a backward pass: for inference."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


class Tensor:
    """An array on a device and, after `backward`, its gradient.

    Tensor(array, on="cpu", needs_grad=False) copies `array`; floats keep their precision
    (float32 or float64). `data` is read-only: what a backward pass will need cannot change
    under it. `grad` is None or an array of the same shape and dtype as `data`.
    """

    operators: ClassVar[dict[str, Callable[..., "Tensor"]]] = {}  # filled by the ops themselves

    def __init__(
        self, data: Any, on: str | Device = "cpu", needs_grad: bool = False, name: str = ""
    ) -> None:
        where = device(on) if isinstance(on, str) else on
        self._hold(where.put(data), where, needs_grad, name)
        if needs_grad and self.dtype not in (np.float32, np.float64):
            raise GraphError(f"only float32 and float64 have gradients, not {self.dtype}")

    def _hold(self, data: Any, where: Device, needs_grad: bool, name: str = "") -> None:
        if isinstance(data, np.ndarray):  # GPU arrays have no such flag; only ops write them
            data = data.view()
            data.flags.writeable = False
        self.data, self.device, self.needs_grad, self.name = data, where, needs_grad, name
        self.grad: Any = None
        self.maker: Op | None = None

    @classmethod
    def wrap(cls, data: Any, where: Device, needs_grad: bool = False, name: str = "") -> Self:
        """A tensor of an array already on the device, without a copy (the caller lets go of it)."""
        self = cls.__new__(cls)
        self._hold(data, where, needs_grad, name)
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions; images are (N, H, W, C)."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64 (integers for labels)."""
        return self.data.dtype

    @property
    def version(self) -> int:
        """Changes when the values change. Here never: only parameters are written to."""
        return 0

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; waits for the device."""
        return self.device.get(self.data)

    def item(self) -> float:
        """The value of a tensor of one element; waits for the device."""
        return float(self.numpy().reshape(()))

    def accumulate(self, gradient: Any) -> None:
        """Add to `grad`. Never in place: another tensor may hold the same array."""
        self.grad = gradient if self.grad is None else self.device.add(self.grad, gradient)

    def backward(self, dy: Any = None) -> None:
        """Add d(sum(dy * self))/dt to t.grad for every leaf t that needs it.

        dy: array or Tensor of this shape; may be left out for a tensor of one element (dy = 1).
        The graph is used up: what the ops kept is freed as soon as it has been used.
        Raises GraphError (no graph, used twice, an input changed since) and ShapeError (dy).
        """
        if self.maker is None and not self.needs_grad:
            raise GraphError(
                "backward from a tensor that depends on nothing that needs a gradient; "
                "was it made inside no_grad(), or with needs_grad=True on no input?"
            )
        if dy is None:
            if int(np.prod(self.shape)) != 1:
                raise ShapeError(f"backward of a {self.shape} tensor needs dy of that shape")
            dy = self.device.full(self.shape, 1, self.dtype)
        elif isinstance(dy, Tensor):  # this very array, not a copy
            dy = dy.data
        elif not (isinstance(self.device, Gpu) and self.device.owns(dy)):
            dy = self.device.put(np.asarray(dy, self.dtype))
        if tuple(dy.shape) != self.shape:
            raise ShapeError(f"dy has shape {tuple(dy.shape)}, the tensor {self.shape}")
        if self.maker is None:
            self.accumulate(dy)
            return
        waiting = {id(self.maker): dy}  # gradients of op outputs, each popped when it is used
        order = _oldest_first(self.maker)
        while order:  # popped, so that an op's arrays are freed once it is done
            op = order.pop()
            op.so_far = waiting.pop(id(op.sources[0]), None) if op.adds else None
            for source, g in op.run_backward(waiting.pop(id(op))):
                if isinstance(source, Tensor):
                    source.accumulate(g)
                else:
                    before = waiting.get(id(source))
                    waiting[id(source)] = g if before is None else self.device.add(before, g)

    def graph(self) -> Graph:
        """The graph behind this tensor: `print(y.graph())`, or `y.graph().svg()` to draw it."""
        nodes = nodes_of(_oldest_first(self.maker) if self.maker else ())
        return Graph(nodes or [Node(self.name or "input", "input", self.shape, ())])

    def __add__(self, other: "Tensor") -> "Tensor":
        return _operator("add")(self, other)

    def __mul__(self, other: "Tensor") -> "Tensor":
        return _operator("multiply")(self, other)

    def __matmul__(self, other: "Tensor") -> "Tensor":
        return _operator("matmul")(self, other)

    def __repr__(self) -> str:
        made = f", made by {self.maker.name}" if self.maker else ""
        return f"Tensor({self.shape}, {self.dtype}, on {self.device.name}{made})"


def _operator(name: str) -> Callable[..., Tensor]:
    importlib.import_module("unetcu.ops")  # the first time this fills the table
    return Tensor.operators[name]


def _oldest_first(last: "Op") -> list["Op"]:
    """Every op behind (and with) `last`, each after the ops whose outputs it used."""
    order: list[Op] = []
    seen: set[int] = set()
    stack = [(last, False)]
    while stack:  # a stack, not recursion: a deep network must not meet Python's limit
        op, done = stack.pop()
        if done:
            order.append(op)
        elif id(op) not in seen:
            if op.used:
                raise GraphError(
                    "an earlier backward() has used this graph up; run the forward pass again"
                )
            seen.add(id(op))
            stack.append((op, True))
            stack += [(s, False) for s in op.sources if isinstance(s, Op)]
    return order


class Op:
    """One differentiable operation. A subclass says five things, in this order:

    shape         the output shape, or ShapeError with what would have been right
    reference     the formula in NumPy, as plainly as it can be put: the definition
    forward_cpu   backward_cpu    the same, fast, on the CPU
    forward_gpu   backward_gpu    the same, as launches of kernels/<stem>.cu

    forward takes the inputs' arrays and the options; what backward needs, it keeps on `self`.
    backward takes dy and returns one gradient (or None) for each input.
    """

    device: Device
    out_shape: tuple[int, ...]
    versions: list[int]
    needs: tuple[bool, ...]  # for each input: is its gradient wanted?
    # Where each gradient goes: to the input's op or leaf; a Node: nowhere. No arrays are held here.
    # Empty, in forward already, where nothing is recorded.
    sources: tuple["Op | Tensor | Node", ...] = ()
    used = False
    adds: ClassVar[bool] = False  # backward adds `so_far`, what its only input got from others
    so_far: Any = None
    # An op that ends in a ReLU (`rectified`) stops dy where y is not > 0, unless all that have made
    # dy (those with `gates`) did so already: then it is `gated` (None: nobody has made any).
    rectified, gates = False, False
    gated: bool | None = None

    @classmethod
    def apply(cls, *inputs: Tensor, **options: Any) -> Tensor:
        """The op's output for these inputs, recorded if an input needs a gradient."""
        self = cls()
        where = inputs[0].device
        if any(t.device is not where for t in inputs):
            raise GraphError(f"{self.name}: inputs on {[t.device.name for t in inputs]}")
        if len({t.dtype for t in inputs if t.dtype.kind == "f"} - {FP16}) > 1:
            given = ", ".join(str(t.dtype) for t in inputs)
            raise GraphError(f"{self.name}: inputs of one precision are needed, got {given}")
        self.device, self.out_shape = where, cls.shape(*(t.shape for t in inputs), **options)
        self.needs = tuple(t.needs_grad for t in inputs)
        if recorded := _recording.get() and any(self.needs):
            self.versions = [t.version for t in inputs]
            self.sources = tuple(t.maker or (t if t.needs_grad else _plain(t)) for t in inputs)
        y = getattr(self, "forward_" + where.kind)(*(t.data for t in inputs), **options)
        out = Tensor.wrap(y, where, needs_grad=recorded)
        out.maker = self if recorded else None
        return out

    @property
    def name(self) -> str:
        """The op as graphs and errors call it."""
        return type(self).__name__

    @staticmethod
    def shape(*shapes: Any, **options: Any) -> tuple[int, ...]:
        """The output's shape; a pure function of the inputs' shapes and the options."""
        raise NotImplementedError

    def run_backward(self, dy: Any) -> list[tuple["Op | Tensor", Any]]:
        """(source, gradient) of every input that wants one; frees what forward kept."""
        for s, version in zip(self.sources, self.versions, strict=True):
            if isinstance(s, Tensor) and s.version != version:
                raise GraphError(
                    f"{self.name}: {s.name or 'an input'} was changed between forward and "
                    "backward; the gradient would be wrong. Run the forward pass again"
                )
        gradients = getattr(self, "backward_" + self.device.kind)(dy)
        result: list[tuple[Op | Tensor, Any]] = []
        for i, (s, g) in enumerate(zip(self.sources, gradients, strict=True)):
            if isinstance(s, Node):
                continue
            if g is None:
                raise GraphError(f"{self.name} has no gradient for its input number {i}")
            wanted = s.shape if isinstance(s, Tensor) else s.out_shape
            if tuple(g.shape) != wanted:
                raise ShapeError(f"{self.name}: the gradient of a {wanted} input is {g.shape}")
            if isinstance(s, Op):
                s.gated = self.gates and (self.adds or s.gated is not False)
            result.append((s, g))
        for kept in set(vars(self)) - {"device", "out_shape"}:
            delattr(self, kept)
        self.used = True
        return result


def _plain(t: Tensor) -> Node:
    return Node(t.name or "input", "input", t.shape, ())
