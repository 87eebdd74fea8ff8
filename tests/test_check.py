"""The checker is checked: every fault planted in an honest op must be found."""

import itertools

import numpy as np
import pytest
from check import check_op, inner, run, same

from unetcu.ops.conv3x3 import Conv3x3
from unetcu.ops.relu import ReLU
from unetcu.ops.softmax_loss import SoftmaxLoss

pytestmark = pytest.mark.usefixtures("exact_form")


def scaled(a):
    return a * a.dtype.type(1.001)


def one_nan(a):
    a = a.copy()
    a.flat[a.size // 2] = np.nan
    return a


def one_infinity(a):
    a = a.copy()
    a.flat[a.size // 2] = np.inf
    return a


def shifted(a):
    return np.ascontiguousarray(np.roll(a, 1, axis=0 if a.ndim == 1 else 1))


def negated(a):
    return -a


def zeroed(a):
    return np.zeros_like(a)


def one_wrong_entry(a):
    a = a.copy()
    a.flat[a.size // 3] *= a.dtype.type(1.01)
    return a


def last_entry_missing(a):
    a = a.copy()
    a.flat[-1] = 0
    return a


def low_precision(a):
    """Rounded to 10 bits of mantissa, as TF32 does."""
    return (
        (a.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000))
        .view(np.float32)
        .astype(a.dtype)
    )


def not_contiguous(a):
    return np.repeat(a, 2, axis=-1)[..., ::2]


def other_precision(a):
    return a.astype(np.float32 if a.dtype == np.float64 else np.float64)


_calls = itertools.count()


def drifting(a):
    return a if next(_calls) % 2 else np.nextafter(a, a.dtype.type(9))


FAULTS = [
    scaled,
    one_nan,
    one_infinity,
    shifted,
    negated,
    zeroed,
    one_wrong_entry,
    last_entry_missing,
    low_precision,
    not_contiguous,
    other_precision,
    drifting,
]
PLACES = ["y", "dx", "dw", "db"]


def with_fault(fault, place, only=None):
    """Conv3x3 with `fault` applied to one of its results (only where they are of dtype `only`)."""

    def spoil(name, a):
        return fault(a) if name == place and only in (None, a.dtype) else a

    class Faulty(Conv3x3):
        def forward_cpu(self, x, w, b):
            return spoil("y", super().forward_cpu(x, w, b))

        def backward_cpu(self, dy):
            results = super().backward_cpu(dy)
            return [spoil(n, a) for n, a in zip(PLACES[1:], results, strict=True)]

    return Faulty


def check(op, **options):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 9, 7, 5)), rng.standard_normal((3, 3, 5, 4))
    pixels = 2 * 7 * 5
    return check_op(
        op, "cpu", x, w, rng.standard_normal(4), terms=(46, 36, pixels, pixels), **options
    )


def test_an_honest_op_passes_with_room():
    assert check(Conv3x3) < 1e-12


@pytest.mark.parametrize("only", [None, np.float32], ids=["always", "float32"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault, place, only):
    with pytest.raises(AssertionError):
        check(with_fault(fault, place, only))


def test_a_wrong_formula_is_found_even_if_backward_fits_it():
    """y and dx agree with each other but not with the reference."""

    class Doubled(Conv3x3):
        def forward_cpu(self, x, w, b):
            return 2 * super().forward_cpu(x, w, b)

        def backward_cpu(self, dy):
            return super().backward_cpu(2 * dy)

    with pytest.raises(AssertionError, match=r"y: .* out of bounds"):
        check(Doubled)


def test_the_two_halves_of_a_direction():
    """A gradient that is right but for an entry of 0 that should be large, and the reverse."""

    class Selects(ReLU):
        def backward_cpu(self, dy):
            (dx,) = super().backward_cpu(dy)
            dx.flat[int(np.argmax(np.abs(dx)))] = 0
            return (dx,)

    class Leaks(ReLU):
        def backward_cpu(self, dy):
            (dx,) = super().backward_cpu(dy)
            dx.flat[int(np.argmin(np.abs(dx)))] = 1e-3
            return (dx,)

    x = np.random.default_rng(0).integers(-9, 9, (50, 50)) + 0.5
    for op in (Selects, Leaks):
        with pytest.raises(AssertionError, match="direction"):
            check_op(op, "cpu", x, terms=(0, 0), scale="own", step=0.2)


@pytest.mark.parametrize("what", ["dy", "x", "y"])
def test_writing_to_what_belongs_to_others_is_found(what):
    class Writes(ReLU):
        def forward_cpu(self, x):
            if what == "x":
                x.flags.writeable = True
                x += 1
                self.y = np.maximum(x - 1, 0)
                return self.y
            return super().forward_cpu(x)

        def backward_cpu(self, dy):
            results = super().backward_cpu(dy)
            if what == "dy":
                dy *= 2
            if what == "y":
                self.y += 1
            return results

    x = np.random.default_rng(0).integers(-9, 9, (5, 4)) + 0.5
    with pytest.raises((AssertionError, ValueError)):
        run(Writes, "cpu", [x.astype(np.float32)], np.ones((5, 4), np.float32), [0])


def test_a_missing_gradient_is_found():
    class Forgets(SoftmaxLoss):
        def backward_cpu(self, dy):
            return np.zeros_like(super().backward_cpu(dy)[0]), None, None

    rng = np.random.default_rng(0)
    z, t, w = rng.standard_normal((1, 3, 4, 2)), rng.integers(0, 2, (1, 3, 4)), np.ones((1, 3, 4))
    scale = [np.full((), 9.0), np.full(z.shape, 9.0)]
    arguments = {"terms": (2, 2), "needs": [0], "scale": scale, "step": 1e-3}
    check_op(SoftmaxLoss, "cpu", z, t, w, **arguments)
    with pytest.raises(AssertionError, match="direction"):
        check_op(Forgets, "cpu", z, t, w, **arguments)


def test_same_and_inner_can_fail():
    a = np.array([1.0, np.nan, 0.0])
    same(a, np.array([1.0, np.nan, -0.0]))
    for other in ([1.0, 2.0, 0.0], [1.0, np.nan, 1e-30], [np.nan, np.nan, 0.0]):
        with pytest.raises(AssertionError):
            same(a, np.array(other))
    with pytest.raises(AssertionError):
        same(a, a[:, None])
    assert inner(np.array([2.0, 3.0]), np.array([5.0, -1.0])) == 7
    with pytest.raises(AssertionError, match="whole"):
        inner(np.array([0.5]), np.array([1.0]))
