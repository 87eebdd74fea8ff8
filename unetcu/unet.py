"""The network of figure 1: Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597.

`depth` is the number of poolings (the paper's network: 4), `base` the channels of the first level
(64). A level on the way down is two valid 3x3 convolutions with ReLU, then a 2x2 max-pool; channels
double. On the way up: a 2x2 up-convolution that halves the channels, the centre of the map of the
same level from the way down beside it, two 3x3 convolutions with ReLU. Last a 1x1 convolution.

Parameters are named for where they stand in the figure, from the top left down to the bottom and
up again: down1.conv1.w ... down4.conv2.b, bottom.conv1.w ..., up4.upconv.w ... up1.conv2.b, head.w.
"""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .autograd import Tensor
from .device import Device, device
from .errors import ShapeError, UsageError
from .ops.cast import cast
from .ops.conv1x1 import conv1x1
from .ops.conv3x3 import conv3x3
from .ops.crop_concat import crop_concat
from .ops.dropout import dropout
from .ops.head_loss import head_loss
from .ops.maxpool2 import maxpool2
from .ops.upconv2 import upconv2
from .parameters import Parameters
from .precision import FORMS, HALVES, on_tensor_cores, settled
from .rng import stream
from .tiles import output_size, valid_sizes

__all__ = ["Layer", "UNet", "output_size", "valid_sizes"]


class Layer(NamedTuple):
    """One row of the network's table: shapes are (H, W, C), counts are for one image."""

    name: str
    kind: str
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    parameters: int
    flops: int  # of the forward pass, a multiplication and an addition counted as two


