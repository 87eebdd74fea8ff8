"""The kernels without a gradient, optim.cu and fill.cu, against NumPy in float64."""

import numpy as np

from unetcu.device import Device, Gpu, device
from unetcu.optim import SGD, AdamW, Average
from unetcu.parameters import Parameters

SIZES = (1, 255, 256, 257, 1000)


def check_steps(where: Device) -> None:
    """Assert that three steps of each optimizer, the average and `full` are right on a device."""
    for size in SIZES:
        for make in (
            lambda p: SGD(p, 0.1, 0.9),
            lambda p: SGD(p, 0.01),
            lambda p: AdamW(p, 0.01),
            lambda p: AdamW(p, 0.02, (0.8, 0.95), 1e-3, 0.1),
        ):
            got = _three_steps(where, np.float32, size, make)
            right = _three_steps(device("cpu"), np.float64, size, make)
            for name, a in right.items():
                b = got[name]
                assert b.shape == a.shape, name
                error = np.abs(b - a)
                assert (error <= 2e-6 * (np.abs(a) + np.abs(a).max())).all(), (name, error.max())
            assert got["hyper"].tolist()[1] == 3
    if not isinstance(where, Gpu):
        return
    for dtype in ("float32", "float64", "int32", "uint32", "uint8"):
        for size in (0, *SIZES):
            filled = where.get(where.full((size,), 7, dtype))
            assert filled.dtype == dtype
            assert filled.tolist() == [7] * size


def _three_steps(where: Device, dtype: type, size: int, make) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    p = Parameters({"p": (size,)}, where, dtype)
    p.write("p", rng.standard_normal(size).astype(np.float32))
    optimizer, averages = make(p), [Average(p, 0.9), Average(p, 0.05)]
    for t in range(3):
        optimizer.set(0.1 / (t + 1), t)
        p.forget_gradients()
        p["p"].accumulate(where.put(rng.standard_normal(size).astype(dtype)))
        optimizer.step()
        for average in averages:
            average.update(t + 1)
    arrays = {"p": p.flat, **optimizer.state, "hyper": optimizer.hyper}
    arrays |= {f"average {i}": a.flat for i, a in enumerate(averages)}
    return {name: np.array(where.get(a)) for name, a in arrays.items()}
