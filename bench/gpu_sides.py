"""The two sides of a comparison on a GPU: where they run, how one waits for them, CUDA graphs.

Launches of a U-Net's layers take less time than Python needs to ask for them. So what is timed is,
on both sides, a CUDA graph, which is launched as a whole; where one cannot be made, the work is
timed as it is and called eager. On "simt" (and PyTorch's CPU beside it) nothing is fast or
captured: it is there so that all of this can be tried without a GPU.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from model import Card
from rows import US
from turns import repeated, take_turns

from unetcu.device import Gpu, device
from unetcu.kernel import formats, needs
from unetcu.ops._conv3x3_variants import QUICKEST, STUDY, VARIANTS

Work = Callable[[], object]
GRAPH, EAGER = "graph", "eager"


def note(what: str, error: Exception, notes: list[str]) -> None:
    """Say on stderr, and keep for the report, what failed; the run goes on."""
    text = " ".join(str(error).split())[:300]
    notes.append(f"{what}: {type(error).__name__}: {text}")
    print(notes[-1], file=sys.stderr, flush=True)


class Ours:
    """unetcu on a device of kind "gpu"."""

    def __init__(self, name: str, notes: list[str]) -> None:
        where = device(name)
        assert isinstance(where, Gpu), f"{name} is no device of kernels"
        self.where, self.notes, self.wait = where, notes, where.synchronize
        self.real = name.startswith("cuda")

    def captured(self, work: Work) -> tuple[Work, str]:
        """(what does the work, GRAPH or EAGER). All that `work` uses must be on the device."""
        if not self.real:
            return work, EAGER
        import cupy

        # Memory of its own: what the graph writes to is given to nobody else, though by CuPy's
        # count it is free again after the capture.
        stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
        self.wait()  # until what `work` reads is there: that stream does not wait for others
        try:
            with stream, cupy.cuda.using_allocator(pool.malloc):
                for _ in range(2):  # kernels are compiled, and the pool gets its memory
                    work()
                stream.synchronize()
                stream.begin_capture()
                try:
                    kept = work()
                finally:
                    graph = stream.end_capture()
        except Exception as error:  # CuPy's and the driver's own, of many kinds
            note("our CUDA graph", error, self.notes)
            return work, EAGER

        def replay() -> object:
            graph.launch(stream)
            return kept, pool

        return replay, GRAPH

    def release(self) -> None:
        """Give memory that is not used any more back to the GPU: PyTorch has a pool of its own."""
        gc.collect()
        if self.real:
            import cupy

            cupy.get_default_memory_pool().free_all_blocks()

    def copy_rate(self, size: int) -> float | None:
        """byte/s of a copy on the device, read and written: what bandwidth there is."""
        if not self.real:
            return None
        a, b = (self.where.empty((size,), "uint8") for _ in range(2))
        seconds = take_turns([repeated(lambda: self.where.copy(a, b), self.wait)], 0.2, 0) / 1000
        return float(2 * size / min(seconds[:, 0]))


class Theirs:
    """PyTorch on the same GPU (or, to be tried, on the CPU)."""

    def __init__(self, real: bool, notes: list[str]) -> None:
        import torch

        self.torch, self.real, self.notes = torch, real, notes
        self.on = "cuda" if real else "cpu"
        self.wait: Work = torch.cuda.synchronize if real else int
        self._stream = torch.cuda.Stream() if real else None
        torch.backends.cudnn.benchmark = True

    def beside(self) -> AbstractContextManager[Any]:
        """In here, work is given to the stream that is captured: autograd runs the backward of an
        op on the stream of its forward."""
        return self.torch.cuda.stream(self._stream) if self.real else nullcontext()

    def multiply_in(self, precision: str) -> None:
        """Floats from now on: with TF32 or, if `precision` is another, without."""
        allowed = precision == "tf32"
        self.torch.backends.cuda.matmul.allow_tf32 = allowed
        self.torch.backends.cudnn.allow_tf32 = allowed

    def captured(self, work: Work) -> tuple[Work, str]:
        """As Ours.captured."""
        if not self.real:
            return work, EAGER
        torch = self.torch
        self.wait()
        try:
            with self.beside():
                for _ in range(3):
                    work()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                kept = work()
        except Exception as error:
            note("PyTorch's CUDA graph", error, self.notes)
            return work, EAGER

        def replay() -> object:
            graph.replay()
            return kept

        return replay, GRAPH

    def release(self) -> None:
        """As Ours.release; compiled code goes, too."""
        gc.collect()
        if self.real:
            self.torch.compiler.reset()
            self.torch.cuda.empty_cache()

    def multiply_rate(self, n: int = 8192) -> float | None:
        """FLOP/s of a large bf16 matrix product, by cuBLAS: what this card reaches."""
        if not self.real:
            return None
        torch = self.torch
        a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        seconds = take_turns([repeated(lambda: a @ b, self.wait)], 0.2, 0) / 1000
        return float(2 * n**3 / min(seconds[:, 0]))


@dataclass
class Stage:
    """All that a comparison needs. architecture: 90 and the like, None on simt; seconds: of turns,
    for each of them; notes: what failed, and is said in the report."""

    mine: Ours
    peer: Theirs | None
    card: Card | None
    architecture: int | None
    precisions: list[str]
    seconds: float
    compiles: bool = False
    notes: list[str] = field(default_factory=list)

    def release(self) -> None:
        """After each group of contenders, before the next is made."""
        self.mine.release()
        if self.peer is not None:
            self.peer.release()


def peer(ours: Ours, notes: list[str]) -> Theirs | None:
    """PyTorch, if it is installed and sees the GPU."""
    if not find_spec("torch"):
        notes.append("PyTorch is not installed: our figures alone (pip install torch)")
        return None
    theirs = Theirs(ours.real, notes)
    if ours.real and not theirs.torch.cuda.is_available():
        notes.append("PyTorch sees no GPU (a build for CPUs?): our figures alone")
        return None
    return theirs


def ours_is(who: str) -> bool:
    """Whether a row is of unetcu."""
    return who.startswith(US)


def variant_of(who: str) -> str:
    """The variant in the name of a contender of ours, or ""."""
    return who.removeprefix(US).strip() if ours_is(who) else ""


def variants(form: str, architecture: int | None, tiles: bool = False) -> list[str]:
    """What UNETCU_VARIANT is set to: nothing, and the kernels that are taken only if asked for;
    tiles: and each of those that make the same bits."""
    fitting = [s for s in sorted(STUDY) if form in formats(s)]
    fitting = [s for s in fitting if needs(f"{s}:{form}")[0] == architecture]
    each = dict.fromkeys(v.name for v in VARIANTS if tiles and v.stem in QUICKEST & {*fitting})
    return ["", ",".join(fitting), *each] if fitting else [""]


@contextmanager
def tried(variant: str) -> Iterator[None]:
    """Inside, the convolution is that variant's."""
    before = os.environ.get("UNETCU_VARIANT")
    if variant:
        os.environ["UNETCU_VARIANT"] = variant
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("UNETCU_VARIANT", None)
        else:
            os.environ["UNETCU_VARIANT"] = before


def within(variant: str, work: Work) -> Work:
    """The work, with that variant."""

    def done() -> object:
        with tried(variant):
            return work()

    return done
