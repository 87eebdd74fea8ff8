"""conv3x3's kernels: every variant at the edges of its tiles, slabs, long sums, NaN at edges."""

import numpy as np
import pytest
from check import check_op, integers, run, same

from unetcu.autograd import Tensor
from unetcu.kernel import constants, entries
from unetcu.ops import _conv3x3_variants as module
from unetcu.ops._conv3x3_variants import FFMA, VARIANTS, chosen, slabs
from unetcu.ops.conv3x3 import Conv3x3, conv3x3

pytestmark = pytest.mark.usefixtures("exact_form")
SIZE = constants("conv3x3")
CHANNELS = (1, 2, 3, 8, 9, 15, 16, 17, 33, 64)


ROWS = [v for v in VARIANTS if v.stem == FFMA]  # the others: test_conv3x3_mma.py


@pytest.fixture(params=ROWS, ids=lambda v: v.what + v.suffix)
def variant(request, monkeypatch):
    """Each row of VARIANTS in turn, made the one that is taken; its tile (h, w, c, k)."""
    row = request.param._replace(fits=lambda C, K: True)
    others = tuple(v for v in ROWS if v.what != row.what)
    monkeypatch.setattr(module, "VARIANTS", (row, *others))
    return row.what, chosen(row.what, 1, 1)


@pytest.fixture
def few_slabs(monkeypatch):
    """Several tiles for each slab, which otherwise takes a large map."""
    monkeypatch.setattr(module, "BLOCKS", 2)
    monkeypatch.setattr(module, "LONGEST", 10**6)


def exact(x, w, b, dy, relu=False):
    """y, dx, dw, db of whole numbers, tap by tap in int64."""
    x, w, b, dy = (a.astype(np.int64) for a in (x, w, b, dy))
    P, Q = dy.shape[1:3]
    cuts = {(r, s): np.s_[:, r : r + P, s : s + Q] for r, s in np.ndindex(3, 3)}
    y = b + sum(x[cut] @ w[tap] for tap, cut in cuts.items())
    g = dy * (y > 0) if relu else dy
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for tap, cut in cuts.items():
        dx[cut] += g @ w[tap].T
        dw[tap] = np.einsum("nijc,nijk->ck", x[cut], g)
    return (np.maximum(y, 0) if relu else y), dx, dw, g.sum(axis=(0, 1, 2))


def agree(on, rng, N, P, Q, C, K):
    """Whole numbers agree to the last bit, with ReLU and without."""
    x, w, b = integers(rng, N, P + 2, Q + 2, C), integers(rng, 3, 3, C, K), integers(rng, K)
    dy = integers(rng, N, P, Q, K)
    for relu in (False, True):
        got = run(Conv3x3, on, [x, w, b], dy, [0, 1, 2], relu=relu)
        rights = exact(x, w, b, dy, relu)
        for what, a, right in zip(("y", "dx", "dw", "db"), got, rights, strict=True):
            same(a, right, f"{what}, relu={relu}")


def edge_shapes(what, tile):
    """One less, as many and one more than a tile has of each, never all at once."""
    borders = 2 if what == "backward_x" else 0  # a tile of dx has so many more pixels
    h, w = max(tile.h - borders, 2), tile.w - borders
    c = tile.c or SIZE["THREADS"] // 16
    for n, down, right, more_c, more_k in [
        (1, -1, 1, 0, 0),
        (2, 0, 0, 1, -1),
        (1, 1, -1, -1, 1),
        (3, 0, 1, 1, 0),
        (1, h + 1, w, 0, 1),
    ]:
        channels = [max(1, c + more_c), max(1, tile.k + more_k)]
        if what == "backward_x":  # its filters are the channels of x
            channels.reverse()
        yield n, h + down, w + right, *channels


def test_every_variant_at_the_edges_of_its_tile(on, variant, rng):
    for shape in edge_shapes(*variant):
        agree(on, rng, *shape)


@pytest.mark.parametrize(
    "channels", [(8, 4), (9, 5), (12, 36), (17, 64), (4, 68), (33, 63)], ids=str
)
def test_every_variant_within_the_bound(on, variant, channels, rng):
    C, K = channels
    x, w = rng.standard_normal((2, 7, 19, C)), rng.standard_normal((3, 3, C, K))
    terms = 9 * C + 1, 9 * K, 2 * 5 * 17, 2 * 5 * 17
    check_op(Conv3x3, on, x, w, rng.standard_normal(K), terms=terms)


def test_slabs_of_several_tiles(on, variant, few_slabs, rng):
    what, tile = variant
    if what != "backward_w":
        tile = chosen("backward_w", 3, 7)
    N, P, Q, C, K = 3, tile.h + 3, 2 * tile.w + 1, 3, 7
    assert slabs(chosen("backward_w", C, K), N, P + 2, Q + 2, C, K) == 2
    agree(on, rng, N, P, Q, C, K)


@pytest.mark.parametrize("C", CHANNELS)
def test_all_channels(on, C, rng):
    for i, K in enumerate(CHANNELS):
        agree(on, rng, 1 + i % 3, 3 + i, 12 - i, C, K)


@pytest.mark.parametrize(
    "shape", [(1, 1, 4998, 1, 2), (1, 4998, 1, 3, 2), (1, 1, 152, 17, 33)], ids=str
)
def test_long_and_thin(on, shape, rng):
    agree(on, rng, *shape)


