"""What tests of the convolution on tensor cores share: places, variants, and an oracle."""

import numpy as np
import pytest
from check import integers
from gpus import CUDA
from halves import MMA, run_form, same_bits

from unetcu.kernel import formats
from unetcu.ops import _conv3x3_variants as module
from unetcu.ops._conv3x3_variants import FFMA, VARIANTS
from unetcu.ops.conv3x3 import Conv3x3

# The order of threads and the form have nothing to do with each other: not every pair is tried.
PLACES = [
    *(("simt:guard", form) for form in MMA),
    *(("simt:reverse,guard-before", form) for form in ("bf16", "tf32x3")),
    ("simt:shuffled", "fp16"),
    *(pytest.param("cuda", form, marks=CUDA.marks) for form in MMA),
]
ROWS = [v for v in VARIANTS if v.stem != FFMA]


def everywhere(row):
    """(row, on, form) wherever that row has a kernel."""
    found = []
    for place in PLACES:
        on, form = getattr(place, "values", place)
        marks = getattr(place, "marks", ())
        if form in formats(row.stem):
            name = f"{row.stem}{row.suffix}-{row.what}-{on}-{form}"
            found.append(pytest.param(row, on, form, marks=marks, id=name))
    return found


def asked_for(*stems):
    """(UNETCU_VARIANT, on, form) wherever that stem has the form; "": whatever is usual."""
    found = []
    for stem in stems:
        for place in PLACES:
            on, form = getattr(place, "values", place)
            if not stem or form in formats(stem):
                marks = getattr(place, "marks", ())
                found.append(pytest.param(stem, on, form, marks=marks, id=f"{stem}-{on}-{form}"))
    return found


def taken(monkeypatch, row):
    """It is the one that is taken for what it does."""
    others = tuple(v for v in VARIANTS if v.what != row.what or v.stem == FFMA)
    first = row._replace(fits=lambda C, K: True)
    monkeypatch.setattr(module, "VARIANTS", (first, *others))
    monkeypatch.setattr(module, "STUDY", ())


def exact(x, w, b, dy, relu=False):
    """y, dx, dw, db of whole numbers, tap by tap in int64."""
    x, w, b, dy = (a.astype(np.int64) for a in (x, w, b, dy))
    P, Q = dy.shape[1:3]
    y, dx, dw = b + np.zeros_like(dy), np.zeros_like(x), np.zeros_like(w)
    for r, s in np.ndindex(3, 3):
        y += x[:, r : r + P, s : s + Q] @ w[r, s]
    g = dy * (y > 0) if relu else dy
    for r, s in np.ndindex(3, 3):
        seen = np.s_[:, r : r + P, s : s + Q]
        dx[seen] += g @ w[r, s].T
        dw[r, s] = np.einsum("nijc,nijk->ck", x[seen], g)
    return (np.maximum(y, 0) if relu else y), dx, dw, g.sum(axis=(0, 1, 2))


def agree(on, rng, form, N, P, Q, C, K, relus=(False, True)):
    x, w, b = integers(rng, N, P + 2, Q + 2, C), integers(rng, 3, 3, C, K), integers(rng, K)
    dy = integers(rng, N, P, Q, K)
    for relu in relus:
        got = run_form(Conv3x3, on, form, [x, w, b], dy, relu=relu, precision=form)
        for what, a, right in zip(
            ("y", "dx", "dw", "db"), got, exact(x, w, b, dy, relu), strict=True
        ):
            same_bits(a, right, f"{what}, relu={relu}")
