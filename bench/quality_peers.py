"""Who is compared: unetcu, the same network in PyTorch, and a U-Net as users would find it.

Each is a function (prepared, minutes) -> (steps made, foreground probability of an image), which
trains for so many minutes, network and data preparation not counted. All see the same training
images; the first two also the same tiles, weight maps, loss, optimizer, rate and average.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch_net import torch_net, weighted_loss

from unetcu.device import device
from unetcu.infer import whole
from unetcu.training.prepare import Prepared, network, seconds_a_step
from unetcu.training.samples import Tiles
from unetcu.training.trainer import Trainer, rate
from unetcu.training.validation import inference_tile
from unetcu.unet import UNet

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
WARM_UP = 3  # steps, not counted, before a step's time is taken
TIMED = 12


def unetcu(prepared: Prepared, minutes: float) -> tuple[int, Predict]:
    """Our own training."""
    net = network(prepared, device("cpu"), None)
    steps = max(1, int(60 * minutes / seconds_a_step(net, prepared)))
    trainer = Trainer(net, prepared.settings, steps)
    for batch in Tiles(prepared.training, prepared.settings).batches(0, steps):
        trainer.step(batch)
    net.parameters.load(trainer.averaged())
    return steps, _predict(net)


def pytorch(prepared: Prepared, minutes: float) -> tuple[int, Predict]:
    """The same network and recipe in PyTorch, in its faster memory layout, eager."""
    s = prepared.settings
    net = network(prepared, device("cpu"), None)
    peer = torch_net(net).to(memory_format=torch.channels_last)
    peer.train()
    weights = list(peer.parameters())
    make = torch.optim.AdamW if s.optimizer == "adamw" else torch.optim.SGD
    rest = {"weight_decay": 0.0} if s.optimizer == "adamw" else {"momentum": s.momentum}
    optimizer = make(weights, lr=s.lr, **rest)
    average = [p.detach().clone() for p in weights]

    def step(batch, number, total):
        for group in optimizer.param_groups:
            group["lr"] = rate(s, number, total)
        x = torch.from_numpy(np.ascontiguousarray(batch.x.transpose(0, 3, 1, 2)))
        optimizer.zero_grad()
        t, w = torch.from_numpy(batch.t).long(), torch.from_numpy(batch.w)
        weighted_loss(peer(x.to(memory_format=torch.channels_last)), t, w).backward()
        optimizer.step()
        share = 1 - min(s.average, (number + 1) / (number + 11))
        torch._foreach_lerp_(average, [p.detach() for p in weights], share)

    tiles = Tiles(prepared.training, s)
    steps = _steps(lambda first, n: [step(b, 0, 1) for b in tiles.batches(first, first + n)],
                   minutes)  # fmt: skip
    fresh = torch_net(net)
    for p, a, start in zip(weights, average, fresh.parameters(), strict=True):
        p.data.copy_(start.data)
        a.copy_(start.data)
    optimizer.state.clear()
    for number, batch in enumerate(tiles.batches(0, steps)):
        step(batch, number, steps)
    named = dict(zip((name for name, _ in peer.named_parameters()), average, strict=True))
    net.parameters.load({n: _ours(named, n, p.shape) for n, p in net.parameters.items()})
    return steps, _predict(net)


def _ours(named: dict[str, torch.Tensor], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter of the PyTorch network in our layout."""
    layer, part = name.rsplit(".", 1)
    key = f"layers.{layer.replace('.', '_')}.{'weight' if part == 'w' else 'bias'}"
    value = named[key].numpy()
    if part == "w":
        up = layer.endswith("upconv")
        value = value.transpose((2, 3, 0, 1) if up else (2, 3, 1, 0)).reshape(shape)
    return np.ascontiguousarray(value, np.float32)


def _predict(net: UNet) -> Predict:
    return lambda x: 1 - whole(net, x, inference_tile(net.depth, max(x.shape[:2])))[..., 0]


def _steps(some: Callable[[int, int], object], minutes: float) -> int:
    """How many steps fit, by the time of a few."""
    some(0, WARM_UP)
    start = time.perf_counter()
    some(WARM_UP, TIMED)
    return max(1, int(60 * minutes * TIMED / (time.perf_counter() - start)))


class _Padded(torch.nn.Module):
    """The variant that most repositories hold: padded convolutions, batch norm, 64 channels."""

    def __init__(self, channels: int, classes: int, base: int = 64, depth: int = 4) -> None:
        super().__init__()
        nn = torch.nn

        def double(c: int, k: int) -> torch.nn.Sequential:
            layers: list[torch.nn.Module] = []
            for width in (c, k):
                conv = nn.Conv2d(width, k, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(k), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        widths = [base << i for i in range(depth + 1)]
        self.down = nn.ModuleList(map(double, [channels, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(k, k // 2, 2, 2) for k in widths[:0:-1])
        self.join = nn.ModuleList(double(k, k // 2) for k in widths[:0:-1])
        self.head = nn.Conv2d(base, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N,C,H,W), sides multiples of 16."""
        skips = []
        for i, block in enumerate(self.down):
            x = block(torch.max_pool2d(x, 2) if i else x)
            skips.append(x)
        x = skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


def as_found(prepared: Prepared, minutes: float) -> tuple[int, Predict]:
    """Whole images at half size, no augmentation, RMSprop with rate 1e-5, cross entropy + Dice."""
    torch.manual_seed(prepared.settings.seed)
    examples, classes = prepared.training, prepared.dataset.classes
    net = _Padded(examples[0].x.shape[2], classes).to(memory_format=torch.channels_last)
    rmsprop = torch.optim.RMSprop(net.parameters(), 1e-5, weight_decay=1e-8, momentum=0.999)
    order = np.random.default_rng(prepared.settings.seed)

    def half(x: NDArray[np.float32]) -> torch.Tensor:
        """Half the size, padded to multiples of 16."""
        image = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None]
        image = torch.nn.functional.interpolate(image, scale_factor=0.5, mode="bicubic")
        high, wide = image.shape[2:]
        return torch.nn.functional.pad(image, (0, -wide % 16, 0, -high % 16), mode="reflect")

    inputs = [half(e.x) for e in examples]

    def step(count: int) -> None:
        net.train()
        for _ in range(count):
            i = int(order.integers(len(examples)))
            t = torch.from_numpy(np.ascontiguousarray(examples[i].t[::2, ::2])).long()[None]
            z = net(inputs[i])[:, :, : t.shape[1], : t.shape[2]]
            loss = torch.nn.functional.cross_entropy(z, t, ignore_index=-1)
            p, true = torch.softmax(z, 1)[:, 1:], (t > 0).float()[:, None]
            loss = loss + 1 - (2 * (p * true).sum() + 1e-6) / (p.sum() + true.sum() + 1e-6)
            rmsprop.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            rmsprop.step()

    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 60 * minutes:
        step(1)
        steps += 1

    def predict(x: NDArray[np.float32]) -> NDArray[np.float32]:
        net.eval()
        with torch.inference_mode():
            high, wide = x.shape[:2]
            z = net(half(x))[:, :, : (high + 1) // 2, : (wide + 1) // 2]
            z = torch.nn.functional.interpolate(z, size=(high, wide), mode="bilinear")
            return (1 - torch.softmax(z, 1)[0, 0]).numpy()

    return steps, predict


PEERS = {"unetcu": unetcu, "PyTorch, same recipe": pytorch, "PyTorch, as found": as_found}
