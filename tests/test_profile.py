"""The profile of a kernel as a table: unetcu/provers/profile.py."""

import numpy as np
import pytest

from unetcu import kernel
from unetcu.cli import main
from unetcu.errors import UsageError
from unetcu.provers.profile import Launch, measure, profile, table, totals
from unetcu.provers.work import launch_all


def test_convolution_by_hand():
    """Rung 1 of the ladder: a thread an output, C = 3, K = 32; 2 x 3 pixels are 6 warps."""
    text = profile("ladder/conv3x3_1_naive", (1, 4, 5, 3), 32)
    steps = 6 * 9 * 3
    assert text.startswith("conv3x3_1_naive: 1 blocks of 256 threads\n")
    assert f"flops {2 * steps:,} 32.0 {2 * steps * 32:,}" in " ".join(text.split())
    assert f"global load w {steps:,} 32.0 4.00" in " ".join(text.split())
    assert f"global load x {steps:,} 32.0 1.00" in " ".join(text.split())
    assert "ladder/conv3x3_1_naive.cu:" in text
    assert max(map(len, text.splitlines())) <= 100


def test_totals():
    launches = measure(lambda where: where.add(where.zeros((64,)), where.zeros((64,))))
    fill, add = launches
    assert (fill.entry, fill.times, add.entry, add.times) == (
        "fill_float32",
        2,
        "elementwise_add",
        1,
    )
    sums = totals(add.rows.values())
    assert (sums.flops, sums.requests, sums.sectors, sums.asked, sums.moved) == (
        64,
        6,
        24,
        768,
        768,
    )
    assert (sums.shared_requests, sums.lanes) == (0, 32)
    assert totals(fill.rows.values()).requests == 2 * 2
    assert "fill_float32: 1 blocks of 256 threads, 2 launches together" in table(fill)


def test_rows_of_launches_are_added():
    row = {"file": "kernels/a.cu", "line": 3, "caller": "", "kind": "flops", "array": ""}
    row |= dict.fromkeys(("sectors", "bytes", "wavefronts", "ideal"), 0)
    row |= {"requests": 2, "lanes": 64, "flops": 64}
    launch = Launch("a", "a", (1, 1, 1), (32, 1, 1), 0)
    launch.add([row])
    launch.add([row, row | {"line": 4}])
    assert launch.times == 2
    assert [(r["line"], r["requests"], r["flops"]) for r in launch.rows.values()] == [
        (3, 4, 128),
        (4, 2, 64),
    ]
    assert "a.cu:4" in table(launch)  # a file that is not there has no text


@pytest.mark.parametrize("stem", kernel.stems())
def test_every_kernel_file_has_a_profile(stem):
    text = profile(stem, (1, 8, 8, 8), 8)
    assert max(map(len, text.splitlines())) <= 100
    seen = {line.split(":")[0] for line in text.splitlines() if " blocks of " in line}
    assert seen <= set(kernel.entries(stem))
    assert seen


@pytest.mark.parametrize("stem", ["conv3x3_mma", "conv3x3_wgmma", "upconv2_mma"])
def test_products_of_tensor_cores_are_counted_once(stem):
    """Whole tiles and chunks: 16 x 16 pixels of 64 channels, 64 filters; then b is added."""
    op = stem.partition("_")[0]
    shape = (1, 18, 18, 64) if op == "conv3x3" else (1, 16, 16, 64)
    launches = measure(lambda where: launch_all(stem, shape, 64, where))
    (forward,) = [launch for launch in launches if f"{stem}_forward" in launch.entry]
    products = 16 * 16 * 64 * 64 * (9 if op == "conv3x3" else 4)
    added = 16 * 16 * 64 * (1 if op == "conv3x3" else 4)
    assert totals(forward.rows.values()).flops == 2 * products + added


@pytest.mark.parametrize("rung", ["conv3x3_4_mma", "conv3x3_5_wgmma"])
def test_products_of_rungs_on_tensor_cores_are_counted_once(rung):
    """Whole tiles and chunks: 4 x 16 pixels of 64 channels, 128 filters; then b is added."""
    (launch,) = measure(lambda where: launch_all(f"ladder/{rung}", (1, 6, 18, 64), 128, where))
    outputs = 4 * 16 * 128
    assert totals(launch.rows.values()).flops == 2 * 9 * 64 * outputs + outputs


@pytest.mark.parametrize("stem", ["conv3x3_mma", "upconv2_mma"])
def test_channels_that_tensor_cores_do_not_take(stem):
    with pytest.raises(UsageError, match="multiplies multiples of 8 channels, not 4 to 2"):
        profile(stem, (1, 8, 8, 4), 2)


def test_command(capsys):
    assert main(["kernels", "profile", "relu", "--shape", "1x4x4x8"]) == 0
    out = capsys.readouterr().out
    assert "relu_forward: " in out
    assert "relu_backward: " in out
    assert "global load x" in out


def test_what_cannot_be_profiled():
    with pytest.raises(UsageError, match="nothing is known that launches"):
        profile("nothing", (1, 2, 2, 1), 1)


def test_values_are_those_of_other_modes():
    """Counted floats compute what floats compute."""
    from unetcu.device import device

    def sums(where):
        x = where.put(np.linspace(-1, 1, 300, dtype=np.float32))
        y = where.empty((300,))
        where.each("relu", "relu_forward", 300, x, y, 300)
        return where.get(where.add(x, y)).tobytes()

    assert sums(device("simt:profile")) == sums(device("simt"))
