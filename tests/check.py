"""check_op: is an op right? Asked of every op, in float64 and float32, on every device.

The formula of an op is its `reference`, in float64. Nothing else is trusted:

    y    against the reference, element by element;
    dx   against the slope of the reference: <dx, s> = d/dh <dy, reference(x + h s)> at h = 0,
         by central differences, for directions s that are half along dx, so that a wrong scale
         shows, and half random, so that one wrong entry shows.

This is done with the CPU path in float64. Then the op runs in float32 on the device that is asked
about, and each element of y and dx must lie within

    (2 sqrt(K) + 4) u S        u = 2^-24

of the float64 result that was just proved: K is the number of terms that are summed for one
element, S the sum of their absolute values (the op itself, run on absolute values).
"""

from collections.abc import Sequence

import numpy as np

from unetcu.autograd import Op, Tensor

SLOPE = 1e-7  # relative error allowed in float64; honest ops stay below 1e-9


def check_op(
    op: type[Op],
    on: str,
    *arrays: np.ndarray,
    terms: Sequence[int],
    needs: Sequence[int] | None = None,
    scale: str | Sequence[np.ndarray] = "absolute",
    step: float = 1.0,
    **options,
) -> float:
    """Assert that `op` is right for these inputs; return the worst relative error of a slope.

    arrays: the inputs; floats are rounded to float32 first, so that both precisions start from
    the same numbers. needs: which inputs get a gradient (default: all floats).
    terms: K of y, then of each gradient. scale: S as above ("absolute"), or the result's own
    absolute value ("own": for ops that only choose or copy), or arrays: S of y and each gradient.
    step: h, against inputs of size 1. An op that is linear in each input has exact slopes at
    h = 1; a formula with kinks needs an h that does not reach one.
    """
    arrays = tuple(_rounded(a) for a in arrays)
    if needs is None:
        needs = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    rng = np.random.default_rng(0)
    shape = op.shape(*(a.shape for a in arrays), **options)
    dy = np.asarray(rng.standard_normal(shape), np.float32)

    exact = [_float64(a) for a in arrays]
    proved = run(op, "cpu", exact, _float64(dy), needs, **options)
    assert all(np.isfinite(r).all() for r in proved), f"{op.__name__}: a result is not finite"
    if scale == "absolute":
        sizes = [np.abs(a) if a.dtype.kind == "f" else a for a in exact]
        scale = run(op, "cpu", sizes, np.abs(_float64(dy)), needs, **options)
    elif scale == "own":
        scale = [np.abs(r) for r in proved]

    expected = op.reference(*exact, **options)
    _within(proved[0], expected, 2 * _bound(terms[0], scale[0], np.float64), f"{op.__name__}: y")
    worst = 0.0
    for i, dx in zip(needs, proved[1:], strict=True):
        for trial in range(2):
            s = _direction(dx, rng)

            def moved(h, i=i, s=s):
                at = [a + h * s if j == i else a for j, a in enumerate(exact)]
                return op.reference(*at, **options)

            # The slope to fourth order: exact for polynomials of degree 4 in h.
            near, far = (moved(h) - moved(-h) for h in (step, 2 * step))
            slope = np.sum(_float64(dy) * (8 * near - far)) / (12 * step)
            got, size = np.sum(dx * s), np.linalg.norm(dx) * np.linalg.norm(s)
            error = abs(got - slope) / size if size else abs(slope)
            if not error <= SLOPE:
                raise AssertionError(
                    f"{op.__name__}: gradient of input {i}, direction {trial}: <dx, s> is {got}, "
                    f"the slope of the formula {slope}; relative error {error:.2e}"
                )
            worst = max(worst, error)

    results = run(op, on, arrays, dy, needs, **options)
    names = ["y", *(f"gradient of input {i}" for i in needs)]
    for name, result, right, K, S in zip(names, results, proved, terms, scale, strict=True):
        _within(result, right, _bound(K, S, np.float32), f"{op.__name__} in float32: {name}")
    return worst


