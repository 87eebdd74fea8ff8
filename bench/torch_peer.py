"""Training step and inference side by side with PyTorch on this CPU, in one interleaved run.

    python bench/torch_peer.py [--rounds 5] [--threads 2]

Both sides do the same work: the same network (valid convolutions, cropped concatenation), float32,
batch 1, weighted softmax loss, SGD with momentum. PyTorch runs in each memory layout; the ratio is
that of its better layout: above 1, unetcu is faster. Needs PyTorch (pip install torch).
"""

import argparse
import statistics
import time

import numpy as np

from unetcu import threads
from unetcu.infer import softmax
from unetcu.training.samples import Batch
from unetcu.training.settings import Settings
from unetcu.training.trainer import Trainer
from unetcu.unet import UNet

NETS = [(3, 16, 188), (3, 32, 316), (4, 64, 188)]  # depth, base, tile


def torch_net(net):
    """The same network in PyTorch, as a module with the same number of parameters."""
    import torch
    from torch import nn

    class Peer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            for name, shape in net.weight_shapes().items():
                *kernel, c, k = shape
                key = name.replace(".", "_")
                if name.endswith("upconv"):
                    self.layers[key] = nn.ConvTranspose2d(c, k, 2, stride=2)
                else:
                    self.layers[key] = nn.Conv2d(c, k, tuple(kernel) or 1)

        def double(self, x, where):
            for conv in ("conv1", "conv2"):
                x = torch.relu(self.layers[f"{where}_{conv}"](x))
            return x

        def forward(self, x):
            skips = []
            for level in range(1, net.depth + 1):
                x = self.double(x, f"down{level}")
                skips.append(x)
                x = torch.max_pool2d(x, 2)
            x = self.double(x, "bottom")
            for level in range(net.depth, 0, -1):
                x = self.layers[f"up{level}_upconv"](x)
                skip = skips.pop()
                m = (skip.shape[2] - x.shape[2]) // 2
                x = torch.cat([skip[:, :, m : m + x.shape[2], m : m + x.shape[3]], x], 1)
                x = self.double(x, f"up{level}")
            return self.layers["head"](x)

    return Peer()


def contenders(depth, base, tile):
    """name -> (step, inference), functions without arguments."""
    import torch

    rng = np.random.default_rng(0)
    settings = Settings(depth=depth, base=base, tile=tile, optimizer="sgd", average=0.0)
    net = UNet(depth, base)
    trainer = Trainer(net, settings, total=1000)
    out = settings.tile_out
    batch = Batch(
        rng.standard_normal((1, tile, tile, 1), np.float32),
        rng.integers(0, 2, (1, out, out), np.int32),
        rng.random((1, out, out), np.float32),
    )
    found = {"unetcu": (lambda: trainer.step(batch), lambda: softmax(net, batch.x[0]))}
    for layout in ("contiguous_format", "channels_last"):
        memory = getattr(torch, layout)
        peer = torch_net(net).to(memory_format=memory)
        assert sum(p.numel() for p in peer.parameters()) == net.parameters.size
        x = torch.from_numpy(batch.x).permute(0, 3, 1, 2).contiguous(memory_format=memory)
        t, w = torch.from_numpy(batch.t).long(), torch.from_numpy(batch.w)
        optimizer = torch.optim.SGD(peer.parameters(), lr=1e-3, momentum=0.99)

        def step(peer=peer, x=x, optimizer=optimizer, t=t, w=w):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(peer(x), t, reduction="none")
            ((loss * w).sum() / w.sum()).backward()
            optimizer.step()

        def infer(peer=peer, x=x):
            with torch.inference_mode():
                torch.softmax(peer(x), 1)

        found[f"torch {layout}"] = (step, infer)
    return found


def main():
    """Print the table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=threads.count())
    args = parser.parse_args()
    import torch

    threads.set_count(args.threads)
    torch.set_num_threads(args.threads)
    print(f"PyTorch {torch.__version__}, NumPy {np.__version__}, {args.threads} threads\n")
    print("| depth, base, tile | work | unetcu ms | PyTorch NCHW ms | channels_last ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shape in NETS:
        found = contenders(*shape)
        for i, work in enumerate(("training step", "inference")):
            taken = {name: [] for name in found}
            for r in range(args.rounds + 1):  # interleaved: a slow moment hits all alike
                for name, jobs in found.items():
                    start = time.perf_counter()
                    jobs[i]()
                    if r:
                        taken[name].append(time.perf_counter() - start)
            ms = [1000 * statistics.median(v) for v in taken.values()]
            ratio = min(ms[1:]) / ms[0]
            print(f"| {shape} | {work} | {ms[0]:.0f} | {ms[1]:.0f} | {ms[2]:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
