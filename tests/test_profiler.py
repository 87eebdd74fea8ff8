"""Profile mode of the SIMT runtime: counts that can be worked out by hand."""

import re
from typing import Any

import numpy as np
import pytest
from simt_units import FOLDER, unit

TEXT = (FOLDER / "counted_kernels.cu").read_text("utf-8").splitlines()


def line_of(kernel: str, comment: str) -> int:
    """The line of the kernel that ends with this comment."""
    start = next(i for i, line in enumerate(TEXT) if f" void {kernel}(" in line)
    return next(
        i for i, line in enumerate(TEXT[start:], start + 1) if line.endswith(f"// {comment}")
    )


def profile(kernel: str, n: int, *, grid: int = 1, block: int = 32, **how: Any) -> Any:
    """The rows of a launch, and what it has made, from x = 1, 2, ..."""
    loaded = unit("counted_kernels", "profile")
    integers = kernel == "bytes"
    x = np.arange(1, 129, dtype=np.uint8) if integers else np.arange(1, 4097, dtype=np.float32)
    arrays = [x, np.ones(64, np.float32)] if kernel == "two_arrays" else [x]
    y = np.zeros(4096, x.dtype)
    rows = loaded.launch(kernel, grid, block, *arrays, y, np.int32(n), profile=True, **how)
    assert {r["file"] for r in rows} == {"kernels/counted_kernels.cu"}
    return rows, y


def row(rows: list[dict], line: int, kind: str, array: str = "") -> dict:
    """The one row of this line, kind and array."""
    found = [r for r in rows if (r["line"], r["kind"], r["array"]) == (line, kind, array)]
    assert len(found) == 1, rows
    return found[0]


def counts(found: dict, *names: str) -> tuple[int, ...]:
    return tuple(found[name] for name in names)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize(
    ("stride", "sectors"), [(1, 4), (2, 8), (3, 12), (4, 16), (8, 32), (32, 32)]
)
def test_sectors_of_strided_floats(stride, sectors, order):
    rows, y = profile("strided", stride, grid=2, block=64, order=order)
    load = row(rows, line_of("strided", "load"), "global load", "x")
    assert counts(load, "requests", "sectors", "lanes", "bytes") == (4, 4 * sectors, 128, 512)
    store = row(rows, line_of("strided", "store"), "global store", "y")
    assert counts(store, "requests", "sectors", "lanes", "bytes") == (4, 16, 128, 512)
    assert len(rows) == 2
    assert y[:128].tolist() == [1 + stride * i for i in range(128)]


def test_a_word_that_all_lanes_read_is_one_sector():
    rows, _ = profile("broadcast", 5)
    load = row(rows, line_of("broadcast", "load"), "global load", "x")
    assert counts(load, "requests", "sectors", "lanes", "bytes") == (1, 1, 32, 128)


def test_arrays_of_one_line_are_told_apart():
    # 9 steps: x starts at 0, 4, ... 32 bytes, so 128 bytes touch 4 sectors twice and else 5.
    rows, _ = profile("two_arrays", 9)
    line = line_of("two_arrays", "both")
    assert counts(row(rows, line, "global load", "x"), "requests", "sectors") == (9, 2 * 4 + 7 * 5)
    assert counts(row(rows, line, "global load", "w"), "requests", "sectors") == (9, 9)
    assert counts(row(rows, line, "flops"), "requests", "flops") == (2 * 9, 2 * 9 * 32)


def test_four_floats_at_once_are_one_request():
    rows, y = profile("fours", 0)
    load = row(rows, line_of("fours", "load"), "global load", "x")
    assert counts(load, "requests", "sectors", "lanes", "bytes") == (1, 16, 32, 512)
    store = row(rows, line_of("fours", "store"), "global store", "y")
    assert counts(store, "requests", "sectors", "lanes", "bytes") == (1, 16, 32, 512)
    assert row(rows, line_of("fours", "add"), "flops")["flops"] == 32
    assert y[:5].tolist() == [2, 2, 3, 4, 6]


def test_lanes_that_take_part():
    rows, _ = profile("half_of_a_warp", 48, block=64)  # a warp, and 16 lanes of the next
    line = line_of("half_of_a_warp", "all")
    load = row(rows, line, "global load", "x")
    assert counts(load, "requests", "lanes", "sectors", "bytes") == (2, 48, 4 + 2, 192)
    assert counts(row(rows, line, "flops"), "requests", "lanes", "flops") == (2, 48, 48)
    rows, _ = profile("half_of_a_warp", 1, block=64)
    assert counts(row(rows, line, "global load", "x"), "requests", "lanes", "sectors") == (1, 1, 1)


def test_a_choice_is_one_load_and_one_store():
    rows, y = profile("chosen", 20)
    line = line_of("chosen", "choice")
    for kind, array in (("global load", "x"), ("global store", "y")):
        assert counts(row(rows, line, kind, array), "requests", "lanes", "sectors") == (1, 32, 4)
    assert y[:32].tolist() == [0] * 20 + list(range(21, 33))


