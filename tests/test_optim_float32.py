"""Steps of the optimizers in float32 on every device, against the formula in float64.

One step from given arrays, so that nothing but its own rounding is seen: each operation may err by
half a unit in the last place of its terms, which is what the bounds count.
"""

import numpy as np
import pytest

from unetcu.device import device
from unetcu.optim import SGD, AdamW, Average
from unetcu.parameters import Parameters

U = 2.0**-24
SIZES = [1, 255, 256, 257, 3001]


def before_a_step(on, rng, size, kind, **options):
    """The optimizer with gradients and moments in place, and float64 copies: p, g, moments."""
    p = Parameters({"p": (size,)}, device(on))
    p.write("p", rng.standard_normal(size).astype("f"))
    optimizer = kind(p, 0.5, **options)
    p["p"].accumulate(p.device.put(rng.standard_normal(size).astype("f")))
    for moment in optimizer.state.values():
        values = rng.random(moment.size, np.float32)
        p.device.copy(values, moment)
    arrays = [p["p"].numpy(), p.device.get(p["p"].grad), *read(optimizer, size)]
    return p, optimizer, [np.array(a, np.float64) for a in arrays]


def read(optimizer, size):
    get = optimizer.parameters.device.get
    return [np.array(get(a)[:size]) for a in optimizer.state.values()]


def near(got, right, size_of_terms, roundings):
    assert got.dtype == np.float32
    error = np.abs(got - right)
    assert (error <= roundings * U * size_of_terms).all(), (error / (U * size_of_terms)).max()


@pytest.mark.parametrize("size", SIZES)
def test_sgd(on, rng, size):
    p, optimizer, (was, g, v) = before_a_step(on, rng, size, SGD, momentum=0.875)
    for t, lr in enumerate([0.25, 1e-3, 3.0]):
        optimizer.set(lr, t)
        optimizer.step()
        assert p.device.get(optimizer.hyper).tolist() == [lr, t + 1]
        terms = np.abs(0.875 * v) + np.abs(g)
        v = 0.875 * v + g
        near(read(optimizer, size)[0], v, terms, 2)
        near(p["p"].numpy(), was - lr * v, np.abs(was) + lr * terms, 5)
        was, v = (np.array(a, np.float64) for a in (p["p"].numpy(), read(optimizer, size)[0]))


@pytest.mark.parametrize("t", [0, 1, 5000])
@pytest.mark.parametrize("size", SIZES)
def test_adamw(on, rng, size, t):
    p, optimizer, (was, g, m, s) = before_a_step(on, rng, size, AdamW, eps=1e-3, decay=0.1)
    optimizer.set(0.25, t)
    optimizer.step()
    t += 1
    assert p.device.get(optimizer.hyper).tolist() == [0.25, t]
    size_m, size_s = np.abs(m) + 0.1 * np.abs(g), s + 1e-3 * g**2
    m, s = 0.9 * m + (1 - 0.9) * g, 0.999 * s + (1 - 0.999) * g**2
    got_m, got_s = read(optimizer, size)
    near(got_m, m, size_m, 3)
    near(got_s, s, size_s, 4)
    step = 0.25 / (1 - 0.9**t) / (np.sqrt(s / (1 - 0.999**t)) + 1e-3)
    near(p["p"].numpy(), was * (1 - 0.25 * 0.1) - step * m, np.abs(was) + step * size_m, 14)


@pytest.mark.parametrize(("t", "share"), [(1, 10 / 11), (90, 0.1), (989, 10 / 999), (991, 0.01)])
def test_average(on, rng, t, share):
    """10 / (t + 10) of the way to the new weights, but no less than 1 - 0.99 from step 990 on."""
    for size in SIZES:
        p = Parameters({"p": (size,)}, device(on))
        optimizer = SGD(p, 0.1)
        average = Average(optimizer, 0.99)
        p.write("p", rng.standard_normal(size).astype("f"))
        was = rng.standard_normal(size).astype("f")
        now = p["p"].numpy().astype("d")
        p.device.copy(np.pad(was, (0, average.flat.size - size)), average.flat)
        optimizer.set(0.1, t)
        average.update()
        right = was + share * (now - was)
        got = np.array(p.device.get(average.flat)[:size])
        near(got, right, np.abs(was) + share * (np.abs(now) + np.abs(was)), 5)
