"""conv3x3 on tensor cores: every variant in every form, fused with what stands beside it."""

import numpy as np
import pytest
from check import integers
from convs import PLACES, ROWS, agree, asked_for, everywhere, exact, taken
from halves import run_form, same_bits, tensors, within

from unetcu.autograd import no_grad
from unetcu.device import device
from unetcu.kernel import entries
from unetcu.ops import _conv3x3_variants as module
from unetcu.ops._conv3x3_variants import VARIANTS, WGMMA, WGMMA_W, chosen, shares, tile_of
from unetcu.ops._fused import Pair, Pooled
from unetcu.ops.conv3x3 import Conv3x3, conv3x3
from unetcu.ops.crop_concat import crop_concat
from unetcu.ops.maxpool2 import maxpool2
from unetcu.precision import FORMS, floats, stored


@pytest.fixture(params=[1, 3])
def dealt(request, monkeypatch):
    """Channels dealt out to so many shares."""
    monkeypatch.setattr(module, "shares", lambda blocks, chunks: min(request.param, chunks))
    return request.param


@pytest.mark.parametrize(("variant", "on", "form"), [p for v in ROWS for p in everywhere(v)])
def test_every_variant_at_the_edges_of_its_tile(variant, on, form, rng, monkeypatch):
    taken(monkeypatch, variant)
    tile, piece = tile_of(variant, form), 16 // FORMS[form].itemsize
    inner = 2 if variant.what == "backward_x" else 0  # a tile of dx has so many more pixels
    h, w = tile.h - inner, tile.w - inner
    many, few = tile.k + piece, 5 * piece
    if variant.what == "backward_x":
        many, few = few, many
    agree(on, rng, form, 1, h, w, few, many, [True])
    agree(on, rng, form, 3, max(h - 1, 1), w + 1, tile.c + piece, piece, [False])
    agree(on, rng, form, 2, h + 1, max(w - 1, 1), piece, tile.c + piece, [True])


@pytest.mark.parametrize(("on", "form"), PLACES)
def test_shares_of_the_channels_add_up(on, dealt, form, rng):
    piece = 16 // FORMS[form].itemsize
    agree(on, rng, form, 2, 5, 17, 9 * piece, 13 * piece)


@pytest.mark.parametrize(("asked", "on", "form"), asked_for("", WGMMA_W))
def test_slabs_of_several_tiles_add_up(asked, on, form, rng, monkeypatch):
    monkeypatch.setenv("UNETCU_VARIANT", asked)
    monkeypatch.setattr(module, "BLOCKS", 2)
    monkeypatch.setattr(module, "LONGEST", 10**6)
    piece = 16 // FORMS[form].itemsize
    agree(on, rng, form, 3, 11, 33, piece, 2 * piece)


@pytest.mark.parametrize(("on", "form"), PLACES)
@pytest.mark.parametrize("channels", [(40, 8), (72, 136)], ids=str)
def test_any_numbers_within_the_bound(on, form, channels, rng):
    C, K = channels
    shapes = (2, 7, 19, C), (3, 3, C, K), (K,), (2, 5, 17, K)
    x, w, b, dy = (
        a if a.ndim == 1 else floats(stored(a, FORMS[form]))
        for a in (rng.standard_normal(s).astype(np.float32) for s in shapes)
    )
    got = run_form(Conv3x3, on, form, [x, w, b], dy, precision=form)
    wide = [a.astype(np.float64) for a in (x, w, b, dy)]

    def slow(x, w, b, dy):
        y, dx, dw = b + np.zeros_like(dy), np.zeros_like(x), np.zeros_like(w)
        for r, s in np.ndindex(3, 3):
            seen = np.s_[:, r : r + 5, s : s + 17]
            y += x[seen] @ w[r, s]
            dx[seen] += dy @ w[r, s].T
            dw[r, s] = np.einsum("nijc,nijk->ck", x[seen], dy)
        return y, dx, dw, dy.sum((0, 1, 2))

    rights, sizes = slow(*wide), slow(*map(np.abs, wide))
    terms = 9 * C + 1, 9 * K, 170, 170
    for what, a, right, size, n in zip(
        ("y", "dx", "dw", "db"), got, rights, sizes, terms, strict=True
    ):
        within(a, right, size, n, form, what)


@pytest.mark.parametrize(("asked", "on", "form"), asked_for("", WGMMA))
def test_two_sources_are_their_concatenation(on, form, dealt, asked, rng, monkeypatch):
    """Every bit as from the copy that is not made, gradients too, and zeros round the centre."""
    monkeypatch.setenv("UNETCU_VARIANT", asked)
    piece = 16 // FORMS[form].itemsize
    S, C, K = 3 * piece, 2 * piece, 9 * piece
    arrays = integers(rng, 2, 11, 25, S), integers(rng, 2, 7, 19, C), integers(rng, 3, 3, S + C, K)
    b, dy = integers(rng, K), integers(rng, 2, 5, 17, K)
    results = []
    for copy in (True, False):
        skip, x, w, bias = inputs = tensors(on, form, [*arrays, b], range(4))
        both = crop_concat(skip, x, copy=copy)
        assert isinstance(both.data, Pair) is not copy
        y = conv3x3(both, w, bias, relu=True, precision=form)
        value = y.numpy().copy()
        y.backward(device(on).put(stored(dy, FORMS[form])))
        results.append([value, *(np.array(device(on).get(t.grad)) for t in inputs)])
    for a, c in zip(*results, strict=True):
        assert a.tobytes() == c.tobytes()
    assert not results[1][1][:, :2].any()
    assert results[1][1][:, 2:9, 3:22].any()


