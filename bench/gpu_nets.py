"""Whole networks on a GPU, ours and PyTorch's: inference of a tile, and a training step.

Both sides have the same weights, and their input on the GPU; nothing is read back. A training step
is forward with drop-out, weighted softmax loss, backward, SGD with momentum. Ours run in each
precision, as a CUDA graph and launch by launch (eager). PyTorch's in channels_last with
cudnn.benchmark: eager, as a CUDA graph, and through torch.compile(mode="max-autotune"); in floats
without TF32, with TF32, and under autocast to bf16. Only networks of like precision are in memory
and take turns together.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gpu_sides import EAGER, Stage, Theirs, Work, note, ours_is, variant_of, variants, within
from launches import made_by
from model import Card, predicted
from rows import NOT_TIMED, US, Row, of_times
from turns import repeated, take_turns

from unetcu.autograd import Tensor, no_grad
from unetcu.optim import SGD, Scaling
from unetcu.tiles import output_size
from unetcu.unet import UNet

RATE = 1e-6  # the labels are random: the weights must not run away
# Peer's precision -> ours that take turns with it.
GROUPS = {"fp32": ("fp32", "tf32x3"), "tf32": ("tf32",), "bf16": ("bf16", "fp16")}


class Case(NamedTuple):
    """A work of a network: N images of tile x tile."""

    work: str  # "forward" or "training step"
    tile: int
    N: int
    depth: int = 4
    base: int = 64

    @property
    def name(self) -> str:
        """As tables have it."""
        out = output_size(self.tile, self.depth)
        return f"{self.base},{self.depth}: {self.tile} -> {out}, batch {self.N}"


PAPER = [
    Case("forward", 572, 1),
    Case("forward", 700, 1),
    Case("training step", 572, 1),
    Case("training step", 572, 8),
]
QUICK = [Case("forward", 28, 1, 1, 8), Case("training step", 28, 2, 1, 8)]


class Batch(NamedTuple):
    """The same numbers for both sides."""

    x: np.ndarray
    t: np.ndarray
    w: np.ndarray


def batch(case: Case) -> Batch:
    """Made up, always the same."""
    rng, out = np.random.default_rng(0), output_size(case.tile, case.depth)
    x = rng.standard_normal((case.N, case.tile, case.tile, 1), np.float32)
    t = rng.integers(0, 2, (case.N, out, out), np.int32)
    return Batch(x, t, rng.random((case.N, out, out), np.float32))


class Run(NamedTuple):
    """Our work, which gives logits or a loss, its network, and what its gradients are multiplied
    by before they are used (fp16), or None."""

    work: Work
    net: UNet
    factor: Any = None


def ours(case: Case, where: Any, precision: str, drops: bool = True) -> Run:
    """By unetcu. drops: with drop-out."""
    net, given = UNet(case.depth, case.base, on=where, precision=precision), batch(case)
    x = Tensor(given.x, where)

    def infer() -> Any:
        with no_grad():
            return net(x).data

    if case.work == "forward":
        return Run(infer, net)
    t, w = Tensor(given.t, where), Tensor(given.w, where)
    when = Tensor(np.array([0, 1], np.uint32), where) if drops else None
    optimizer = SGD(net.parameters, RATE)
    scaling = Scaling(optimizer) if precision == "fp16" else None
    one = Tensor.wrap(scaling.scale if scaling else where.put(np.ones((), np.float32)), where)

    def step() -> Any:
        loss = net.loss(x, t, w, when, one)
        net.parameters.forget_gradients()
        loss.backward(one)
        if scaling:
            scaling.look()
        optimizer.step()
        return loss.data

    return Run(step, net, optimizer.factor if scaling else None)


def theirs(case: Case, side: Theirs, precision: str, compiled: bool, drops: bool = True) -> Any:
    """PyTorch's work and its network."""
    from torch_net import torch_net, weighted_loss

    torch, given = side.torch, batch(case)
    channels_last = torch.channels_last
    peer = torch_net(UNet(case.depth, case.base)).to(side.on, memory_format=channels_last)
    peer.train(drops)
    run = torch.compile(peer, mode="max-autotune") if compiled else peer
    x = torch.from_numpy(given.x).permute(0, 3, 1, 2).to(side.on)
    x = x.contiguous(memory_format=channels_last)
    t, w = torch.from_numpy(given.t).long().to(side.on), torch.from_numpy(given.w).to(side.on)

    def logits() -> Any:
        with torch.autocast(side.on, torch.bfloat16, enabled=precision == "bf16"):
            return run(x)

    def infer() -> Any:
        with torch.no_grad():
            return logits()

    if case.work == "forward":
        peer.eval()
        return infer, peer
    optimizer = torch.optim.SGD(peer.parameters(), lr=RATE, momentum=0.99, fused=True)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=False)
        loss = weighted_loss(logits().float(), t, w)
        loss.backward()
        optimizer.step()
        return loss

    return step, peer