def run(
    op: type[Op],
    on: str,
    arrays: Sequence[np.ndarray],
    dy: np.ndarray,
    needs: Sequence[int],
    **options,
) -> list[np.ndarray]:
    """[y, gradient of each input in `needs`]; asserts what holds for any op whatever its formula:

    shape as its rule says, one precision from end to end, C-contiguous results, inputs and dy
    never written to, and the same bits when it is run again.
    """
    before = [a.tobytes() for a in arrays]

    def forward() -> tuple[Tensor, list[Tensor]]:
        inputs = [Tensor(a, on, needs_grad=i in needs) for i, a in enumerate(arrays)]
        return op.apply(*inputs, **options), inputs

    y, inputs = forward()
    assert y.shape == op.shape(*(a.shape for a in arrays), **options), op.__name__
    assert y.dtype == dy.dtype, f"{op.__name__}: y is {y.dtype}, the inputs {dy.dtype}"
    value = np.array(y.numpy())
    assert y.numpy().flags.c_contiguous, f"{op.__name__}: y is not contiguous"
    y.backward(dy)
    gradients = []
    for i in needs:
        g = inputs[i].grad
        assert g is not None, f"{op.__name__}: input {i} got no gradient"
        g = inputs[i].device.get(g)
        assert g.shape == arrays[i].shape, f"{op.__name__}: gradient {g.shape} of input {i}"
        assert g.dtype == dy.dtype, f"{op.__name__}: the gradient of input {i} is {g.dtype}"
        assert g.flags.c_contiguous, f"{op.__name__}: gradient {i} is not contiguous"
        gradients.append(np.array(g))
    assert np.array_equal(y.numpy(), value, equal_nan=True), f"{op.__name__}: backward wrote to y"

    again, inputs = forward()
    constant = again.device.put(dy)  # at fan-out another op holds the same dy
    if isinstance(constant, np.ndarray):
        constant.flags.writeable = False
    assert again.maker is not None
    repeated = again.maker.run_backward(constant)
    repeated = [again.numpy(), *(again.device.get(g) for _, g in repeated)]
    for first, second in zip([value, *gradients], repeated, strict=True):
        assert first.tobytes() == second.tobytes(), f"{op.__name__}: other bits when run again"
    after = [a.tobytes() for a in arrays]
    assert before == after, f"{op.__name__}: wrote to its inputs"
    assert before == [t.numpy().tobytes() for t in inputs], f"{op.__name__}: wrote to its inputs"
    return [value, *gradients]


def same(got: np.ndarray, right: np.ndarray, what: str = "") -> None:
    """Assert that the numbers are equal, NaN in the same places; -0 equals 0."""
    assert got.shape == right.shape, f"{what}: shape {got.shape}, not {right.shape}"
    wrong = ~((got == right) | (np.isnan(got) & np.isnan(right)))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} differ, first at {first}: "
            f"{got[first]} instead of {right[first]}"
        )


def _bound(terms: int, S: np.ndarray, dtype: type) -> np.ndarray:
    u = np.finfo(dtype).eps / 2
    return (2 * np.sqrt(terms) + 4) * u * S


def _within(got: np.ndarray, right: np.ndarray, bound: np.ndarray, what: str) -> None:
    assert got.shape == right.shape == bound.shape, f"{what}: {got.shape}, {right.shape}"
    error = np.abs(got - right)
    wrong = ~(error <= bound)  # so that NaN is wrong
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements out of bounds, first at {first}: "
            f"{got[first]!r} instead of {right[first]!r} +- {bound[first]:.2e}"
        )


def _direction(dx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half along dx, half random, its largest entry 1."""
    s = np.asarray(rng.standard_normal(dx.shape))
    length = np.linalg.norm(dx)
    if length > 0:
        if np.sum(s * dx) < 0:  # or the halves could cancel
            s = -s
        s = s / np.linalg.norm(s) + dx / length
    return s / np.max(np.abs(s))


def _rounded(a: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float32) if a.dtype.kind == "f" else a


def _float64(a: np.ndarray) -> np.ndarray:
    return np.asarray(a, np.float64) if a.dtype.kind == "f" else a


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole numbers from -4 to 4 as float32: their sums of products are exact in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def inner(a: np.ndarray, b: np.ndarray) -> int:
    """<a, b> of arrays of whole numbers, exactly."""
    assert a.shape == b.shape, f"{a.shape}, {b.shape}"
    whole = [x.astype(np.int64) for x in (a, b)]
    for x, n in zip((a, b), whole, strict=True):
        assert np.array_equal(x, n), "these are not whole numbers"
    return int(np.sum(whole[0] * whole[1]))