def test_loops_of_different_length():
    # Lane t makes t % 8 + 1 steps: 8 requests, of 32, 28, 24, ... 4 lanes, each of one word.
    rows, _ = profile("some_lanes", 8)
    line = line_of("some_lanes", "loop")
    lanes = sum(range(4, 33, 4))
    assert counts(row(rows, line, "global load", "x"), "requests", "lanes", "sectors") == (
        8,
        lanes,
        8,
    )
    assert counts(row(rows, line, "flops"), "requests", "lanes", "flops") == (8, lanes, lanes)


def test_lanes_that_go_step_by_step():
    rows, _ = profile("in_step", 20)
    line = line_of("in_step", "step")
    load = row(rows, line, "global load", "x")
    assert counts(load, "requests", "lanes", "sectors") == (20, 640, 80)
    assert counts(row(rows, line, "flops"), "requests", "flops") == (20, 640)


def test_bytes():
    rows, _ = profile("bytes", 1)
    line = line_of("bytes", "copy")
    assert counts(row(rows, line, "global load", "x"), "requests", "sectors", "bytes") == (1, 1, 32)


@pytest.mark.parametrize(("stride", "ways"), [(1, 1), (2, 2), (3, 1), (4, 4), (16, 16), (32, 32)])
def test_banks_of_strided_floats(stride, ways):
    rows, _ = profile("shared_stride", stride)
    for comment, kind in (("store", "shared store"), ("load", "shared load")):
        found = row(rows, line_of("shared_stride", comment), kind, "tile")
        assert counts(found, "requests", "wavefronts", "ideal") == (1, ways, 1)


def test_a_padded_row_has_no_conflicts():
    rows, _ = profile("shared_column", 0)
    for array, ways in (("square", 32), ("padded", 1)):
        found = row(rows, line_of("shared_column", array), "shared store", array)
        assert counts(found, "requests", "wavefronts", "ideal") == (1, ways, 1)


def test_the_same_word_is_no_conflict():
    rows, _ = profile("shared_same_word", 0)
    found = row(rows, line_of("shared_same_word", "load"), "shared load", "word")
    assert counts(found, "requests", "wavefronts", "ideal", "lanes") == (1, 1, 1, 32)


@pytest.mark.parametrize(("stride", "wavefronts"), [(1, 4), (2, 8), (4, 16), (8, 32), (3, 4)])
def test_four_floats_go_a_quarter_of_a_warp_at_a_time(stride, wavefronts):
    rows, _ = profile("shared_fours", stride, shared=16 * 32 * 8)
    found = row(rows, line_of("shared_fours", "store"), "shared store")
    assert counts(found, "requests", "wavefronts", "ideal", "bytes") == (1, wavefronts, 4, 512)


@pytest.mark.parametrize(("stride", "wavefronts"), [(1, 2), (2, 4), (16, 32), (5, 2)])
def test_two_floats_go_half_a_warp_at_a_time(stride, wavefronts):
    rows, _ = profile("shared_twos", stride)
    found = row(rows, line_of("shared_twos", "store"), "shared store", "pairs")
    assert counts(found, "requests", "wavefronts", "ideal", "bytes") == (1, wavefronts, 2, 256)


def test_bytes_of_one_word_are_no_conflict():
    rows, _ = profile("shared_bytes", 0)
    found = row(rows, line_of("shared_bytes", "store"), "shared store", "mask")
    assert counts(found, "requests", "wavefronts", "ideal", "bytes") == (1, 1, 1, 32)


def test_operations_are_counted_by_line():
    rows, y = profile("operations", 10)
    flops = {r["line"]: r["flops"] for r in rows if r["kind"] == "flops"}
    per_lane = {"loop": 20, "fused": 2, "root": 1, "double": 1, "half": 1}
    assert flops == {line_of("operations", c): 32 * n for c, n in per_lane.items()}
    x = np.arange(1, 33, dtype=np.float64)
    np.testing.assert_allclose(y[:32], 11 * x * (x + 1) / 2, rtol=1e-6)


def test_a_helper_has_lines_of_its_own():
    rows, _ = profile("in_a_helper", 0)
    inner = line_of("in_a_helper", "outer") - 4
    assert TEXT[inner - 1].endswith("// inner")
    assert row(rows, inner, "global load", "x")["sectors"] == 4
    assert row(rows, inner, "flops")["flops"] == 32


def test_asynchronous_copies_are_loads_of_the_array():
    rows, _ = profile("copied", 0)
    found = row(rows, line_of("copied", "copy"), "global load", "x")
    assert counts(found, "requests", "sectors", "bytes") == (1, 16, 512)
    assert row(rows, line_of("copied", "load"), "shared load", "tile")["wavefronts"] == 1


def test_a_block_that_is_no_whole_warp():
    rows, _ = profile("broadcast", 5, grid=3, block=40)
    load = row(rows, line_of("broadcast", "load"), "global load", "x")
    assert counts(load, "requests", "lanes", "sectors") == (6, 120, 6)


def test_profile_needs_no_more_than_a_launch_to_be_repeated():
    first, second = profile("operations", 3)[0], profile("operations", 3)[0]
    assert first == second


def test_rows_are_sorted():
    rows, _ = profile("two_arrays", 3)
    assert [r["line"] for r in rows] == sorted(r["line"] for r in rows)
    assert all(re.match(r"(global|shared) (load|store)$|flops$", r["kind"]) for r in rows)
