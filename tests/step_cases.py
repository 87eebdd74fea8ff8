"""The kernels without a gradient, optim.cu and fill.cu, against NumPy in float64; warp.cu against
tiles of the CPU."""

from dataclasses import replace

import numpy as np
from warptools import STRONG, check_tiles, source

from unetcu.augment import Augment
from unetcu.device import Device, Gpu, device
from unetcu.optim import SGD, AdamW, Average, Scaling
from unetcu.parameters import Parameters
from unetcu.precision import BF16, FP16, floats, stored

SIZES = (1, 255, 256, 257, 1000)


def check_steps(where: Device) -> None:
    """Assert that three steps of each optimizer, the average and `full` are right on a device, and
    tiles cut there."""
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
    check_scaling(where)
    check_cast(where)
    check_warp(where)
    for dtype in ("float32", "float64", "int32", "uint32", "uint8"):
        for size in (0, *SIZES):
            filled = where.get(where.full((size,), 7, dtype))
            assert filled.dtype == dtype
            assert filled.tolist() == [7] * size


def check_scaling(where: Gpu) -> None:
    """fp16's scale of the loss: halved where a gradient is not finite, and that step left out;
    doubled after 1000 steps without, within 1 and 2^24."""
    size, huge = 20_001, np.float32(3.4028235e38)  # three blocks; the last of them has one
    p = Parameters({"p": (size,)}, where)
    for last, since, scale, right in (
        (1, 0, 8, (8, 1 / 8, 1)),
        (-huge, 5, 8, (8, 1 / 8, 6)),
        (np.inf, 5, 8, (4, 0, 0)),
        (-np.inf, 999, 8, (4, 0, 0)),
        (np.nan, 3, 1, (1, 0, 0)),
        (1, 999, 8, (16, 1 / 8, 0)),
        (1, 999, 2**24, (2**24, 2.0**-24, 0)),
    ):
        for at in (0, 8191, size - 1):
            optimizer = SGD(p, 0.1)
            scaling = Scaling(optimizer)
            where.copy(np.array([scale, 77, since], np.float32), scaling.state)
            g = np.ones(size, np.float32)
            g[at] = last
            p.forget_gradients()
            p["p"].accumulate(where.put(g))
            scaling.look()
            assert where.get(scaling.state).tolist() == list(right), (last, at)
            assert where.get(optimizer.factor).tolist() == [right[1]]
            before = where.get(p.flat).copy()
            optimizer.step()
            assert np.array_equal(before, where.get(p.flat)) == (right[1] == 0)


def check_warp(where: Gpu) -> None:
    """Tiles of one part and of two, warped and exact, from images smaller and larger than they."""
    crops = replace(Augment(), rotate=0.0, scale=0.0, elastic=0.0, brightness=0.0)
    for augment, channels, tile, shapes in (
        (replace(STRONG, noise=1.0), 2, 18, ((9, 14), (30, 17))),
        (replace(STRONG, contrast=0.0, noise=0.0), 1, 12, ((30, 17), (1, 5))),
        (crops, 1, 12, ((1, 1), (9, 14))),
    ):
        sources = [source(shape, channels) for shape in shapes]
        check_tiles(where, sources, augment, tile, out=tile - 8, count=2)


def check_cast(where: Gpu) -> None:
    """Ties go to the even one; what is too large becomes infinite, NaN stays NaN."""
    ties = np.arange(0x3F80_0000, 0x3F80_0000 + 600 * 0x1000, 0x1000, np.uint32).view(np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e38, 65504, 65520, 6e-8, 2e-8], np.float32)
    x = np.concatenate([ties, -ties, odd])
    for kind in (BF16, FP16):
        y = where.empty(x.shape, kind)
        where.each("cast", "cast_forward", x.size, where.put(x), y, x.size)
        with np.errstate(over="ignore"):
            assert np.array_equal(floats(where.get(y)), floats(stored(x, kind)), equal_nan=True)
        back = where.empty(x.shape)
        where.each("cast", "cast_backward", x.size, y, back, x.size)
        assert np.array_equal(where.get(back), floats(where.get(y)), equal_nan=True)


def _three_steps(where: Device, dtype: type, size: int, make) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    p = Parameters({"p": (size,)}, where, dtype)
    p.write("p", rng.standard_normal(size).astype(np.float32))
    optimizer = make(p)
    averages = [Average(optimizer, 0.9), Average(optimizer, 0.05)]
    for t in range(3):
        optimizer.set(0.1 / (t + 1), t)
        p.forget_gradients()
        p["p"].accumulate(where.put(rng.standard_normal(size).astype(dtype)))
        optimizer.step()
        for average in averages:
            average.update()
    arrays = {"p": p.flat, **optimizer.state, "hyper": optimizer.hyper}
    arrays |= {f"average {i}": a.flat for i, a in enumerate(averages)}
    return {name: np.array(where.get(a)) for name, a in arrays.items()}
