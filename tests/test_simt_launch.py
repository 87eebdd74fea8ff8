"""The SIMT runtime: what a launch takes and refuses, numbers in kernels, blocks over OS threads,
and what is left as it was. Kernels are in tests/simt/runtime.cu."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simt_launch import ORDERS, error, f32, i32
from simt_units import Unit, unit


@pytest.fixture(scope="module")
def kernels() -> Unit:
    return unit("runtime", "fast")


def test_numbers(kernels: Unit) -> None:
    x = np.array([0, 1, 5, 2**31, 2**32 - 1, 0x80000001, 123456789, 7, 9], np.uint32)
    f = np.array([1 + 2**-12, 1 + 2**-11, 2.5, 3.5, 0.25, 100, 1e-3, 8, 1], f32)
    y, g = np.zeros((8, 16), np.int64), np.zeros((8, 4), f32)
    kernels.launch("numbers", 1, 8, x, f, y, g)
    signed = x.astype(i32)
    for t in range(8):
        u, v, i, j = int(x[t]), int(x[t + 1]), int(signed[t]), int(signed[t + 1])
        both = v << 32 | u
        want = [u.bit_count(), 32 - u.bit_length(), (u & -u).bit_length()]
        want += [int(f"{u:032b}"[::-1], 2), u * v >> 32, i * j >> 32]
        want += [both << 5 >> 32 & 0xFFFFFFFF, both >> 5 & 0xFFFFFFFF]
        want += [min(i, 7), max(u, 7), min(u, 7), max(i, j)]
        want += [int(f.view(np.uint32)[t]), round(float(f[t])), (u << 32 | v).bit_count()]
        assert y[t].tolist() == [*want, 64 - u.bit_length()]
        assert g[t, 0] == f32(1) / np.sqrt(f[t]) + f[0]
        assert g[t, 1] == (f32(1) if u % 2 == 0 else np.nextafter(f32(1), f32(2)))
        assert g[t, 2] == f32(np.float64(f[t]) * 3 - 2)
        assert g[t, 3] == f32(f[t] * f[t]) - f[t + 1]
    assert g[0, 3] == 0  # a fused multiply-add would leave 2**-24


def test_values(kernels: Unit) -> None:
    values: list[Any] = [f32(0.1), np.float64(0.1), i32(-(2**31)), np.uint32(2**32 - 1)]
    values += [np.int8(-128), np.uint8(255), np.int16(-(2**15)), np.uint16(2**16 - 1)]
    values += [np.int64(-(2**53)), np.uint64(2**63)]
    y = np.zeros(10)
    kernels.launch("by_value", 1, 1, y, *values)
    assert y.tolist() == [float(v) for v in values]


X, Y = np.zeros(64, f32), np.zeros(64, f32)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"grid": (0, 1, 1)}, "a grid of (0,1,1) is outside 1 to (2147483647,65535,65535)"),
        ({"grid": (1, 65536, 1)}, "a grid of (1,65536,1) is outside"),
        ({"grid": (1, 1)}, "the grid needs three numbers"),
        ({"block": (1025, 1, 1)}, "a block of (1025,1,1) is outside 1 to (1024,1024,64)"),
        ({"block": (1, 1, 65)}, "a block of (1,1,65) is outside"),
        ({"block": (32, 32, 2)}, "a block of (32,32,2) has more than 1024 threads"),
        ({"shared": 227 * 1024 + 1}, "232449 bytes of shared memory; at most 232448"),
        ({"shared": -1}, "-1 bytes of shared memory"),
        ({"name": "turner"}, "there is no such kernel; there are: turned, "),
        ({"args": [X, Y]}, "takes 3 arguments, got 2"),
        ({"args": [X.astype("f8"), Y, i32(1)]}, "x is float64, not of the type 'f'"),
        ({"args": [X.astype(">f4"), Y, i32(1)]}, "x is >f4, not of the type 'f'"),
        ({"args": [X, Y, np.int64(1)]}, "stride is int64, not of the type 'i'"),
        ({"args": [X, Y, 1]}, "stride must be a NumPy scalar"),
        ({"args": [X, Y, Y]}, "stride must be a NumPy scalar"),
        ({"args": [f32(1), Y, i32(1)]}, "x must be a NumPy array"),
        ({"args": [X[::2], Y, i32(1)]}, "x is not contiguous"),
        ({"args": [X, np.broadcast_to(Y, (64,)), i32(1)]}, "y is read-only"),
        ({"order": "sideways"}, "no order sideways; there are forward, reverse, shuffled"),
        ({"guard": "both"}, "no guard both; there are none, after, before"),
    ],
)
def test_refused(kernels: Unit, change: dict[str, Any], what: str) -> None:
    args: dict[str, Any] = {"name": "turned", "grid": (1, 1, 1), "block": (64, 1, 1)}
    args |= {"args": [X, Y, i32(1)], "names": ["x", "y", "stride"]}
    kernels.module.launch(**args)
    with pytest.raises(RuntimeError) as raised:
        kernels.module.launch(**args | change)
    assert str(raised.value).startswith(f"{change.get('name', 'turned')}: {what}")


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_over_threads(kernels: Unit, order: str) -> None:
    x = np.random.default_rng(3).integers(0, 2**32, 5000, dtype=np.uint32)
    for workers in (1, 2, 3, 4):
        y, z = np.zeros(17, np.uint32), np.zeros(1, np.uint64)
        y[8], y[10] = 2**32 - 1, 2**32 - 1
        how = {"order": order, "workers": workers}
        kernels.launch("atomics", 40, 128, x, y, z, i32(5000), **how)
        assert y[:8].tolist() == np.bincount(x % 8, minlength=8).tolist()
        bits = [np.bitwise_and.reduce(x | 1), np.bitwise_or.reduce(x), np.bitwise_xor.reduce(x)]
        assert y[8:13].tolist() == [x.min(), x.max(), *bits]
        assert y[13:].tolist() == [2**32 - 10000, 5000 % 7, 1, 5]
        assert z[0] == x.sum(dtype=np.uint64)


def test_the_first_block_that_fails_is_reported(kernels: Unit) -> None:
    y = np.zeros(1, i32)
    for _ in range(3):  # in block 0 it takes longer
        said = error(kernels, "all_fail", 50, 1, y, i32(5_000_000), workers=3)
        assert said.startswith("all_fail: block (0,0,0)")
    said = error(kernels, "all_fail", 50, 1, y, i32(0), workers=3, order="reverse")
    assert said.startswith("all_fail: block (49,0,0)")


def test_launches_from_several_python_threads(kernels: Unit) -> None:
    def run(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal(1024).astype(f32)
        for _ in range(20):
            y = np.zeros_like(x)
            kernels.launch("turned", 4, 256, x, y, i32(seed))
            if np.array_equal(y.reshape(4, 256), np.roll(x.reshape(4, 256) + f32(2), -seed, 1)):
                right.append(seed)

    right: list[int] = []
    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 60


ELSEWHERE = """
import ctypes, faulthandler, os, sys, warnings
import numpy as np

sys.path.insert(0, sys.argv[1])
from simt_units import unit

warnings.simplefilter("ignore")
faulthandler.enable()
kernels = unit("runtime", "fast")
x, y = np.zeros(4, "f4"), np.zeros(4, "f4")
places = np.int64(4), np.int64(0)
try:
    kernels.launch("reach", 9, 4, x, y, *places, guard="after", workers=3)
except RuntimeError as error:
    print(error)
child = os.fork()
total = np.zeros(17, "u4"), np.zeros(1, "u8")
many = [np.ones(900, "u4"), *total, np.int32(900)]
kernels.launch("atomics", 9, 100, *many, workers=3)
print(total[1][0], flush=True)
if not child:
    os._exit(0)
os.waitpid(child, 0)
ctypes.string_at(0)
"""


def test_faults_elsewhere_and_forks() -> None:
    """Python's own handling of a fault is back behind a launch; a forked child can launch."""
    command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "reach: block (1,0,0) thread (3,0,0): reads memory it may not: 0 bytes past the end of x",
        "900",
        "900",
    ]
    assert done.returncode < 0
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "string_at" in done.stderr
