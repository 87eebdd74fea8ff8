"""GPU memory of one training step, ours and PyTorch's, counted without a GPU.

    python bench/torch_activations.py                      the paper's network and tile, batch 1
    python bench/torch_activations.py --batch 8 --write bench/results/activations.md

Ours: `memory.training_memory`, the rehearsal that `unetcu plan --device simt` prints. PyTorch: the
same network (torch_net.py) in eager mode under FakeTensorMode, which runs PyTorch's own dispatcher
and autograd and only leaves out the numbers; autocast to bfloat16, channels_last. Each tensor that
an operation returns is counted as long as its storage lives, views once.

In favour of PyTorch, because they cannot be seen so: no workspace of cuDNN, no memory inside of an
operation, no rounding or holes of its allocator, no CUDA context. Against it, 2.4 MB: drop-out on a
CPU keeps a mask of bfloat16, a GPU's one of bytes. Ours has the slabs of weight gradients in it.
"""

import argparse
import contextlib
import sys
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch_net import torch_net, weighted_loss
from turns import head, line

from unetcu.device import device
from unetcu.memory import Memory, training_memory
from unetcu.training.settings import Settings
from unetcu.unet import UNet


class Counted(NamedTuple):
    """MB: kept for backward, unique storages; the most alive at once; both without parameters,
    their gradients and their copies of 16 bits, which are `copies`; and the most alive of all."""

    kept: float
    most: float
    copies: float
    everything: float


class Alive(TorchDispatchMode):
    """Counts bytes of storages from their birth in an operation to their death."""

    def __init__(self, lasting: set[int], weights: set[tuple[int, ...]]) -> None:
        super().__init__()
        self.lasting, self.weights = lasting, weights
        self.seen: set[int] = set()
        self.now = [0, 0]  # maps; what is shaped like a parameter
        self.most, self.everything = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        out = function(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                self.born(t)
        self.most = max(self.most, self.now[0])
        self.everything = max(self.everything, sum(self.now))
        return out

    def born(self, t: torch.Tensor) -> None:
        """Count t's storage, unless that has been."""
        storage = t.untyped_storage()
        key, which = storage._cdata, int(tuple(t.shape) in self.weights)
        if key in self.seen or key in self.lasting:
            return
        self.seen.add(key)
        self.now[which] += storage.nbytes()
        weakref.finalize(storage, self.died, key, which, storage.nbytes())

    def died(self, key: int, which: int, size: int) -> None:
        """Its memory is free."""
        self.seen.discard(key)
        self.now[which] -= size


def theirs(net: UNet, batch: int, tile: int, out: int, half: bool) -> Counted:
    """PyTorch's figures for one forward and backward pass."""
    kept: dict[int, tuple[int, bool]] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        kept[storage._cdata] = storage.nbytes(), tuple(t.shape) in shapes
        return t

    with FakeTensorMode(allow_non_fake_inputs=True):
        peer = torch_net(net)
        for p in peer.parameters():
            p.data = p.data.contiguous(
                memory_format=torch.channels_last if p.dim() == 4 else torch.contiguous_format
            )
        x = torch.empty(batch, 1, tile, tile).to(memory_format=torch.channels_last)
        t, w = torch.empty(batch, out, out, dtype=torch.int64), torch.empty(batch, out, out)
        lasting = {p.untyped_storage()._cdata for p in peer.parameters()}
        shapes = {tuple(p.shape) for p in peer.parameters()}
        autocast = torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
        with Alive(lasting, shapes) as alive:
            with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                loss = weighted_loss(peer(x), t, w)
            found = [v for key, v in kept.items() if key not in lasting]
            loss.backward()
    maps, copies = (sum(size for size, like in found if like == is_w) for is_w in (False, True))
    return Counted(*(n / 1e6 for n in (maps, alive.most, copies, alive.everything)))


def table(ours: Memory, other: Counted, weights: float, moments: int) -> list[str]:
    """Both sides in MB, and our share."""
    mine = {k: v / 1e6 for k, v in ours.lasting.items()}
    last = mine["weights"] + mine["weights of 16 bits"] + mine["gradients"] + mine["moments"]
    rows = {
        "maps kept for backward": (ours.kept / 1e6, other.kept),
        "all but weights at the worst moment": (ours.activations / 1e6, other.most),
        "weights, their gradients and moments": (last, (2 + moments) * weights),
        "all together, at most": (
            ours.activations / 1e6 + last,
            max(other.everything + (1 + moments) * weights, other.most + (2 + moments) * weights),
        ),
    }
    cells = [(what, f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}") for what, (a, b) in rows.items()]
    return [head("MB", "unetcu", "PyTorch", "unetcu / PyTorch"), *(line(*c) for c in cells)]


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--tile", type=int, default=572)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--write", metavar="FILE", help="write the page there, too")
    args = parser.parse_args()
    s = Settings(
        depth=args.depth, base=args.base, tile=args.tile, batch=args.batch, optimizer="sgd"
    )
    net = UNet(args.depth, args.base, on=device("simt"), precision=args.precision)
    ours = training_memory(net, s)
    other = theirs(net, s.batch, s.tile, s.tile_out, args.precision == "bf16")
    weights = 4 * net.parameters.size / 1e6
    half = ", autocast to bfloat16" if args.precision == "bf16" else ""
    page = [
        f"# Memory of a training step, {s.tile} -> {s.tile_out} pixels, {args.precision}",
        "",
        f"Depth {s.depth}, base {s.base}, batch {s.batch}, SGD with momentum; PyTorch "
        f"{torch.__version__.partition('+')[0]}, eager, channels_last{half}, with its ReLUs in "
        f"place. Counted, not measured: see `bench/torch_activations.py` for what is left out.",
        "",
        *table(ours, other, weights, 1),
        "",
        f"PyTorch's copies of the weights in 16 bits ({other.copies:.0f} MB) count in the last "
        "line alone, ours in the third as well. Our worst moment, and what lives then:",
        "",
        f"    {ours.activations / 1e6:.1f} MB in {ours.moment}",
        *(
            f"    {p.size / 1e6:6.1f} MB  {'x'.join(map(str, p.shape)):<16}  {p.op}"
            for p in ours.alive
        ),
    ]
    print("\n".join(page))
    if args.write:
        Path(args.write).write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    sys.exit(main())
