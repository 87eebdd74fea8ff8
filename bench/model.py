"""How fast could it be, and how fast will it be? Floors and predicted times of launches.

A floor is what no kernel is expected to beat on this card: FLOPs by the rate of the fastest
instructions for the format, or bytes by the bandwidth, whichever takes longer. Rates are such as
have been reached, not those of a data sheet: REACHED and STREAMED of them.

A prediction is of one launch as it is (launches.py):

    blocks are dealt out evenly, so the fullest multiprocessor has ceil(blocks / multiprocessors)
    a block takes the longer of   its FLOPs / (rate of its instructions / multiprocessors)
                                  its bytes from L2 / what L2 gives one multiprocessor
    a launch takes the longest of that and   its bytes / bandwidth
    and START, before and after, in which nothing is multiplied

and of a piece of work the sum of its launches, as in a CUDA graph. It is simple, has been fitted to
nothing and knows no registers, latencies or bank conflicts: it says which limit to look at, and a
measurement far above it that something is wrong. Its constants:
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from launches import Launch

# Of the sheet's matrix rate, by the best of cuBLAS: 790 of 989 TFLOP/s, published for H100 and
# H200; A100s keep their clock better.
REACHED = {80: 0.88, 90: 0.8}
STREAMED = 0.9  # of the sheet's bandwidth, by a large copy
# Of the sheet's rate by our inner loops at best. mma.sync reaches 63 % of Hopper's matrix rate by
# published measurements, nearly all of Ampere's; LOOP of that for barriers and addresses.
LOOP = 0.85
MMA_SYNC = {80: 0.95, 90: 0.63}
FFMA = 0.75
L2_A_CLOCK = 34  # bytes that L2 gives one multiprocessor a clock
START = 2.5e-6  # seconds: gap between launches, filling and draining of the pipelines
# What tensor cores do in each format, of their rate with 16-bit numbers. tf32x3: three products.
SHARE = {"bf16": 1.0, "fp16": 1.0, "tf32": 0.5, "tf32x3": 0.5 / 3}


class Card(NamedTuple):
    """A GPU by its data sheet: rates are dense ones, in FLOP/s, byte/s and Hz (boost)."""

    name: str
    architecture: int  # 80, 90, ...
    multiprocessors: int
    clock: float
    half: float  # 16 bits on tensor cores, added up in float
    single: float  # plain float
    memory: float
    sheet: str  # where this is from

    @property
    def known(self) -> bool:
        """Whether there are rates of multiplications, and so predictions."""
        return self.multiprocessors > 0

    def rate(self, engine: str, form: str) -> float:
        """FLOP/s of an instruction in a loop: ffma, mma or wgmma."""
        if engine == "ffma" or form == "fp32":
            return FFMA * self.single
        best = (
            REACHED.get(self.architecture, 0.8)
            if engine == "wgmma"
            else MMA_SYNC.get(self.architecture, 0.95)
        )
        return LOOP * best * SHARE[form] * self.half

    def floor(self, flops: float, bytes_: float, form: str) -> float:
        """Seconds."""
        reached = REACHED.get(self.architecture, 0.8)
        best = self.single if form == "fp32" else reached * SHARE[form] * self.half
        return max(flops / best, bytes_ / (STREAMED * self.memory))


CARDS = (
    Card("H200", 90, 132, 1.83e9, 989e12, 67e12, 4.8e12, "NVIDIA H200 data sheet, SXM"),
    Card("H100 PCIe", 90, 114, 1.755e9, 756e12, 51e12, 2.0e12, "NVIDIA H100 data sheet, PCIe"),
    Card("H100", 90, 132, 1.83e9, 989e12, 67e12, 3.35e12, "NVIDIA H100 data sheet, SXM"),
    Card("A100 80GB", 80, 108, 1.41e9, 312e12, 19.5e12, 2.039e12, "NVIDIA A100 data sheet, 80 GB"),
    Card("A100", 80, 108, 1.41e9, 312e12, 19.5e12, 1.555e12, "NVIDIA A100 data sheet, 40 GB"),
)  # fmt: skip


def card(name: str) -> Card | None:
    """The card that the driver calls so, such as "NVIDIA H100 80GB HBM3", or None."""
    words = set(re.findall(r"\w+", name))
    return next((c for c in CARDS if set(c.name.split()) <= words), None)


def only_copies(bandwidth: float) -> Card:
    """A card of which nothing is known but the bandwidth that was measured (byte/s)."""
    most = float("inf")
    return Card("unknown", 0, 0, 0.0, most, most, bandwidth / STREAMED, "a copy, measured here")


def seconds(launch: Launch, on: Card) -> float:
    """The predicted time of one launch."""
    fullest = -(-launch.blocks // on.multiprocessors)
    a_block = max(
        launch.block_flops * on.multiprocessors / on.rate(launch.engine, launch.form),
        launch.block_bytes / (L2_A_CLOCK * on.clock),
    )
    return START + max(fullest * a_block, launch.bytes / (STREAMED * on.memory))


def predicted(launches: Iterable[Launch], on: Card) -> float:
    """The predicted time of launches, one after the other."""
    return sum(seconds(launch, on) for launch in launches)


def cudnn(made: tuple[int, ...], channels: int, on: Card, form: str) -> float:
    """What the model says of cuDNN's 3x3 convolution with `made` = (N,P,Q,K): a matrix product of
    tiles that load nine taps apart, with the card's best instruction, in the best of a few sizes.
    fp32 (TF32 off): plain arithmetic, or Winograd's, which needs 16 / 36 of it."""
    N, P, Q, K = made
    flops, width = 18 * N * P * Q * channels * K, 2 if form in ("bf16", "fp16") else 4
    memory = width * (N * (P * Q * K + (P + 2) * (Q + 2) * channels) + 9 * channels * K)
    engine = "wgmma" if on.architecture == 90 else "mma"
    if form == "fp32":
        return START + max(flops * 16 / 36 / on.rate("ffma", form), memory / on.memory / STREAMED)
    found = []
    for rows, columns in ((128, 64), (128, 128), (256, 128)):
        for parts in (1, 2, 4):
            blocks = -(-N * P * Q // rows) * -(-K // columns) * parts
            a_block = 18 * rows * columns * channels / parts
            taken = 9 * (rows + columns) * channels * width / parts
            sums = 8 * N * P * Q * K * parts if parts > 1 else 0
            launch = Launch(f"{engine}:{form}", "", blocks, flops, memory, a_block, taken)
            found.append(seconds(launch, on) + sums / (STREAMED * on.memory))
    return min(found)
