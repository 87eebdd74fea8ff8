"""What launches the kernels of a file, at any shape: so that they can be profiled or timed."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..device import Gpu
from ..errors import UsageError
from ..ops._conv3x3_variants import studied
from ..ops.cast import cast
from ..optim import SGD, AdamW
from ..parameters import Parameters
from ..precision import BF16, on_tensor_cores
from ..warp import Picture, Warp, numbers
from .cases import cases
from .judge import run
from .ladder import convolve

Shape = tuple[int, int, int, int]


def launch_all(stem: str, shape: Shape, channels: int, where: Gpu) -> None:
    """Everything that kernels/<stem>.cu is for, once: an op forward and backward.

    shape: N,H,W,C of the input. channels: of the output, or classes; ignored where the input says
    all. Values are made up. Raises ShapeError or UsageError for what the kernels cannot take.
    """
    rng = np.random.default_rng(0)
    (n, h, w, c), k = shape, channels
    op, cores, _ = stem.replace("_wgmma", "_mma").partition("_mma")

    def made_up(*sizes: int) -> Any:
        return where.put(rng.standard_normal(sizes).astype(np.float32))

    if stem.startswith("ladder/"):
        arrays = made_up(*shape), made_up(3, 3, c, k), made_up(k)
        convolve(where, stem.removeprefix("ladder/"), *arrays)
        return
    if stem == "optim":
        for kind in (SGD, AdamW):
            parameters = Parameters({"p": (n * h * w * c,)}, where)
            parameters["p"].accumulate(made_up(n * h * w * c))
            kind(parameters, 0.01).step()
        return
    if stem == "fill":
        where.zeros(shape)
        return
    if stem == "warp":
        _cut(where, rng, shape)
        return
    if stem == "cast":
        x = Tensor.wrap(made_up(*shape), where, needs_grad=True)
        y = cast(x, to=BF16)
        y.backward(y.data)
        return
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "conv3x3": (shape, (3, 3, c, k), (k,)),
        "conv1x1": (shape, (c, k), (k,)),
        "matmul": ((n * h * w, c), (c, k)),
        "upconv2": (shape, (2, 2, c, k), (k,)),
        "crop_concat": ((n, h + 4, w + 4, k), shape),
        "dropout": (shape, (2,)),
        "softmax_loss": ((n, h, w, k), (n, h, w), (n, h, w)),
        "head_loss": (shape, (c, k), (k,), (n, h, w), (n, h, w)),
        "elementwise": (shape, (c,)),
    }
    known = {c.op: c for c in cases(1) if c.stem == op and c.form == "fp32"}
    if not known:
        raise UsageError(f"nothing is known that launches the kernels of {stem}.cu")
    for case in known.values():
        asked = replace(case, shapes=shapes.get(case.stem, (shape,)), kind="normal")
        if cores:
            if not on_tensor_cores("bf16", c, k):
                raise UsageError(
                    f"{stem}.cu multiplies multiples of 8 channels, not {c} to {k}: give --shape "
                    "and --channels"
                )
            asked = replace(asked, form="bf16", images=(0, 1))
        with studied(stem):
            run(asked, where, *asked.draw())


def _cut(where: Gpu, rng: np.random.Generator, shape: Shape) -> None:
    """N tiles as high as an image of this size, turned, with everything varied."""
    n, h, w, c = shape
    picture = Picture(
        rng.standard_normal((c, h, w)).astype(np.float32),
        np.zeros((h, w), np.int32),
        np.ones((h, w), np.float32),
    )
    spline = np.linspace((1, 0, 0), (0, 0, 1), h)  # straight lines
    warp = Warp(where, [(h, w)], [picture], c, spline, n, h, exact=False)
    nodes = np.array([[0, 0, 0], [0, 0, 0], [h, h, h]]) + 0.25, np.array([[0, 0, w]] * 3) + 0.5
    warp.cut(np.stack([numbers(0, nodes, [(1.1, 1.1, 0.1, 0.1)] * c, (n, i)) for i in range(n)]))