@pytest.mark.parametrize("K", [8, 72])
@pytest.mark.parametrize(("asked", "on", "form"), asked_for("", WGMMA))
def test_the_pool_of_the_epilogue_is_that_of_maxpool2(on, form, K, asked, rng, monkeypatch):
    """Whole numbers tie often, and a few are NaN."""
    monkeypatch.setenv("UNETCU_VARIANT", asked)
    monkeypatch.setattr(module, "shares", lambda blocks, chunks: 1)
    pools = {8: "_narrow", 72: ""}[K]  # of Hopper's tiles two cannot
    rows = [v for v in VARIANTS if v.stem != WGMMA or v.suffix == pools]
    monkeypatch.setattr(module, "VARIANTS", rows)
    arrays = integers(rng, 2, 20, 36, 8), integers(rng, 3, 3, 8, K), integers(rng, K)
    arrays[0][1, 9, 5, 3] = arrays[0][0, 1, 30, 0] = np.nan
    dy = integers(rng, 2, 9, 17, K)
    results = []
    for pool in (False, True):
        where, inputs = device(on), tensors(on, form, arrays, range(3))
        skip = conv3x3(*inputs, relu=True, precision=form, pool=pool)
        assert isinstance(skip.data, Pooled) is pool
        y = maxpool2(skip)
        y.maker.again()  # by maxpool2's own kernel
        winner = where.get(skip.data.winner if pool else y.maker.winner).copy()
        value = where.get(y.data).copy()
        y.backward(where.put(stored(dy, FORMS[form])))
        results.append([value, winner, *(np.array(where.get(t.grad)) for t in inputs)])
    for a, c in zip(*results, strict=True):
        assert a.tobytes() == c.tobytes()


@pytest.mark.parametrize(("asked", "on", "form"), asked_for("", WGMMA))
def test_a_gate_in_the_epilogue_is_that_of_the_relu(on, form, dealt, asked, rng, monkeypatch):
    """conv, ReLU, conv: the gradient of the middle is gated where it is made, to the same bits."""
    monkeypatch.setenv("UNETCU_VARIANT", asked)
    piece = 16 // FORMS[form].itemsize
    C, K = 2 * piece, 9 * piece
    arrays = [integers(rng, 1, 9, 21, C), integers(rng, 3, 3, C, K), integers(rng, K)]
    arrays += [integers(rng, 3, 3, K, C), integers(rng, C)]
    where, inputs = device(on), tensors(on, form, arrays, range(5))
    where.launches.clear()
    y = conv3x3(*inputs[:3], relu=True, precision=form)
    dy = integers(rng, 1, 5, 17, C)
    conv3x3(y, *inputs[3:], precision=form).backward(where.put(stored(dy, FORMS[form])))
    assert not where.launches["relu_backward"]
    middle = floats(np.array(y.numpy()))
    dm = stored(exact(middle, arrays[3], arrays[4], dy)[1].astype(np.float32), FORMS[form])
    rights = exact(arrays[0], arrays[1], arrays[2], np.where(middle > 0, floats(dm), 0))[1:]
    for t, right in zip(inputs[:3], rights, strict=True):
        if form in ("tf32", "tf32x3"):  # there dm has more bits than the form multiplies exactly
            continue
        got = np.array(where.get(t.grad))
        if abs(right).max() < 2**24:
            same_bits(got, right, t.name)


def test_odd_channels_go_to_the_general_kernels_on_simt(rng):
    """In 16 bits too; and without a gradient nothing is kept."""
    where = device("simt")
    for form, C, K in (("bf16", 1, 8), ("fp16", 8, 12), ("bf16", 3, 5)):
        assert chosen("forward", C, K, form).unit == f"conv3x3:{form}"
        agree("simt", rng, form, 1, 4, 6, C, K)
    where.launches.clear()
    with no_grad():
        conv3x3(
            *tensors(
                "simt",
                "bf16",
                [integers(rng, 1, 5, 5, 8), integers(rng, 3, 3, 8, 8), integers(rng, 8)],
                (),
            ),
            precision="bf16",
        )
    assert set(where.launches) == {"conv3x3_mma_forward_narrow"}


def test_variants_have_entry_points_and_shares_fill_a_gpu():
    known = {e for stem in {v.stem for v in ROWS} for e in entries(f"{stem}:bf16")}
    taken = {tile_of(v, "bf16").entry for v in ROWS}
    assert known == taken | {"conv3x3_mma_sum_forward", "conv3x3_mma_sum_backward_x"}
    assert [shares(n, 32) for n in (1, 16, 33, 66, 132, 1000)] == [8, 8, 4, 2, 1, 1]
    assert shares(1, 3) == 1
