"""conv3x3 by TMA and wgmma: tiles that make the same bits, and which of them is chosen."""

import numpy as np
import pytest
from check import integers
from convs import ROWS, agree, everywhere, taken
from halves import run_form, tensors

from unetcu.device import device
from unetcu.ops import _conv3x3_tma as tma
from unetcu.ops._conv3x3_variants import WGMMA, WGMMA_W, chosen, studied, tile_of
from unetcu.ops.conv3x3 import Conv3x3, conv3x3
from unetcu.precision import floats, stored

TILES = [v for v in ROWS if v.stem == WGMMA]


@pytest.mark.parametrize(("row", "on", "form"), [p for v in TILES for p in everywhere(v)])
def test_a_block_makes_tile_after_tile(row, on, form, rng, monkeypatch):
    """Fewer and more of them than a block has places in shared memory; and images of one row."""
    taken(monkeypatch, row)
    monkeypatch.setattr(tma, "MULTIPROCESSORS", 2)
    agree(on, rng, form, 3, 19, 20, 80, 72, [True])
    agree(on, rng, form, 1, 40, 6, 72, 8, [False])
    agree(on, rng, form, 2, 1, 9, 8, 16, [False])


def results(row, monkeypatch, arrays, dy):
    """The bytes of y and dx on simt."""
    with monkeypatch.context() as alone:
        taken(alone, row)
        return [
            a.tobytes() for a in run_form(Conv3x3, "simt", "bf16", arrays, dy, precision="bf16")[:2]
        ]


def test_tiles_on_simt_make_the_same_bits(rng, monkeypatch):
    """Of numbers whose sums are rounded: so each may be taken where it is quickest."""
    shapes = (2, 21, 27, 72), (3, 3, 72, 136), (136,), (2, 19, 25, 136)
    *arrays, dy = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    found = {v.what + v.suffix: results(v, monkeypatch, arrays, dy) for v in TILES}
    for part, what in enumerate(("forward", "backward_x")):
        bits = {r[part] for name, r in found.items() if name.startswith(what)}
        assert len(bits) == 1, what
    assert len(found) == 8


def test_outside_of_an_image_on_simt_are_zeros_not_its_neighbour(rng):
    """NaN in the first and last rows and columns of the images before and behind."""
    arrays = [integers(rng, 1, 11, 17, 8), integers(rng, 3, 3, 8, 8), integers(rng, 8)]
    dy = integers(rng, 3, 9, 15, 8)
    dy[[0, 2]] = np.nan
    three = [np.repeat(arrays[0], 3, axis=0), *arrays[1:]]
    three[0][[0, 2]] = np.nan
    with studied(WGMMA), studied(WGMMA_W):
        y, dx, *_ = run_form(Conv3x3, "simt", "bf16", three, dy, precision="bf16")
        one = run_form(Conv3x3, "simt", "bf16", arrays, dy[1:2], precision="bf16")
    assert np.array_equal(y[1:2], one[0])
    assert np.array_equal(dx[1:2], one[1])
    assert np.isnan(floats(y[0])).all()


def test_a_tile_is_chosen_by_the_time_it_takes():
    def suffix(made, C, pool=False, what="forward"):
        K = made[3] if what == "forward" else C
        D = C if what == "forward" else made[3]
        with studied(WGMMA):
            tile = chosen(what, D, K, "bf16", made, pool)
        assert tile in {tile_of(v, "bf16") for v in TILES}
        return tile.entry.partition(what)[2]

    assert suffix((1, 568, 568, 64), 64) == "_narrow"  # 9.8 rounds of tiles, and half the channels
    assert suffix((1, 280, 280, 128), 128) == "_slim"  # 2.5 rounds of wide ones
    assert suffix((1, 280, 280, 128), 128, pool=True) == "_narrow"  # which makes the pool, too
    assert suffix((1, 28, 28, 1024), 1024) == "_small"  # 32 wide ones: a quarter of a GPU
    assert suffix((8, 28, 28, 1024), 1024) == ""
    assert suffix((1, 30, 30, 512), 1024, what="backward_x") == "_small"
    with studied(WGMMA):
        assert chosen("forward", 64, 64, "bf16").entry == "conv3x3_wgmma_forward"
    assert (
        chosen("forward", 64, 64, "bf16", (1, 568, 568, 64)).entry == "conv3x3_mma_forward_narrow"
    )


def test_a_pool_on_simt_is_left_to_its_own_kernel_where_the_tile_has_none(rng):
    arrays = integers(rng, 1, 10, 10, 8), integers(rng, 3, 3, 8, 8), integers(rng, 8)
    for row, pooled in ((v, v.prefix in ("WIDE", "NARROW")) for v in TILES if v.what == "forward"):
        with pytest.MonkeyPatch.context() as patch:
            taken(patch, row)
            y = conv3x3(*tensors("simt", "bf16", arrays, ()), precision="bf16", pool=True)
        assert hasattr(y.data, "pooled") is pooled
    assert device("simt").owns(y.data)
    assert stored(np.ones(1, np.float32), "uint16").itemsize == 2


def test_one_tile_may_be_asked_for_and_a_gpu_must_admit_it(monkeypatch):
    shape = (1, 568, 568, 64)
    monkeypatch.setenv("UNETCU_VARIANT", "conv3x3_wgmma/slim,conv3x3_wgmma_w")
    assert chosen("forward", 64, 64, "bf16", shape).entry == "conv3x3_wgmma_forward_slim"
    assert chosen("backward_x", 64, 64, "fp16", shape).entry == "conv3x3_wgmma_backward_x_slim"
    assert chosen("backward_w", 64, 64, "bf16").entry == "conv3x3_wgmma_w_backward"
    assert chosen("forward", 64, 64, "tf32", shape).unit == "conv3x3_mma:tf32"  # there is none
    asked = []

    def admits(unit):
        asked.append(unit)
        return "wgmma" not in unit

    assert chosen("forward", 64, 64, "bf16", shape, admits=admits).unit == "conv3x3_mma:bf16"
    assert "conv3x3_wgmma:bf16" in asked
