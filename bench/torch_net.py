"""Whole networks: the same U-Net, ours and in PyTorch, with the same weights and batch."""

import itertools
import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from turns import head, line, number, take_turns, timed

from unetcu.infer import softmax
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

WORKS = ("training step", "inference", "inference, exact form")
LAYOUTS = {"NCHW": "contiguous_format", "channels_last": "channels_last"}
RATE = 1e-6  # the labels are random: the weights must not run away


def double(x, conv1, conv2):
    """PyTorch: two convolutions with ReLU. In place, which spares it a map: autograd needs the
    result alone."""
    return conv2(conv1(x).relu_()).relu_()


def crop_cat(skip, x):
    """PyTorch: the centre of the skip map beside x."""
    import torch

    m = (skip.shape[2] - x.shape[2]) // 2
    return torch.cat([skip[:, :, m : m + x.shape[2], m : m + x.shape[3]], x], 1)


def weighted_loss(z, t, w):
    """PyTorch: softmax and weighted cross entropy."""
    import torch

    return (torch.nn.functional.cross_entropy(z, t, reduction="none") * w).sum() / w.sum()


def torch_net(net):
    """The same network with the same weights in PyTorch, as a module; it does not hold `net`."""
    import torch
    from torch import nn

    depth, rate, shapes = net.depth, net.dropout, net.weight_shapes()

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            for name, (*kernel, c, k) in shapes.items():
                up = name.endswith("upconv")
                layer = nn.ConvTranspose2d(c, k, 2, 2) if up else nn.Conv2d(c, k, kernel or 1)
                self.layers[name.replace(".", "_")] = layer

        def double(self, x, where):
            return double(x, *(self.layers[f"{where}_conv{i}"] for i in (1, 2)))

        def forward(self, x):
            skips = []
            for level in range(1, depth + 1):
                x = self.double(x, f"down{level}")
                skips.append(x)
                x = torch.max_pool2d(x, 2)
            x = self.double(x, "bottom")
            x = nn.functional.dropout(x, rate, self.training)
            for level in range(depth, 0, -1):
                x = crop_cat(skips.pop(), self.layers[f"up{level}_upconv"](x))
                x = self.double(x, f"up{level}")
            return self.layers["head"](x)

    peer = Peer()
    for name in shapes:
        layer, up = peer.layers[name.replace(".", "_")], name.endswith("upconv")
        w = torch_weight(net.parameters[name + ".w"].numpy(), up)
        layer.weight.data[...] = torch.tensor(w)
        layer.bias.data[...] = torch.tensor(net.parameters[name + ".b"].numpy())
    return peer


def torch_weight(w, up):
    """Weights (R,S,C,K) or (C,K) in PyTorch's order: (K,C,R,S), of an up-convolution (C,K,R,S)."""
    w = w.reshape(1, 1, *w.shape) if w.ndim == 2 else w
    return w.transpose((2, 3, 0, 1) if up else (3, 2, 0, 1))


def made(base, depth, tile, **settings):
    """Our network, its settings and a batch."""
    rng = np.random.default_rng(0)
    s = Settings(depth=depth, base=base, tile=tile, optimizer="sgd", lr=RATE, **settings)
    batch = Batch(
        rng.standard_normal((1, tile, tile, 1), np.float32),
        rng.integers(0, 2, (1, s.tile_out, s.tile_out), np.int32),
        rng.random((1, s.tile_out, s.tile_out), np.float32),
    )
    return UNet(depth, base), s, batch


def ours(net, settings, batch):
    """Our functions, without arguments, for each of WORKS."""
    trainer, x = Trainer(net, settings, total=1000), batch.x[0]
    return lambda: trainer.step(batch), lambda: softmax(net, x), lambda: softmax(net, x, exact=True)


def theirs(net, batch, layout, compiled=False):
    """PyTorch's functions for a training step and an inference."""
    import torch

    memory = getattr(torch, LAYOUTS[layout])
    peer = torch_net(net).to(memory_format=memory)
    run = torch.compile(peer) if compiled else peer
    x = torch.from_numpy(batch.x).permute(0, 3, 1, 2).contiguous(memory_format=memory)
    t, w = torch.from_numpy(batch.t).long(), torch.from_numpy(batch.w)
    optimizer = torch.optim.SGD(peer.parameters(), lr=RATE, momentum=0.99, fused=True)

    def step():
        peer.train()
        optimizer.zero_grad()
        loss = weighted_loss(run(x), t, w)
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer():
        peer.eval()
        with torch.no_grad() if compiled else torch.inference_mode():
            return torch.softmax(run(x), 1)

    return step, infer


def checked(net, batch, layout, compiled, right):
    """`theirs`, warmed up, which includes compiling; it must give the probabilities `right`."""
    step, infer = theirs(net, batch, layout, compiled)
    off = np.abs(infer().permute(0, 2, 3, 1).numpy()[0] - right).max()
    if not off <= 1e-3:
        raise SystemExit(f"{layout}: other probabilities, by {off}")
    step()
    return step, infer


def contenders(shape, compiled) -> dict[str, tuple[Callable[[], object] | None, ...]]:
    """name -> functions for a training step and an inference; ours has one more, the exact form.

    Where torch.compile fails, they are None. Without PyTorch, ours alone.
    """
    net, settings, batch = made(*shape, average=0.0)
    mine = ours(net, settings, batch)
    if not find_spec("torch"):
        return {"unetcu": mine}
    import torch

    torch.compiler.reset()  # or it would see one function run in too many ways, and give up
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # not in silence
    found, right = {"unetcu": mine}, mine[2]()
    for eager, layout in itertools.product([True, False] if compiled else [True], LAYOUTS):
        if eager:
            found[layout] = checked(net, batch, layout, False, right)
            continue
        name = f"{layout} compiled"
        try:
            found[name] = checked(net, batch, layout, True, right)
        except Exception as e:  # it has many of its own; a missing C++ compiler is one
            print(f"{name}: {type(e).__name__}: {e}", file=sys.stderr)
            found[name] = None, None
    return found


def table_head(compiled):
    """The head of the table that `rows` fills."""
    names = [*LAYOUTS, *(f"{layout} compiled" for layout in LAYOUTS if compiled)]
    start = "base, depth, tile", "threads", "work", "unetcu ms"
    return head(*start, *names, "ratio", "of medians")


def measured(name, compiled, seconds):
    """work -> contender -> milliseconds, by turns; nan where it could not be compiled."""
    found = contenders([int(n) for n in name.split(",")], compiled)
    jobs = [(who, j, job) for who, works in found.items() for j, job in enumerate(works)]
    times = take_turns([job and timed(job) for *_, job in jobs], seconds)
    table = {work: {} for work in WORKS}
    for (who, j, _), ms in zip(jobs, times.T, strict=True):
        table[WORKS[j]][who] = ms
    for who, ms in table["inference"].items():
        table["inference, exact form"].setdefault(who, ms)
    return table


def rows(name, count, compiled, seconds):
    """Rows of the table of times of one network."""
    for work, found in measured(name, compiled, seconds).items():
        own = found.pop("unetcu")
        other = np.array(list(found.values()))
        least, median = other.min(axis=1), np.median(other, axis=1)
        best = np.nanmin(least)
        cells = [number(own.min()), *(number(ms, ms == best) for ms in least)]
        ratios = best / own.min(), np.nanmin(median) / np.median(own)
        yield line(name, str(count), work, *cells, *(f"{r:.2f}" for r in ratios))
