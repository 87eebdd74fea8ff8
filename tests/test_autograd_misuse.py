"""The engine: what cannot give a right gradient is an error, and values cannot change."""

import subprocess
import sys

import numpy as np
import pytest

from unetcu.autograd import Op, Tensor
from unetcu.device import Cpu, device
from unetcu.errors import DeviceError, GraphError, ShapeError
from unetcu.ops.elementwise import add
from unetcu.ops.reduce import sum as total
from unetcu.ops.reshape import reshape
from unetcu.ops.softmax_loss import softmax_loss
from unetcu.parameters import Parameters


def leaf(values, on="cpu", name=""):
    return Tensor(np.array(values, np.float64), on, needs_grad=True, name=name)


def test_backward_twice(on):
    x = leaf([1.0], on)
    y = x * x
    y.backward()
    with pytest.raises(GraphError, match="has used this graph up"):
        y.backward()
    assert x.grad.tolist() == [2]


def test_backward_through_a_part_that_was_used(on):
    x = leaf([1.0], on)
    shared = x * x
    y, z = shared + x, shared * x
    y.backward()
    with pytest.raises(GraphError, match="run the forward pass again"):
        z.backward()
    with pytest.raises(GraphError, match="earlier backward"):
        (shared * x).graph()


def test_backward_from_what_depends_on_nothing(on):
    with pytest.raises(GraphError, match=r"depends on nothing.*no_grad\(\).*needs_grad=True"):
        total(Tensor([1.0], on)).backward()


def test_dy_of_the_wrong_shape(on):
    x = leaf([1.0, 2], on)
    y = x * x
    with pytest.raises(ShapeError, match=r"dy has shape \(3,\), the tensor \(2,\)"):
        y.backward([1, 2, 3])
    with pytest.raises(ShapeError, match=r"\(2,\) tensor needs dy of that shape"):
        y.backward()
    y.backward([1, 1])  # neither attempt has used the graph up
    assert x.grad.tolist() == [2, 4]


def test_a_parameter_changed_between_forward_and_backward(on):
    p = Parameters({"w": (1,), "b": (1,)}, device(on))
    y = p["w"] * p["b"]
    p.writable()[:] = 7
    with pytest.raises(GraphError, match="Multiply: w was changed between forward and backward"):
        y.backward()


def test_an_input_that_has_no_gradient(on):
    """Weights of the loss that came out of a layer: no silent zero."""
    z = leaf(np.zeros((1, 1, 1, 2)), on)
    w = leaf(np.ones((1, 1, 1)), on) * leaf(np.ones((1, 1, 1)), on)
    loss = softmax_loss(z, Tensor(np.zeros((1, 1, 1), int), on), w)
    with pytest.raises(GraphError, match="SoftmaxLoss has no gradient for its input number 2"):
        loss.backward()


def test_two_precisions_do_not_mix(on):
    a, b = Tensor(np.zeros(3, np.float32), on), Tensor(np.zeros(3), on)
    with pytest.raises(GraphError, match="one precision are needed, got float32, float64"):
        add(a, b)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float16, np.complex128])
def test_only_floats_have_gradients(on, dtype):
    with pytest.raises(GraphError, match="only float32 and float64"):
        Tensor(np.zeros(3, dtype), on, needs_grad=True)


def test_two_devices_do_not_mix():
    class Other(Cpu):
        name = "other"

    with pytest.raises(GraphError, match=r"inputs on \['cpu', 'other'\]"):
        add(Tensor([1.0]), Tensor([1.0], Other()))


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match="no device is called 'abacus'"):
        Tensor([1.0], "abacus")
    assert device("auto") is device("auto")


def test_a_gradient_of_the_wrong_shape_names_the_op(on):
    class Wrong(Op):
        @staticmethod
        def shape(x):
            return x

        def forward_cpu(self, x):
            return x + 0

        forward_gpu = forward_cpu

        def backward_cpu(self, dy):
            return (dy[:1],)

        backward_gpu = backward_cpu

    with pytest.raises(ShapeError, match=r"Wrong: the gradient of a \(2,\) input is \(1,\)"):
        Wrong.apply(leaf([1.0, 2], on)).backward([1, 1])


def test_the_array_given_is_copied(on):
    given = np.array([1.0, 2])
    x = Tensor(given, on, needs_grad=True)
    y = x * x
    given[:] = 50
    assert x.numpy().tolist() == [1, 2]
    y.backward([1, 1])
    assert x.grad.tolist() == [2, 4]


def test_values_are_read_only(on):
    x = leaf([1.0, 2], on)
    for t in (x, x * x, reshape(x, to=(2, 1))):
        with pytest.raises(ValueError, match="read-only"):
            t.numpy()[:] = 0


@pytest.mark.parametrize(
    "given",
    [
        np.arange(12.0).reshape(3, 4)[::-1, ::2],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(6, dtype=">f4"),
        np.arange(6, dtype=">i2"),
        [[1, 2], [3, 4]],
        3.5,
        np.broadcast_to(np.float32(2), (2, 3)),
    ],
    ids=["strided", "Fortran", "big-endian", "big-endian integers", "list", "number", "broadcast"],
)
def test_any_layout_is_taken_in(on, given):
    t = Tensor(given, on)
    assert t.numpy().flags.c_contiguous
    assert t.dtype.isnative
    assert np.array_equal(t.numpy(), given)
    assert t.dtype == np.asarray(given).dtype.newbyteorder("=")


def test_item(on):
    assert Tensor([[2.5]], on).item() == 2.5
    with pytest.raises(ValueError, match="reshape"):
        Tensor([1.0, 2], on).item()


def test_operators_are_there_with_the_first_tensor(on):
    program = "from unetcu import Tensor; print((Tensor([2.0]) + Tensor([3.0])).item())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "5.0\n", done.stderr
