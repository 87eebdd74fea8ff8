"""Which kernel files are mutated, what they are compiled into, and the cases that must notice."""

import functools

import numpy as np

from unetcu import kernel
from unetcu.precision import on_tensor_cores
from unetcu.provers.cases import cases, of_form
from unetcu.provers.judge import right
from unetcu.provers.sums import conv3x3_case

CONVOLUTIONS = [
    *((1, 3, 4, 8, 8), (2, 7, 19, 24, 8), (1, 18, 17, 40, 72), (1, 6, 35, 8, 136)),
    (1, 4, 72, 8, 8),  # several tiles
    (1, 3, 20, 72, 8),  # and several chunks of channels
]


def files() -> list[str]:
    """The mutated files: every kernel and shared header but the instructions of ptx.cuh."""
    found = [p for p in kernel.KERNELS.iterdir() if p.suffix in (".cu", ".cuh")]
    return sorted(p.name for p in found if p.name != "ptx.cuh")


def users(file: str) -> list[str]:
    """The units whose text holds this file: of a stem, the first of its formats, and tf32x3."""
    stems = [s for s in kernel.stems() if "/" not in s]
    formats = {s: kernel.formats(s) for s in stems}
    units = [f[k] for f in formats.values() for k in ("fp32", "bf16", "tf32x3") if k in f]
    first = [u for u in units if u.partition(":")[2] != "bf16" or "fp32" not in formats[stem_of(u)]]
    return [u for u in first if f'"kernels/{file}"' in kernel.source(u)]


def stem_of(unit: str) -> str:
    """The file without its ending."""
    return unit.partition(":")[0]


@functools.cache
def proofs(unit: str) -> list:
    """(case, inputs, dy, what is right) of a unit, the cheap ones first."""
    chosen = []
    stem, _, form = unit.partition(":")
    op = stem.replace("_wgmma", "_mma").partition("_mma")[0]
    fitting = [c for c in cases(28) if c.stem == op]
    if op != stem:
        fitting = [of_form(c, form) for c in fitting if c.form == "fp32" and c.kind != "special"]
        fitting = [c for c in fitting if on_tensor_cores(form, *c.shapes[1][2:])]
        more = [conv3x3_case(*s) for s in CONVOLUTIONS if op == "conv3x3"]
        fitting += [of_form(c, form) for c in more]
    for case in fitting:
        if op != stem or case.form == "fp32":
            arrays, dy = case.draw()
            with np.errstate(all="ignore"):
                chosen.append((case, arrays, dy, right(case, arrays, dy)))
    return sorted(chosen, key=lambda c: sum(a.size for a in c[1]))
