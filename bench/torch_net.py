"""The same U-Net, ours and in PyTorch, with the same weights and batch: for torch_peer.py."""

import itertools

import numpy as np

from unetcu.autograd import Tensor, no_grad
from unetcu.infer import softmax
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

WORKS = ("training step", "inference", "inference, fast form")
LAYOUTS = {"NCHW": "contiguous_format", "channels_last": "channels_last"}
RATE = 1e-6  # the labels are random: the weights must not run away


def torch_net(net):
    """The same network with the same weights in PyTorch, as a module."""
    import torch
    from torch import nn

    depth, rate, names = net.depth, net.dropout, net.weight_shapes()  # not net: it takes memory

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            for name, shape in names.items():
                *kernel, c, k = shape
                up = name.endswith("upconv")
                layer = nn.ConvTranspose2d(c, k, 2, 2) if up else nn.Conv2d(c, k, kernel or 1)
                w = net.parameters[name + ".w"].numpy().reshape(*(kernel or (1, 1)), c, k)
                w = w.transpose((2, 3, 0, 1) if up else (3, 2, 0, 1))
                layer.weight.data[...] = torch.tensor(w)
                layer.bias.data[...] = torch.tensor(net.parameters[name + ".b"].numpy())
                self.layers[name.replace(".", "_")] = layer

        def double(self, x, where):
            for conv in ("conv1", "conv2"):
                x = torch.relu(self.layers[f"{where}_{conv}"](x))
            return x

        def forward(self, x):
            skips = []
            for level in range(1, depth + 1):
                x = self.double(x, f"down{level}")
                skips.append(x)
                x = torch.max_pool2d(x, 2)
            x = self.double(x, "bottom")
            x = torch.nn.functional.dropout(x, rate, self.training)
            for level in range(depth, 0, -1):
                x = self.layers[f"up{level}_upconv"](x)
                skip = skips.pop()
                m = (skip.shape[2] - x.shape[2]) // 2
                x = torch.cat([skip[:, :, m : m + x.shape[2], m : m + x.shape[3]], x], 1)
                x = self.double(x, f"up{level}")
            return self.layers["head"](x)

    return Peer()


def made(base, depth, tile):
    """Our network, its settings and a batch."""
    rng = np.random.default_rng(0)
    settings = Settings(depth=depth, base=base, tile=tile, optimizer="sgd", lr=RATE, average=0.0)
    out = settings.tile_out
    batch = Batch(
        rng.standard_normal((1, tile, tile, 1), np.float32),
        rng.integers(0, 2, (1, out, out), np.int32),
        rng.random((1, out, out), np.float32),
    )
    return UNet(depth, base), settings, batch


def ours(net, settings, batch):
    """Our functions, without arguments, for each of WORKS."""
    trainer = Trainer(net, settings, total=1000)

    def fast():
        with no_grad():
            z = net(Tensor(batch.x)).numpy()
        p = np.exp(z - z.max(axis=3, keepdims=True))
        return p / p.sum(axis=3, keepdims=True)

    return lambda: trainer.step(batch), lambda: softmax(net, batch.x[0]), fast


def theirs(net, batch, layout, compiled):
    """PyTorch's functions for each of WORKS; the last two are the same."""
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
        loss = torch.nn.functional.cross_entropy(run(x), t, reduction="none")
        loss = (loss * w).sum() / w.sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer():
        peer.eval()
        with torch.no_grad() if compiled else torch.inference_mode():
            return torch.softmax(run(x), 1)

    return step, infer, infer


def contenders(shape, compiled):
    """name -> functions for WORKS; asserts that all nets give the same probabilities."""
    net, settings, batch = made(*shape)
    found = {"unetcu": ours(net, settings, batch)}
    right = found["unetcu"][1]()
    for eager, layout in itertools.product([True, False] if compiled else [True], LAYOUTS):
        jobs = theirs(net, batch, layout, not eager)
        p = jobs[1]().permute(0, 2, 3, 1).numpy()[0]
        assert np.abs(p - right).max() <= 1e-3, f"{layout}: other probabilities"
        found[layout if eager else f"{layout}, compiled"] = jobs
    return found
