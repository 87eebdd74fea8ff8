"""The rungs of kernels/ladder: right for every shape, and each better where it says so."""

import re
from itertools import groupby

import numpy as np
import pytest
from gpus import CUDA

from unetcu.device import device, nvrtc
from unetcu.errors import ShapeError
from unetcu.kernel import constants, entries, source
from unetcu.provers.ladder import convolve, launch_of, rungs

DEVICES = ["simt:guard", "simt:reverse,guard-before", "simt:shuffled", "simt:checked", CUDA]
U = 2.0**-24
TF32 = 2.0**-10  # relative error of a product whose factors were rounded to 10 bits
WGMMA = "conv3x3_5_wgmma"  # rounds its factors to 8 bits (bfloat16): so does what is right for it
SHAPES = [  # N, H, W, C, K
    (1, 3, 3, 1, 1),
    (2, 5, 4, 2, 3),
    (1, 6, 6, 16, 16),  # one tile of rung 2
    (1, 7, 5, 17, 15),
    (3, 5, 7, 15, 17),
    (1, 10, 10, 8, 64),  # one tile of rung 3
    (1, 11, 9, 9, 65),
    (2, 9, 11, 33, 63),
    (2, 19, 14, 16, 33),
    (1, 3, 130, 3, 8),
    (1, 70, 3, 8, 2),
    (1, 6, 18, 64, 128),  # one tile of rung 5
    (1, 4, 5, 66, 129),
]


def definition(x, w, b, relu):
    """The formula, tap by tap, in the arrays' own precision."""
    P, Q = x.shape[1] - 2, x.shape[2] - 2
    windows = (np.einsum("nijc,ck->nijk", x[:, r : r + P, s : s + Q], w[r, s]) for r, s in TAPS)
    y = b + sum(windows)
    return np.maximum(y, 0) if relu else y


TAPS = list(np.ndindex(3, 3))


def to_bf16(a):
    """The nearest numbers of 8 bits, of two the even one, as float64; `a` float32, no NaN."""
    mantissa, exponent = np.frexp(a.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2**8), exponent - 8)  # rint: halves to even


def computed(on, rung, x, w, b, relu):
    where = device(on)
    return np.array(where.get(convolve(where, rung, *(where.put(a) for a in (x, w, b)), relu)))


def test_rungs_are_numbered_and_have_one_signature():
    names = rungs()
    assert [n.split("_")[1] for n in names] == [str(i + 1) for i in range(len(names))]
    assert len(names) >= 3
    signatures = {entries(f"ladder/{n}")[n] for n in names}
    assert len(signatures) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rung", rungs())
@pytest.mark.parametrize("on", DEVICES)
def test_formula(on, rung, shape, rng):
    N, H, W, C, K = shape
    x, w, b = (
        rng.standard_normal(s).astype(np.float32) for s in [(N, H, W, C), (3, 3, C, K), (K,)]
    )
    wide = [a.astype(np.float64) for a in (x, w, b)]
    if rung == WGMMA:
        wide[:2] = map(to_bf16, (x, w))
    S = definition(*map(np.abs, wide), relu=False)
    step, product = U, TF32 if rung == "conv3x3_4_mma" else 0
    if "mma" in rung:  # tensor cores truncate their sums
        step = 2 * U
    for relu in (False, True):
        error = np.abs(computed(on, rung, x, w, b, relu) - definition(*wide, relu))
        assert (error <= ((2 * np.sqrt(9 * C + 1) + 4) * step + product) * S).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rung", rungs())
def test_whole_numbers_are_exact(rung, shape, rng):
    N, H, W, C, K = shape
    x, w, b = (
        rng.integers(-4, 5, s).astype(np.float32) for s in [(N, H, W, C), (3, 3, C, K), (K,)]
    )
    for relu in (False, True):
        right = definition(*(a.astype(np.int64) for a in (x, w, b)), relu)
        assert np.array_equal(computed("simt:shuffled", rung, x, w, b, relu), right)