def test_a_nan_of_x_reaches_the_taps_of_dw_that_see_it(on, few_slabs, rng):
    N, P, Q = 2, 9, 17
    for C, K in [(17, 5), (2, 33), (33, 33)]:  # each variant of backward_w
        w, b, dy = integers(rng, 3, 3, C, K), integers(rng, K), integers(rng, N, P, Q, K)
        dy[0, 0, 0, 0] = 0  # a NaN times 0 is NaN, too
        for i, j in [(0, 0), (P + 1, Q + 1), (P + 1, 3), (4, Q + 1), (P, Q), (7, 14), (8, 16)]:
            x = integers(rng, N, P + 2, Q + 2, C)
            x[1, i, j, C - 1] = np.nan
            _y, dx, dw, db = run(Conv3x3, on, [x, w, b], dy, [0, 1, 2])
            seen = np.zeros((3, 3, C, K), bool)
            for r, s in np.ndindex(3, 3):
                seen[r, s, C - 1] = 0 <= i - r < P and 0 <= j - s < Q
            assert np.array_equal(np.isnan(dw), seen)
            assert np.isfinite(dx).all()
            assert np.isfinite(db).all()


def test_a_closed_gate_stops_nan_and_negative_zero_does_not_open_it(on):
    x, w, b = np.zeros((1, 4, 6, 3), "f"), -np.ones((3, 3, 3, 5), "f"), np.full(5, -0.0, "f")
    b[4] = 1  # the only channel that lets through
    dy = np.full((1, 2, 4, 5), np.nan, "f")
    dy[..., 4] = 2
    y, dx, dw, db = run(Conv3x3, on, [x, w, b], dy, [0, 1, 2], relu=True)
    assert np.array_equal(y[0, 0, 0], [0, 0, 0, 0, 1])
    assert dx[0, 0, 0, 0] == -2
    assert dx[0, 1, 2, 1] == -12
    assert not dw.any()
    assert np.array_equal(db, [0, 0, 0, 0, 16])


def test_long_sums_of_one_sign_stay_within_the_bound(on, rng):
    """No sum stays small because its terms cancel: 32000 pixels, 9 * 300 channels."""
    for N, H, W, C, K in [(2, 130, 127, 2, 3), (1, 5, 7, 300, 33)]:
        x, dy = rng.uniform(0, 1, (N, H, W, C)), rng.uniform(0, 1, (N, H - 2, W - 2, K))
        w, b = rng.uniform(0, 1, (3, 3, C, K)), rng.uniform(0, 1, K)
        pixels = dy[..., 0].size
        arrays = [a.astype(np.float32) for a in (x, w, b)]
        got = run(Conv3x3, on, arrays, dy.astype(np.float32), [0, 1, 2])
        wide = [a.astype(np.float64) for a in arrays]
        right = run(Conv3x3, "cpu", wide, dy.astype(np.float32).astype(np.float64), [0, 1, 2])
        for a, S, terms in zip(got, right, (9 * C + 1, 9 * K, pixels, pixels), strict=True):
            assert (np.abs(a - S) <= (2 * np.sqrt(terms) + 4) * 2.0**-24 * S).all()


def test_only_the_gradients_that_are_wanted(on, rng):
    x, w, b = integers(rng, 1, 7, 6, 3), integers(rng, 3, 3, 3, 4), integers(rng, 4)
    dy = integers(rng, 1, 5, 4, 4)
    right = exact(x, w, b, dy)
    for needs in ([0], [1], [2], [0, 2]):
        for got, i in zip(run(Conv3x3, on, [x, w, b], dy, needs)[1:], needs, strict=True):
            same(got, right[i + 1])
    inputs = [Tensor(a, on, needs_grad=i == 1) for i, a in enumerate((x, w, b))]
    y = conv3x3(*inputs)
    if y.device.kind == "gpu":
        y.device.launches.clear()
        y.backward(dy)
        assert not any("backward_x" in name for name in y.device.launches)


def test_variants_have_entry_points_and_each_is_taken_for_some_channels():
    taken = {chosen(v.what, C, K).entry for v in ROWS for C in CHANNELS for K in CHANNELS}
    assert taken == {f"conv3x3_{v.what}{v.suffix}" for v in ROWS}
    assert taken | {"conv3x3_sum_slabs"} == set(entries("conv3x3"))


# H, C, K of the paper's network for 572 x 572.
PAPER = [(572, 1, 64), (570, 64, 64), (282, 128, 128), (138, 256, 256), (66, 512, 512)]
PAPER += [(32, 512, 1024), (30, 1024, 1024), (56, 1024, 512), (392, 128, 64), (390, 64, 64)]


@pytest.mark.parametrize("layer", PAPER, ids=str)
def test_slabs_fill_a_gpu_and_none_is_empty(layer):
    H, C, K = layer
    tile = chosen("backward_w", C, K)
    for N in (1, 2, 8):
        n = slabs(tile, N, H, H, C, K)
        tiles = N * -(-(H - 2) // tile.h) * -(-(H - 2) // tile.w)
        share = -(-tiles // n)
        assert (n - 1) * share < tiles <= n * share
        assert share <= module.LONGEST
        assert n * -(-C // tile.c) * -(-K // tile.k) >= min(module.BLOCKS, tiles) * 0.75
