"""upconv2 on tensor cores: in every form, at the edges of its tiles, gated."""

import numpy as np
import pytest
from check import integers
from gpus import CUDA
from halves import MMA, run_form, same_bits, tensors, within

from unetcu.device import device
from unetcu.kernel import constants, entries
from unetcu.ops import upconv2 as module
from unetcu.ops.conv3x3 import conv3x3
from unetcu.ops.upconv2 import UpConv2, upconv2
from unetcu.precision import FORMS, floats, stored

PLACES = [
    *(("simt:guard", form) for form in MMA),
    *(("simt:reverse,guard-before", form) for form in ("bf16", "tf32x3")),
    ("simt:shuffled", "fp16"),
    *(pytest.param("cuda", form, marks=CUDA.marks) for form in MMA),
]
pytestmark = pytest.mark.parametrize(("on", "form"), PLACES)


def products(x, w, b, dy):
    """y, dx, dw, db, place by place."""
    y, dx, dw = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(w)
    for a, e in np.ndindex(2, 2):
        here = np.s_[:, a::2, e::2]
        y[here] = x @ w[a, e] + b
        dx += dy[here] @ w[a, e].T
        dw[a, e] = np.einsum("nijc,nijk->ck", x, dy[here])
    return y, dx, dw, dy.sum((0, 1, 2))


def agree(on, rng, form, N, H, W, C, K):
    x, w, b = integers(rng, N, H, W, C), integers(rng, 2, 2, C, K), integers(rng, K)
    dy = integers(rng, N, 2 * H, 2 * W, K)
    got = run_form(UpConv2, on, form, [x, w, b], dy, precision=form)
    rights = products(*(a.astype(np.int64) for a in (x, w, b, dy)))
    for what, a, right in zip(("y", "dx", "dw", "db"), got, rights, strict=True):
        same_bits(a, right, what)


def test_whole_numbers_agree_to_the_last_bit(on, form, rng):
    size, piece = constants(f"upconv2_mma:{form}"), 16 // FORMS[form].itemsize
    tile, w_tile = size["TILE"], size["W_TILE"]
    for N, H, W, C, K in [
        (1, 1, 1, piece, piece),
        (1, 8, tile // 8, tile, tile // 4),
        (2, 5, 13, w_tile + piece, tile // 4 + piece),
        (3, 7, 3, 2 * piece, 3 * piece),
        (1, 1, tile + 1, tile + piece, piece),
    ]:
        agree(on, rng, form, N, H, W, C, K)


def test_slabs_of_several_steps_add_up(on, form, rng, monkeypatch):
    monkeypatch.setattr(module, "BLOCKS", 3)
    piece = 16 // FORMS[form].itemsize
    agree(on, rng, form, 2, 17, 19, piece, 2 * piece)
    monkeypatch.setattr(module, "LONGEST", 100)
    agree(on, rng, form, 2, 17, 5, piece, 2 * piece)


def test_any_numbers_within_the_bound(on, form, rng):
    N, H, W, C, K = 2, 6, 11, 72, 24
    shapes = (N, H, W, C), (2, 2, C, K), (K,), (N, 2 * H, 2 * W, K)
    x, w, b, dy = (
        a if a.ndim == 1 else floats(stored(a, FORMS[form]))
        for a in (rng.standard_normal(s).astype(np.float32) for s in shapes)
    )
    got = run_form(UpConv2, on, form, [x, w, b], dy, precision=form)
    wide = [a.astype(np.float64) for a in (x, w, b, dy)]
    rights, sizes = products(*wide), products(*map(np.abs, wide))
    terms, pixels = (C + 1, 4 * K), N * H * W
    for what, a, right, size, n in zip(
        ("y", "dx", "dw", "db"), got, rights, sizes, (*terms, pixels, 4 * pixels), strict=True
    ):
        within(a, right, size, n, form, what)


def test_its_gradient_is_gated_where_a_relu_made_its_input(on, form, rng):
    piece = 16 // FORMS[form].itemsize
    C, K = 3 * piece, 2 * piece
    arrays = [integers(rng, 1, 6, 9, piece), integers(rng, 3, 3, piece, C), integers(rng, C)]
    arrays += [integers(rng, 2, 2, C, K), integers(rng, K)]
    where, inputs = device(on), tensors(on, form, arrays, range(5))
    where.launches.clear()
    middle = conv3x3(*inputs[:3], relu=True, precision=form)
    dy = integers(rng, 1, 8, 14, K)
    upconv2(middle, *inputs[3:], precision=form).backward(where.put(stored(dy, FORMS[form])))
    assert not where.launches["relu_backward"]
    assert set(where.launches) & set(entries(f"upconv2_mma:{form}"))
    open_ = floats(np.array(middle.numpy())) > 0
    dm = products(*(a.astype(np.int64) for a in (open_, *arrays[3:], dy)))[1]
    db = floats(stored((dm * open_).astype(np.float32), FORMS[form])).sum((0, 1, 2))
    same_bits(np.array(where.get(inputs[2].grad)), db, "db")