@pytest.mark.parametrize("rung", rungs())
def test_one_nan_reaches_the_pixels_that_see_it_and_no_others(rung, rng):
    x, w = rng.standard_normal((2, 9, 12, 17)), rng.standard_normal((3, 3, 17, 5))
    b = np.zeros(5, np.float32)
    for i, j in [(0, 0), (5, 4), (8, 11), (7, 2)]:
        spoiled = x.astype(np.float32)
        spoiled[1, i, j, 16] = np.nan
        seen = np.zeros((2, 7, 10, 5), bool)
        seen[1, max(i - 2, 0) : i + 1, max(j - 2, 0) : j + 1] = True
        for relu in (False, True):
            y = computed("simt", rung, spoiled, w.astype(np.float32), b, relu)
            assert np.array_equal(np.isnan(y), seen)


def profiled(rung, *shape):
    """(products, sectors that global loads touch, requests to shared memory) of a launch."""
    where = device("simt:profile")
    N, H, W, C, K = shape
    arrays = [where.full(s, 1) for s in [(N, H, W, C), (3, 3, C, K), (K,)]]
    where.records.clear()
    convolve(where, rung, *arrays)
    (entry, rows), *others = where.records
    assert entry == rung
    assert not others
    for row in rows:
        if row["kind"] == "shared load":  # no bank conflicts, in any rung
            assert row["wavefronts"] == row["ideal"]
    sectors = sum(row["sectors"] for row in rows if row["kind"] == "global load")
    shared = sum(row["requests"] for row in rows if row["kind"] == "shared load")
    return 9 * N * (H - 2) * (W - 2) * C * K, sectors, shared


def test_each_rung_is_better_where_its_file_says_so():
    """The numbers of kernels/ladder/README.md: bytes for 1000 products, shared-memory requests."""
    bytes_asked, requests = {}, {}
    for rung in rungs():
        products, sectors, shared = profiled(rung, 1, 10, 18, 64, 128)
        bytes_asked[rung[8]] = 1000 * 32 * sectors / products
        requests[rung[8]] = 32 * shared / products  # a request serves 32 lanes
    assert bytes_asked == pytest.approx({"1": 5000, "2": 310, "3": 73, "4": 74, "5": 94}, rel=0.06)
    assert requests == pytest.approx({"1": 0, "2": 2, "3": 1 / 2, "4": 1 / 13, "5": 0}, rel=0.02)


def test_fences_stand_where_wgmma_needs_them():
    """The runtime cannot miss them: they order what it does in order anyway."""
    made = nvrtc.compiled(source(f"ladder/{WGMMA}"), f"kernels/ladder/{WGMMA}.cu", "sm_90a")
    words = r"^\s*(st\.shared|fence\.proxy\.async|bar\.sync|wgmma\.\w+)"
    found = [word for word, _ in groupby(re.findall(words, made.ptx, re.M))]
    copied = ["st.shared", "fence.proxy.async", "bar.sync"]
    multiplied = ["wgmma.fence", "wgmma.mma_async", "wgmma.commit_group", "wgmma.wait_group"]
    assert found == [*copied, *multiplied, "bar.sync"]


@pytest.mark.parametrize("rung", rungs())
def test_launches_cover_the_output_and_not_a_block_more(rung):
    size = constants(f"ladder/{rung}")
    if "TILE_K" not in size:
        assert launch_of(rung, (2, 3, 5, 7)) == ((1,), size["THREADS"])
        assert launch_of(rung, (1, 1, size["THREADS"], 1))[0] == (1,)
        assert launch_of(rung, (1, 1, size["THREADS"] + 1, 1))[0] == (2,)
        return
    h, w, k = size["TILE_H"], size["TILE_W"], size["TILE_K"]
    assert launch_of(rung, (3, h, w, k)) == ((1, 1, 3), size["THREADS"])
    assert launch_of(rung, (1, h + 1, w, k))[0] == (2, 1, 1)
    assert launch_of(rung, (1, h + 1, 2 * w + 1, k + 1))[0] == (6, 2, 1)


@pytest.mark.parametrize("rung", rungs())
def test_shapes_that_do_not_fit(rung):
    where = device("simt")
    x, w, b = (where.zeros(s) for s in [(1, 3, 3, 2), (3, 3, 1, 1), (1,)])
    with pytest.raises(ShapeError, match="conv3x3 needs x"):
        convolve(where, rung, x, w, b)
