"""The shapes and values that every kernel is tried on; see judge.py for what is right.

Each op has its edges, written down, and then a number of shapes drawn at random that make several
blocks: H != W, sizes beside multiples of every tile, channels beside powers of two.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from . import moves, sums
from .judge import Case

MAKERS = {
    "conv3x3": sums.of_conv3x3,
    "conv1x1": sums.of_conv1x1,
    "matmul": sums.of_matmul,
    "upconv2": sums.of_upconv2,
    "maxpool2": moves.of_maxpool2,
    "crop_concat": moves.of_crop_concat,
    "relu": moves.of_relu,
    "dropout": moves.of_dropout,
    "softmax_loss": moves.of_softmax_loss,
    "head_loss": moves.of_head_loss,
    "elementwise": moves.of_elementwise,
    "reduce": moves.of_reduce,
    "reshape": moves.of_reshape,
}


# What is compiled for other forms: which results are stored as images are, and the forms.
HALVES = ("bf16", "fp16")
FORMED = {
    "conv3x3": ((0, 1), ("bf16", "tf32x3", "fp16", "tf32")),
    "upconv2": ((0, 1), ("bf16", "tf32x3", "fp16", "tf32")),
    "conv1x1": ((1,), HALVES),
    "head_loss": ((1,), HALVES),
    "maxpool2": ((0, 1), HALVES),
    "crop_concat": ((0, 1, 2), HALVES),
    "relu": ((0, 1), HALVES),
    "dropout": ((0, 1), HALVES),
}
# N, H, W, C, K of convolutions on tensor cores: of many filters; few pixels of many channels, which
# are dealt out to several blocks.
DEEP = (("bf16", (1, 7, 9, 72, 80)), ("tf32x3", (1, 4, 4, 136, 136)))
EVERY = 3  # of an op's cases: so many are tried in another form, too


def cases(count: int = 60) -> Iterator[Case]:
    """Every op's cases, about `count` each, the same at every call."""
    seen = set()  # values are drawn from the name: a name again would be the same case again
    for stem, make in MAKERS.items():
        for i, case in enumerate(make(np.random.default_rng(zlib.crc32(stem.encode())), count)):
            both = [case, _formed(case, i // EVERY)] if i % EVERY == 0 else [case]
            for one in both:
                if one is not None and one.name not in seen:
                    seen.add(one.name)
                    yield one
    for form, sizes in DEEP:
        yield of_form(sums.conv3x3_case(*sizes), form)


def _formed(case: Case, number: int) -> Case | None:
    """The case in another form; None where there is none. Tensor cores spread NaN further."""
    _, forms = FORMED.get(case.stem, ((), ()))
    products = len(forms) > len(HALVES)
    if not forms or (products and case.kind == "special"):
        return None
    return of_form(case, forms[number % len(forms)])


def of_form(case: Case, form: str) -> Case:
    """The case in a form that FORMED has for its op."""
    images, forms = FORMED[case.stem]
    options = {**case.options, **({"precision": form} if len(forms) > len(HALVES) else {})}
    return replace(case, form=form, images=images, options=options)
