"""All layers of a network on a GPU, and the optimizer, beside PyTorch's: rows of the report.

Inputs are used in turns, as many sets as fill COLD bytes, so that none is left in the L2 cache from
the time before. What is timed, and against what it is checked, is in gpu_layers.py. The optimizer
is SGD with momentum over all weights; of PyTorch's, the fused one. % of the floor is, where memory
is the limit, the share of the bandwidth that a large copy would have.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from gpu_layers import CONV, Job, Numbers, error, numbers, ours, theirs
from gpu_sides import Stage, note, ours_is, tried, variant_of, variants, within
from launches import Launch, Notes, made_by
from layers import Case, cases
from model import Card, predicted
from rows import NOT_TIMED, US, Row, of_times
from turns import repeated, take_turns

from unetcu.optim import SGD
from unetcu.precision import FORMS
from unetcu.unet import UNet

COLD = 128_000_000  # bytes: more than twice the L2 cache of any card
LEFT_OUT = ("crop + concat", "drop-out")  # the first is no launch, on tensor cores
ACCURATE = {"tf32x3": "fp32"}  # the peer's precision, where it has not the same


def sets_of(case: Case, precision: str) -> int:
    """How many sets of inputs are needed to fill COLD bytes, at most 8."""
    count = sum(a.size for a in (*case.maps, *case.weights)) + prod(case.output)
    return max(1, min(8, -(-COLD // (count * FORMS[precision].itemsize))))


def wanted(net: UNet, tile: int, precisions: list[str]) -> Iterator[tuple[Case, str]]:
    """Layers and precisions to compare; the loss is in float always."""
    for case in cases(net, tile):
        if case.kind not in LEFT_OUT:
            for precision in precisions if case.kind != "loss" else ["fp32"]:
                yield case, precision


def compared(stage: Stage, net: UNet, tile: int) -> Iterator[Row]:
    """A row for each layer, work, precision and side."""
    for case, precision in wanted(net, tile, stage.precisions):
        try:
            yield from _case(stage, case, precision)
        except Exception as failed:  # one layer's trouble is not all layers'
            note(f"{case.name}, {precision}", failed, stage.notes)
        stage.release()
    try:
        yield from optimizer(stage, net)
    except Exception as failed:
        note("optimizer", failed, stage.notes)


def _case(stage: Stage, case: Case, precision: str) -> Iterator[Row]:
    mine, peer = stage.mine, stage.peer
    given, sets = numbers(case, precision), sets_of(case, precision) if mine.real else 1
    plain = case.kind != CONV or case.first
    own = ours(case, given, mine.where, precision, sets)
    sides: list[tuple[str, str, Any, dict[str, Job]]] = []
    for v in [""] if plain else variants(precision, stage.architecture, tiles=True):
        jobs = {name: Job(within(v, j.work), within(v, j.result)) for name, j in own.items()}
        sides.append((f"{US} {v}".strip(), precision, mine, jobs))
    if peer is not None:
        like = ACCURATE.get(precision, precision)
        peer.multiply_in(like)
        sides.append(("PyTorch", like, peer, theirs(case, given, peer, like, sets)))
    for work in own:
        captured = [side.captured(jobs[work].work) for *_, side, jobs in sides]
        pairs = zip(captured, sides, strict=True)
        timers = [repeated(job, side.wait) for (job, _), (_, _, side, _) in pairs]
        times = take_turns(timers, stage.seconds, 0) / sets
        for (who, form, _, jobs), (_, how), ms in zip(sides, captured, times.T, strict=True):
            launches = planned(case, given, precision, work, variant_of(who))
            about = foretold(launches, stage.card, precision, ours_is(who))
            off = error(case, given, work, jobs[work].result(), relu=ours_is(who))
            stats = of_times(ms)
            yield Row("layers", case.name, work, form, who, how, **stats, error=off, **about)


def planned(
    case: Case, given: Numbers, precision: str, work: str, variant: str = ""
) -> list[Launch]:
    """The launches of one work of ours."""
    with tried(variant):
        return made_by(lambda where: ours(case, given, where, precision, 1)[work].work)


def foretold(
    launches: list[Launch], card: Card | None, precision: str, is_ours: bool = True
) -> dict[str, Any]:
    """flops, floor and prediction of a layer's work by its launches. The floor moves what the
    launch moves that does the most: what is summed up after it is no part of the formula."""
    about: dict[str, Any] = {"flops": sum(launch.flops for launch in launches)}
    if card is not None:
        most = max(launches, key=lambda launch: (launch.flops, launch.bytes))
        about["floor"] = 1000 * card.floor(about["flops"], most.bytes, precision)
        if is_ours and card.known:
            about["predicted"] = 1000 * predicted(launches, card)
    return about


def expected(net: UNet, tile: int, precisions: list[str], card: Card) -> Iterator[Row]:
    """The rows of `compared` without a GPU: predictions, nothing timed."""
    for case, precision in wanted(net, tile, precisions):
        given = numbers(case, precision)
        for work in ours(case, given, Notes(), precision, 1):
            about = foretold(planned(case, given, precision, work), card, precision)
            yield Row("layers", case.name, work, precision, US, "predicted", **NOT_TIMED, **about)


def optimizer(stage: Stage, net: UNet) -> Iterator[Row]:
    """SGD with momentum over as many weights as `net` has."""
    own = UNet(net.depth, net.base, on=stage.mine.where, precision="fp32").parameters
    count, sides = own.flat.size, []

    def step_of(parameters: Any) -> Any:
        for p in parameters.values():
            p.grad = p.slot  # as if a backward had been
        return SGD(parameters, 1e-6).step

    own.device.copy(np.zeros(count, np.float32), own.grads)
    sides.append((US, stage.mine, step_of(own)))
    if stage.peer is not None:
        torch, on = stage.peer.torch, stage.peer.on
        weights = [torch.zeros(p.shape, device=on, requires_grad=True) for p in own.values()]
        for w in weights:
            w.grad = torch.zeros_like(w)
        fused = torch.optim.SGD(weights, lr=1e-6, momentum=0.99, fused=True)
        sides.append(("PyTorch", stage.peer, fused.step))
    captured = [side.captured(step) for _, side, step in sides]
    pairs = zip(captured, sides, strict=True)
    timers = [repeated(job, side.wait) for (job, _), (_, side, _) in pairs]
    times = take_turns(timers, stage.seconds, 0)
    launches = made_by(lambda where: step_of(UNet(net.depth, net.base, on=where).parameters))
    for (who, *_), (_, how), ms in zip(sides, captured, times.T, strict=True):
        about = foretold(launches, stage.card, "fp32", ours_is(who))
        name = f"optimizer, {own.size:,} weights"
        yield Row("layers", name, "step", "fp32", who, how, **of_times(ms), **about)
