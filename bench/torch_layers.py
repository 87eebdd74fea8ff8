"""Every layer of a U-Net beside PyTorch's, eager, in its faster memory layout: for torch_peer.py.

What is timed is what happens in a network. A convolution comes with its ReLU, which PyTorch does in
place; the first layer needs no gradient of its input. Ours run through the op classes, with weights
and gradients in the flat arrays of Parameters and maps in the process's region of memory;
PyTorch's through its functions and autograd, with memory from the system's allocator. Forward is
that of inference. Forward + backward is a training step's: forward keeps what backward needs; the
two halves are timed apart, and added. Both sides must give the same output and gradients (drop-out
excepted, whose draws differ).

A network comes back to a layer only after it has been through all others. So before each half, as
many bytes are read as the network has in maps, 64 MB at the most, which drives what the turn before
left there out of the caches (as far as the network would have). Then what the neighbouring layer
would just have made, the input or the gradient of the output, is written anew in its place.

The least times in ms; of PyTorch's those of the faster layout, c: it was channels_last.
"""

from collections.abc import Iterator

import numpy as np
from layers import Case, cases
from torch_net import LAYOUTS
from torch_sides import Side, ours, theirs
from turns import PAUSE, Clock, Job, head, line, number, take_turns

from unetcu import threads
from unetcu.unet import UNet

MOST = 64_000_000  # bytes read between two times
WORKS = ("forward", "forward + backward")


class Spoiler:
    """Reads `size` bytes, by all threads, and so drives other things out of the caches."""

    def __init__(self, size: int) -> None:
        n = threads.count()
        self.parts = [np.ones(min(size, MOST) // 4 // n, np.float32) for _ in range(n)]

    def __call__(self, *fresh: np.ndarray) -> None:
        """... and then writes `fresh` anew, as they are."""
        threads.each(lambda i: self.parts[i].sum(), len(self.parts))
        for array in fresh:
            np.multiply(array, 1, out=array)


def jobs(side: Side, infers: bool, dy: np.ndarray, spoil: Spoiler) -> list[Job | None]:
    """One for each of WORKS."""
    gradient, memory = side.gradient(dy)

    def forward(clock: Clock) -> None:
        spoil(*side.maps)
        with clock:
            y = side.forward()
        del y  # to give memory back is no work of the layer

    def both(clock: Clock) -> None:
        spoil(*side.maps)
        with clock:
            y = side.record()
        spoil(memory)
        with clock:
            gradients = side.backward(y, gradient)
        del y, gradients

    return [forward if infers else None, both]


def agree(case: Case, sides: list[Side], dy: np.ndarray) -> None:
    """Raise AssertionError where outputs or gradients differ by more than rounding does."""
    found = []
    if "ReLU" in case.kind:  # where a sum is 0 but for rounding, one side may let dy through
        dy = dy * (sides[0].record().numpy() > 1e-3)
    for side in sides:
        y = side.record()
        plain = side.plain(y).copy()
        found.append([plain, *map(side.plain, side.backward(y, side.gradient(dy)[0]))])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            off = np.abs(a - b).max()
            assert off <= 1e-3 * np.abs(b).max(), f"{case.name}: {a.shape} differ by {off}"


def measured(case: Case, spoil: Spoiler, seconds: float) -> np.ndarray:
    """The least milliseconds: (contender, work); ours come first."""
    sides = [ours(case), *(theirs(case, layout) for layout in LAYOUTS)]
    dy = np.asarray(np.random.default_rng(1).standard_normal(case.output), np.float32)
    if case.kind != "drop-out":
        agree(case, sides, dy)
    found = [job for side in sides for job in jobs(side, case.infers, dy, spoil)]
    pause = PAUSE if threads.count() > 1 else 0  # with one thread no worker spins
    return take_turns(found, seconds, pause).min(axis=0).reshape(len(sides), len(WORKS))


def table(name: str, seconds: float) -> Iterator[str]:
    """Lines of the table of a network, given as BASE,DEPTH,TILE; `seconds` for all its layers."""
    base, depth, tile = (int(n) for n in name.split(","))
    net = UNet(depth, base)
    todo = list(cases(net, tile))
    spoil = Spoiler(4 * sum(int(np.prod(case.output)) for case in todo))
    yield head(
        "layer", "output", *(f"{w}: {c}" for w in WORKS for c in ("unetcu", "PyTorch", "ratio"))
    )
    sums, least = np.zeros((len(WORKS), 2)), [(np.inf, "")] * len(WORKS)
    for case in todo:
        times = measured(case, spoil, seconds / len(todo))
        cells = []
        for j, (own, *layouts) in enumerate(times.T):
            best = min(layouts)
            ratio = best / own
            mark = " c" if best == layouts[1] else ""
            cells += [number(own), number(best) + mark, number(ratio)]
            sums[j] += np.nan_to_num([own, best])
            least[j] = min(least[j], (ratio, case.name))
        yield line(case.name, " x ".join(map(str, case.output[1:])), *cells)
    cells = (number(x) for own, best in sums for x in (own, best, best / own))
    yield line("all", "", *cells)
    said = (f"{w} {number(r)} ({n})" for w, (r, n) in zip(WORKS, least, strict=True))
    yield f"\nSmallest ratio: {', '.join(said)}."
