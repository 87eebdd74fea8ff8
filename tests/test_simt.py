"""The SIMT runtime: blocks, barriers, memory, errors. Kernels are in tests/simt/runtime.cu."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simt_launch import ORDERS, error, f32, i32, line_of
from simt_units import Unit, unit

from unetcu import simtbuild
from unetcu.device.simt import load_file


@pytest.fixture(scope="module")
def kernels() -> Unit:
    return unit("runtime", "fast")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("block", [1, 31, 33, 200, 256])
def test_barriers(kernels: Unit, order: str, block: int) -> None:
    x = np.random.default_rng(block).standard_normal(3 * block).astype(f32)
    y = np.full_like(x, np.nan)
    kernels.launch("turned", 3, block, x, y, i32(7), order=order, seed=5)
    want = np.roll(x.reshape(3, block) + f32(2), -7, axis=1)
    assert np.array_equal(y.reshape(3, block), want)


@pytest.mark.parametrize("order", ORDERS)
def test_threads_that_have_ended_are_not_waited_for(kernels: Unit, order: str) -> None:
    y = np.full(200, -1, i32)
    kernels.launch("some_leave", 1, 200, y, i32(77), order=order)
    assert y.tolist() == [*range(76, -1, -1), *[-1] * 123]


@pytest.mark.parametrize("yes", [0, 1, 99, 100])
def test_block_votes(kernels: Unit, yes: int) -> None:
    x, y = (np.arange(100) < yes).astype(i32), np.zeros(100, i32)
    kernels.launch("block_votes", 1, 100, x, y)
    assert set(y.tolist()) == {yes * 100 + (yes == 100) * 10 + (yes > 0)}


def test_divergent_barriers(kernels: Unit) -> None:
    y, line = np.zeros(64, i32), line_of(kernels, "divergent")
    assert error(kernels, "divergent", 2, 64, y, workers=1) == (
        "divergent: block (0,0,0) thread (32,0,0): divergent barriers: this thread has come to "
        f"__syncthreads at kernels/runtime.cu:{line}, thread (0,0,0) to __syncthreads at "
        f"kernels/runtime.cu:{line - 2}"
    )


def test_deadlock(kernels: Unit) -> None:
    y, line = np.zeros((4, 5), i32), line_of(kernels, "stuck")
    assert error(kernels, "stuck", 1, (4, 5), y) == (
        "stuck: block (0,0,0) thread (0,0,0): deadlock, no thread can go on: "
        f"16 in __syncwarp at kernels/runtime.cu:{line}, the first is (0,0,0); "
        f"4 in __syncthreads at kernels/runtime.cu:{line + 2}, the first is (0,4,0); "
        "0 of 20 have ended"
    )


@pytest.mark.parametrize(("grid", "block"), [((2, 3, 2), (3, 2, 4)), ((1, 1, 2), (1, 1, 64))])
def test_places(kernels: Unit, grid: tuple, block: tuple) -> None:
    y = np.zeros((grid[2], grid[1], grid[0], block[2], block[1], block[0], 6), np.uint32)
    kernels.launch("where", grid, block, y)
    for index in np.ndindex(y.shape[:-1]):
        assert y[index].tolist() == [*index[2::-1], *index[:2:-1]]


@pytest.mark.parametrize("guard", ["after", "before"])
def test_guard_pages(kernels: Unit, guard: str) -> None:
    x, y = np.arange(1000, dtype=f32), np.zeros(500, f32)
    inside = {"from": 999, "to": 499} if guard == "after" else {"from": 0, "to": 0}
    how = {"guard": guard, "workers": 1}

    def reach(origin: int, target: int) -> tuple:
        return x, y, np.int64(origin), np.int64(target)

    kernels.launch("reach", 2, 4, *reach(inside["from"], inside["to"]), **how)
    assert y[inside["to"]] == x[inside["from"]]
    assert np.count_nonzero(y) == np.count_nonzero(y[inside["to"]])
    outside = 1000 if guard == "after" else -1
    beside = "0 bytes past the end of" if guard == "after" else "4 bytes before"
    start = "reach: block (1,0,0) thread (3,0,0): "
    read = error(kernels, "reach", 2, 4, *reach(outside, 0), **how)
    assert read == f"{start}reads memory it may not: {beside} x"
    outside = 500 if guard == "after" else -1
    write = error(kernels, "reach", 2, 4, *reach(0, outside), **how)
    assert write == f"{start}writes memory it may not: {beside} y"
    far = error(kernels, "reach", 2, 4, *reach(0, 500 + 1023), guard="after")
    assert far == f"{start}writes memory it may not: {4 * 1023} bytes past the end of y"


def test_bytes_between_array_and_guard_page(kernels: Unit) -> None:
    x, y = np.arange(3, dtype=f32), np.zeros(3, f32)
    kernels.launch("reach", 2, 4, x, y, np.int64(3), np.int64(0), guard="after")
    assert np.isnan(y[0])
    wrote = error(kernels, "reach", 2, 4, x, y, np.int64(0), np.int64(3), guard="after")
    assert wrote == "reach: something was written outside y, in the bytes beside it"


def test_arrays_that_share_memory(kernels: Unit) -> None:
    both = np.arange(8, dtype=f32)
    how: dict[str, Any] = {"guard": "after"}
    kernels.launch("reach", 2, 4, both, both, np.int64(7), np.int64(2), **how)
    assert both[2] == 7
    overlap = error(kernels, "reach", 2, 4, both[1:], both[:5], np.int64(0), np.int64(0), **how)
    assert overlap == "reach: x and y overlap; guard pages cannot be put between them"


def test_what_is_const_cannot_be_written(kernels: Unit) -> None:
    x, y = np.zeros(4, f32), np.zeros(4, f32)
    assert error(kernels, "cast_away", 1, 4, x, y, guard="after") == (
        "cast_away: block (0,0,0) thread (0,0,0): "
        "writes memory it may not: inside x, which may not be written"
    )


@pytest.mark.parametrize(
    ("floats", "at", "what"),
    [
        (256, 256, "writes memory it may not: 0 bytes past the end of dynamic shared memory"),
        (8, 8, "something was written 1 bytes past the end of dynamic shared memory"),
        (8, -1, "something was written 1 bytes before the start of dynamic shared memory"),
    ],
)
def test_overrun_of_shared_memory(kernels: Unit, floats: int, at: int, what: str) -> None:
    y = np.zeros(floats, f32)
    said = error(kernels, "reach_shared", 1, 8, y, i32(at), shared=4 * floats)
    assert said.startswith("reach_shared: block (0,0,0)")
    assert said.endswith(f": {what}")


def test_orders(kernels: Unit) -> None:
    def turns(order: str, seed: int = 0) -> list[int]:
        y, count = np.full(3 * 70, -1, i32), np.zeros(1, i32)
        kernels.launch("turns", 3, 70, y, count, order=order, seed=seed, workers=1)
        return y.tolist()

    assert turns("forward") == list(range(210))
    assert turns("reverse") == list(range(209, -1, -1))
    one, two = turns("shuffled", 1), turns("shuffled", 2)
    assert sorted(one) == sorted(two) == list(range(210))
    assert one == turns("shuffled", 1)
    assert one != two
    assert one not in (turns("forward"), turns("reverse"))
    threads = [i % 70 for i in one[:70]]  # a block at a time
    assert sorted(threads) == list(range(70))
    assert threads not in (list(range(70)), list(range(69, -1, -1)))


def poisoned(module: Any) -> bool:
    y = np.zeros(2 * 3 * 96, f32)
    grid, block = (3, 1, 1), (96, 1, 1)
    module.launch("unwritten", grid, block, [y], shared=4 * 96, workers=1)
    return bool(np.isnan(y).all())


def test_shared_memory_is_poison_before_each_block(kernels: Unit) -> None:
    assert poisoned(kernels.module)
    kernels.launch("reach_shared", 1, 8, np.zeros(8, f32), i32(0), shared=4000)
    assert poisoned(kernels.module)


def test_without_the_linkers_help(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simtbuild, "LINK", ["-shared"])
    text = """#include "simt.h"
        extern "C" __global__ void unwritten(float* y) {
          __shared__ float part[96];
          const int i = blockIdx.x * blockDim.x + threadIdx.x;
          y[2 * i] = part[threadIdx.x];
          y[2 * i + 1] = part[95 - threadIdx.x];
          __syncthreads();
          part[threadIdx.x] = 1.0f;
        }
        SIMT_MODULE(SIMT_KERNEL(unwritten))"""
    path = tmp_path / "plain.so"
    path.write_bytes(simtbuild.compiled(text, "fast", simtbuild.compiler()))
    assert poisoned(load_file(str(path)))


def test_errors_of_arithmetic_and_stack(kernels: Unit) -> None:
    y = np.zeros(4, i32)
    start = "{}: block (0,0,0) thread (0,0,0): "
    said = error(kernels, "divide", 1, 4, y, i32(0))
    assert said == start.format("divide") + "divides an integer by zero"
    kernels.launch("recurse", 1, 4, y, i32(20))
    said = error(kernels, "recurse", 1, 4, y, i32(1000))
    assert said == start.format("recurse") + (
        "its local variables need more than the 64 KB of a thread's stack"
    )


def test_errors_leave_nothing_behind(kernels: Unit) -> None:
    def pieces_of_memory() -> int:
        for _ in range(30):
            error(kernels, "divergent", 1, 64, np.zeros(64, i32), workers=1)
        return Path("/proc/self/maps").read_text().count("\n")

    if Path("/proc/self/maps").exists():
        assert abs(pieces_of_memory() - pieces_of_memory()) < 30