def expected(case: Case, precision: str, card: Card | None, variant: str = "") -> dict[str, Any]:
    """flops, floor and prediction (ms) of our work. The floor is that of its multiplications."""
    launches = made_by(lambda where: within(variant, ours(case, where, precision).work))
    flops = sum(launch.flops for launch in launches)
    if card is None:
        return {"flops": flops}
    about: dict[str, Any] = {"flops": flops, "floor": 1000 * card.floor(flops, 0, precision)}
    if card.known:
        about["predicted"] = 1000 * predicted(launches, card)
    return about


def foretold(case: Case, precision: str, card: Card) -> Row:
    """A row without a GPU: a prediction."""
    about = expected(case, precision, card)
    return Row("networks", case.name, case.work, precision, US, "predicted", **NOT_TIMED, **about)


def compared(stage: Stage, case: Case) -> Iterator[Row]:
    """Rows of one case; only what is of like precision takes turns and is in memory together."""
    for like, group in GROUPS.items():
        chosen = [p for p in group if p in stage.precisions]
        if not chosen:
            continue
        try:
            yield from _group(stage, case, like, chosen)
        except Exception as failed:  # too little memory, for one
            note(f"{case.name}, {case.work}, {like}", failed, stage.notes)
        stage.release()


Found = list[tuple[str, str, str, Work, Any]]  # who, how, precision, work, side


def _group(stage: Stage, case: Case, like: str, chosen: list[str]) -> Iterator[Row]:
    mine, found = stage.mine, []
    for precision in chosen:
        for v in variants(precision, stage.architecture):
            work = within(v, ours(case, mine.where, precision).work)
            graph, how = mine.captured(work)
            who = f"{US} {v}".strip()
            found.append((who, how, precision, graph, mine))
            if how != EAGER and case.N == 1:  # of a batch, launches are the smaller part
                found.append((who, EAGER, precision, work, mine))
    found += _peers(stage, case, like)
    times = take_turns([repeated(work, side.wait) for *_, work, side in found], stage.seconds, 0)
    for (who, how, precision, *_), ms in zip(found, times.T, strict=True):
        about = expected(case, precision, stage.card, variant_of(who))
        if not ours_is(who):
            about.pop("predicted", None)
        yield Row("networks", case.name, case.work, precision, who, how, **of_times(ms), **about)


def _peers(stage: Stage, case: Case, like: str) -> Found:
    peer, found = stage.peer, []
    if peer is None:
        return []
    peer.multiply_in(like)
    for compiled in (False, True)[: 1 + stage.compiles]:
        try:
            with peer.beside():
                work = theirs(case, peer, like, compiled)[0]
            peer.wait()
            graph, how = (work, "compiled") if compiled else peer.captured(work)
            repeated(graph, peer.wait)  # compiles now, if it can
            found.append(("PyTorch", how, like, graph, peer))
            if how not in (EAGER, "compiled") and case.N == 1:
                found.append(("PyTorch", EAGER, like, work, peer))
        except Exception as failed:
            note(f"PyTorch {like}{', compiled' * compiled}", failed, stage.notes)
    return found