class UNet:
    """The U-Net as a function of images: unet(x) -> logits.

    x: Tensor (N, H, W, in_channels) with H and W in valid_sizes(); logits: (N, H - 2b, W - 2b,
    classes) where b is the border of 92 pixels at depth 4 (44 at depth 3, 20 at 2).
    """

    def __init__(
        self,
        depth: int = 4,
        base: int = 64,
        in_channels: int = 1,
        classes: int = 2,
        *,
        dropout: float = 0.5,
        seed: int = 0,
        on: str | Device = "cpu",
        dtype: DTypeLike = np.float32,
        precision: str = "fp32",
    ) -> None:
        """Weights are drawn as section 3 says: Gaussian, standard deviation sqrt(2 / N), with N
        the incoming nodes of one neuron; biases are 0. precision: of a GPU's arithmetic, one of
        precision.FORMS or "auto"; a CPU's is that of dtype. Raises UsageError for sizes below 1."""
        given = {"depth": depth, "base": base, "in_channels": in_channels, "classes": classes}
        for name, value in given.items():
            if not 1 <= value <= (8 if name == "depth" else 65536):
                raise UsageError(f"{name} {value} is no U-Net: it must be at least 1 (depth: to 8)")
        if not 0 <= dropout < 1:
            raise UsageError(f"the dropout rate must be at least 0 and below 1, got {dropout}")
        self.depth, self.base, self.in_channels, self.classes = given.values()
        self.dropout = dropout
        self.device = device(on) if isinstance(on, str) else on
        self.precision = settled(precision, self.device)
        self.stored = FORMS[self.precision] if FORMS[self.precision] in HALVES else None
        layers = self.weight_shapes()
        shapes = {f"{n}.{p}": s if p == "w" else s[-1:] for n, s in layers.items() for p in "wb"}
        self.parameters = Parameters(shapes, self.device, dtype, self.stored)
        for i, (name, shape) in enumerate(layers.items()):
            nodes = shape[2] if name.endswith("upconv") else int(np.prod(shape[:-1]))
            self.parameters.draw(name + ".w", stream(seed, i, "initial weights"), sqrt(2 / nodes))

    @property
    def config(self) -> dict[str, Any]:
        """What it takes to build the same network again: UNet(**config)."""
        return {
            "depth": self.depth,
            "base": self.base,
            "in_channels": self.in_channels,
            "classes": self.classes,
            "dropout": self.dropout,
        }

    def weight_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Layer name -> shape of its weights, in the order of the forward pass.

        3x3: (3,3,C,K). Up-convolution: (2,2,C,K), one input pixel per output pixel, so N = C.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        c = self.in_channels
        for level in range(self.depth + 1):
            k = self.base << level
            where = f"down{level + 1}" if level < self.depth else "bottom"
            shapes[f"{where}.conv1"], shapes[f"{where}.conv2"] = (3, 3, c, k), (3, 3, k, k)
            c = k
        for level in reversed(range(self.depth)):
            k = self.base << level
            where = f"up{level + 1}"
            shapes[f"{where}.upconv"] = (2, 2, c, k)
            shapes[f"{where}.conv1"], shapes[f"{where}.conv2"] = (3, 3, 2 * k, k), (3, 3, k, k)
            c = k
        shapes["head"] = (c, self.classes)
        return shapes

    def __call__(self, x: Tensor, when: Tensor | None = None) -> Tensor:
        """Logits of x. With `when` = (seed, step), uint32, this is a training pass: drop-out acts
        at the end of the contracting path (section 3.1), and never otherwise."""
        return conv1x1(self._features(x, when), *self._weights("head"))

    def loss(self, x: Tensor, t: Tensor, weights: Tensor, when: Tensor, dy: Tensor) -> Tensor:
        """softmax_loss(self(x, when), t, weights), for loss.backward(dy), by one op (head_loss)."""
        return head_loss(self._features(x, when), *self._weights("head"), t, weights, dy)

    def _features(self, x: Tensor, when: Tensor | None) -> Tensor:
        """What the head sees."""
        if len(x.shape) != 4 or x.shape[3] != self.in_channels:
            raise ShapeError(f"the network takes (N,H,W,{self.in_channels}), got {x.shape}")
        for size in x.shape[1:3]:
            output_size(size, self.depth)
        self.parameters.round()
        if self.stored is not None:
            x = cast(x, to=self.stored)
        skips = []  # no name but x holds a map, so that one is freed when the next is there
        for level in range(1, self.depth + 1):
            x = self._conv(x, f"down{level}.conv1")
            x = self._conv(x, f"down{level}.conv2", pool=True)
            skips.append(x)
            x = maxpool2(x)
        for conv in ("conv1", "conv2"):
            x = self._conv(x, f"bottom.{conv}")
        if when is not None and self.dropout > 0:
            x = dropout(x, when, rate=self.dropout)
        for level in range(self.depth, 0, -1):
            x = upconv2(x, *self._weights(f"up{level}.upconv"), precision=self.precision)
            x = crop_concat(skips.pop(), x, copy=not self._reads_pairs(level))
            for conv in ("conv1", "conv2"):
                x = self._conv(x, f"up{level}.{conv}")
        return x

    def _reads_pairs(self, level: int) -> bool:
        """Whether the convolution behind a concatenation needs no copy of it."""
        gpu = self.device.kind == "gpu"
        return gpu and on_tensor_cores(self.precision, self.base << level - 1)

    def _conv(self, x: Tensor, layer: str, pool: bool = False) -> Tensor:
        """pool: a max-pool follows, which some kernels of the convolution do in passing."""
        weights = self._weights(layer)
        return conv3x3(x, *weights, relu=True, precision=self.precision, pool=pool)

    def _weights(self, layer: str) -> tuple[Tensor, Tensor]:
        return self.parameters[layer + ".w"], self.parameters[layer + ".b"]

    def layers(self, height: int, width: int) -> Iterator[Layer]:
        """Every arrow of figure 1 for an input of height x width; ShapeError if it does not fit."""
        for size in (height, width):
            output_size(size, self.depth)
        weights = self.weight_shapes()
        skips: dict[str, tuple[int, int, int]] = {}
        h, w, c = height, width, self.in_channels
        for name, shape in weights.items():
            before, k = (h, w, c), shape[-1]
            where, _, what = name.partition(".")
            if what == "upconv":
                h, w, kind, taps = 2 * h, 2 * w, "up-conv 2x2", 1
            elif name == "head":
                kind, taps = "conv 1x1", 1
            else:
                h, w, kind, taps = h - 2, w - 2, "conv 3x3 + ReLU", 9
            count = int(np.prod(shape)) + k
            yield Layer(name, kind, before, (h, w, k), count, 2 * taps * h * w * shape[-2] * k)
            c = k
            if what == "conv2" and where.startswith("down"):
                skips[where.removeprefix("down")] = (h, w, c)
                yield Layer(f"{where}.pool", "max-pool 2x2", (h, w, c), (h // 2, w // 2, c), 0, 0)
                h, w = h // 2, w // 2
            if what == "upconv":
                skip = skips[where.removeprefix("up")]
                yield Layer(f"{where}.concat", "crop + concat", skip, (h, w, 2 * c), 0, 0)
                c *= 2

    def summary(self, size: int | None = None) -> str:
        """Figure 1 as a table, for an input of size x size (572 at depth 4 if left out)."""
        if size is None:
            size = valid_sizes(self.depth, 1, 572)[-1]
        rows = list(self.layers(size, size))
        table = [("layer", "operation", "input", "output", "parameters", "MFLOP", "output MB")]
        for r in rows:
            before, after = (" x ".join(map(str, s)) for s in (r.input, r.output))
            megabytes = f"{4 * np.prod(r.output, dtype=float) / 1e6:.1f}"
            counts = f"{r.parameters:,}", f"{r.flops / 1e6:,.0f}"
            table.append((r.name, r.kind, before, after, *counts, megabytes))
        widths = [max(len(row[i]) for row in table) for i in range(7)]
        lines = [
            "  ".join(
                cell.ljust(n) if i < 4 else cell.rjust(n)
                for i, (cell, n) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        lines.insert(1, "-" * len(lines[0]))
        convolutions = sum("conv " in r.kind for r in rows)
        last = rows[-1].output
        lines.append(
            f"{convolutions} convolutional layers, {self.parameters.size:,} parameters, "
            f"{sum(r.flops for r in rows) / 1e9:.1f} GFLOP forward, "
            f"{size}x{size} -> {last[0]}x{last[1]}"
        )
        return "\n".join(lines)
