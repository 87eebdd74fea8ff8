"""How much memory a step of training or an inference takes, before it runs.

Both are rehearsed (device/rehearsal.py): the ops and the allocator that will work decide where each
array lies, without its memory. Bytes above what Python and the libraries take when they are
imported; on a GPU, bytes of its memory.

With the compiled kernels that is within 3 % or 2 MB of the peak that the system reports, where it
has large pages; without them up to 2 MB less are needed. NumPy's own path also makes copies, which
are not rehearsed: `_by_numpy` is a fair guess, and the sum right to 10 % or 5 MB. A GPU's context,
some hundred MB, is not counted.
"""

import copy
import re
from contextlib import nullcontext
from math import prod

import numpy as np

from . import threads
from .autograd import Tensor, no_grad
from .device import cpu
from .device.rehearsal import Rehearsal
from .errors import UsageError
from .gemm import rows_a_part
from .parameters import Parameters
from .training.samples import AHEAD, Batch
from .training.settings import Settings
from .training.trainer import Trainer
from .unet import UNet

FLOAT = 4
FIXED = 1_300_000  # bytes of code that is read in, small arrays, threads; for training twice
BLAS = 3_000_000  # bytes that NumPy's products take, a thread
HOLES = 4  # a step by NumPy leaves this part of its region's size in holes outside it


def inference_bytes(net: UNet, height: int, width: int, exact: bool = False) -> int:
    """Peak bytes of one forward pass of one (height, width) input, weights included.

    exact: inside `exact()`, whose kernels take other working memory.
    """
    there, twin = _rehearsal(net)
    with there.on(), no_grad(), cpu.exact() if exact else nullcontext():
        z = twin(Tensor(_any((1, height, width, net.in_channels)), there))
        p = there.empty(z.shape)  # probabilities, as infer.softmax makes them
    extra = FIXED + (_by_numpy(net, height, width) if there.by_numpy else 0)
    values = FLOAT * net.parameters.flat.size  # their gradients are never touched
    return there.needed - values + p.nbytes // p.shape[3] + extra


def training_bytes(net: UNet, settings: Settings) -> int:
    """Peak bytes of training steps: weights, gradients, the optimizer's moments, the average and
    the network that is judged with it, batches made ahead, and all that a step needs. Not the
    images (those in a GPU's memory: Tiles.device_bytes), nor their validation, which takes what
    inference does."""
    there, twin = _rehearsal(net)
    s, out = settings, (settings.batch, settings.tile_out, settings.tile_out)
    x = _any((s.batch, s.tile, s.tile, net.in_channels))
    batch = Batch(x, _any(out, np.int32), _any(out))
    with there.on():
        Trainer(twin, settings, total=1).step(batch)
    judged = FLOAT * net.parameters.flat.size
    ahead = (AHEAD + 2) * sum(a.nbytes for a in batch)  # one is in use, one being made
    extra = 2 * FIXED
    if there.by_numpy:
        extra += _by_numpy(net, s.tile, s.tile, s.batch) + there.region // HOLES
    return there.needed + judged + ahead + extra


def _by_numpy(net: UNet, height: int, width: int, batch: int = 0) -> int:
    """Bytes that NumPy's path takes beside; batch: of the tiles trained on, 0 for inference."""
    columns, others, count = 0, 0, threads.count()
    for layer in net.layers(height, width):
        (h, w, k), c = layer.output, layer.input[2]
        other = prod(layer.output) * max(batch, 1) if layer.kind.startswith("up") else 0
        if layer.kind.startswith("conv 3x3"):
            columns = max(columns, rows_a_part(h, 9 * c, w) * w * 9 * c)
            other = 9 * c * k  # for finding out how BLAS rounds (gemm.block_rows)
            if batch:  # a gradient with a margin; that of the weights in parts; weights turned
                other = batch * (h + 4) * (w + 4) * k + (count + 2) * 9 * c * k
        others = max(others, other)
    return FLOAT * (count * columns + others) + count * BLAS


def _rehearsal(net: UNet) -> tuple[Rehearsal, UNet]:
    """A device for rehearsals, and a network on it as large as `net`."""
    there, twin = Rehearsal(net.device), copy.copy(net)
    shapes = {name: p.shape for name, p in net.parameters.items()}
    twin.device = there
    twin.parameters = Parameters(shapes, there, rounded=net.stored)
    return there, twin


def _any(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def human(count: float) -> str:
    """12.3 GB, 45 MB: decimal units, as memory is sold."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def parse_bytes(text: str) -> int:
    """Bytes of "2G", "1.5 GB" or "500M" (decimal), or "2GiB" (binary)."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(i?)B?\s*", text, re.IGNORECASE)
    if not match:
        raise UsageError(f"--memory {text} is no amount: write it like 2G or 500M")
    return int(
        float(match[1]) * (1024 if match[3] else 1000) ** (1 + "KMGT".index(match[2].upper()))
    )
