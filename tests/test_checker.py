"""Checked mode of the SIMT runtime: planted mistakes are found, with the kernel, the thread, the
line and the other thread. That right kernels are not accused: test_checker_right.py."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from simt_units import Unit, unit

N = 128


class Bug(NamedTuple):
    """How a kernel is launched, and what its report must match besides the marked line."""

    says: str
    threads: int = 64
    blocks: int = 1
    x: Any = None  # 128 numbers from 1
    y: Any = None  # 128 zeros
    n: int = N
    shared: int = 0


def numbers(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.float32)


def zeros(count: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(count, dtype)


def poison(dtype: Any) -> np.ndarray:
    """As device.empty leaves it."""
    return np.full(N, 0xFFFFFFFF, np.uint32).view(dtype)


MEMORY = zeros(N)  # two arguments lie in it

NOBODY = r"reads byte \d+ of (tile|part|found|mask), which no thread of the block has written"
RACE = r"byte \d+ of \w+, which thread \(\d+,0,0\) has (read|written) at .*; no "
BARRIER, SYNCWARP = RACE + "__syncthreads lies between", RACE + "__syncwarp lies between"
EITHER = f"({NOBODY}|{RACE}__sync(threads|warp) lies between)"  # whichever the order shows
IN_ARRAY = (
    r"(reads|writes|changes) y\[\d+\], which thread \(\d+,0,0\) has (read|written) at .*; no "
)
IN_FLIGHT = (
    r"{} byte \d+ of tile, into which the cp.async of thread \(\d+,0,0\) at .* is still under way"
)
BLOCKS = r"which block \([01],0,0\) thread \(\d+,0,0\) has {} at .*; no barrier orders two blocks"

ATOMICS = Bug(
    r"byte 0 of count, which thread .* has (read|written) at .*; no __sync(warp|threads) lies",
    x=np.ones(N, np.int32),
    y=zeros(N, np.int32),
)

BUGS = {
    "no_barrier_after_fill": Bug(EITHER),
    "no_barrier_before_refill": Bug(BARRIER),
    "no_barrier_between_rounds": Bug(EITHER, threads=128),
    "no_barrier_before_result": Bug(EITHER),
    "no_barrier_before_reuse": Bug(EITHER),
    "no_syncwarp": Bug(EITHER, threads=32),
    "no_syncwarp_before_rewrite": Bug(SYNCWARP, threads=32),
    "syncwarp_of_each_half": Bug(EITHER, threads=32),
    "syncwarps_of_both_halves": Bug(SYNCWARP, threads=32),
    "one_warp_writes_what_two_have_read": Bug(BARRIER),
    "shuffle_is_no_barrier": Bug(SYNCWARP, threads=32),
    "syncwarp_between_warps": Bug(EITHER),
    "same_value_from_two_warps": Bug(EITHER),
    "bytes_of_two_warps": Bug(EITHER),
    "divergent_barrier": Bug("__syncthreads"),
    "syncwarp_in_half_a_warp": Bug("__syncwarp", threads=32),
    "shuffle_from_a_lane_outside": Bug("__shfl_sync.* lane 20", threads=32),
    "reads_before": Bug(r"reads x\[-1\], but x has 64 elements", x=numbers(64)),
    "reads_past": Bug(r"reads x\[64\], but x has 64 elements", x=numbers(64)),
    "writes_before": Bug(r"writes y\[-1\], but y has 64 elements", y=zeros(64)),
    "writes_past": Bug(r"writes y\[64\], but y has 64 elements", y=zeros(64)),
    "reads_four_past": Bug(r"reads x\[252\], but x has 252 elements", x=numbers(252)),
    "reads_half_of_four_past": Bug(
        r"reads x\[252\], 16 bytes at once, but the array ends at x\[254\]", x=numbers(254)
    ),
    "reads_far_away": Bug("reads 4 bytes at 0x[0-9a-f]+, in no array and not in shared memory"),
    "index_of_a_shared_row": Bug(r"index 16 is outside an array of type 'float ?\[16\]'"),
    "dynamic_shared_past": Bug(
        "writes byte 256 of the dynamic shared memory, 4 bytes at once, but the block has 256",
        shared=256,
    ),
    "index_overflows": Bug("a multiplication of integers overflows", n=3000),
    "shared_not_written": Bug(NOBODY),
    "dynamic_shared_not_written": Bug("byte 0 of the dynamic .* no thread of the", shared=256),
    "adds_to_poison": Bug(r"reads y\[\d+\], which was never written", y=poison(np.float32)),
    "counts_from_nothing": Bug(r"reads y\[\d+\], which was never written", y=poison(np.int32)),
    "no_wait": Bug(IN_FLIGHT.format("reads")),
    "waits_for_too_few": Bug(IN_FLIGHT.format("reads"), threads=32),
    "waits_for_its_own_only": Bug(
        f"({NOBODY}|{IN_FLIGHT.format('reads')}|{BARRIER})", x=numbers(256)
    ),
    "writes_under_a_copy": Bug(IN_FLIGHT.format("writes"), threads=32),
    "changes_the_source_of_a_copy": Bug(IN_ARRAY + "__syncwarp", threads=32),
    "changes_the_source_behind_a_barrier": Bug(IN_ARRAY + "__syncwarp", threads=32),
    "barrier_before_the_wait": Bug(f"({IN_FLIGHT.format('reads')}|{SYNCWARP})", threads=32),
    "two_blocks_write_one_element": Bug(r"writes y\[\d+\], " + BLOCKS.format("written"), blocks=2),
    "reads_what_a_block_writes": Bug(IN_ARRAY + "__syncwarp"),
    "writes_what_a_block_has_read": Bug(BLOCKS.format("(read|written)"), blocks=2),
    "two_warps_through_an_array": Bug(IN_ARRAY + "__syncthreads"),
    "one_warp_through_an_array": Bug(IN_ARRAY + "__syncwarp", threads=32),
    "sums_into_one_element": Bug(IN_ARRAY + "__syncwarp"),
    "reads_among_atomics": Bug(
        IN_ARRAY + "__syncwarp", x=np.ones(N, np.int32), y=zeros(N, np.int32)
    ),
    "reads_among_atomics_of_two_warps": ATOMICS,
    "one_lane_reads_among_atomics": ATOMICS._replace(threads=32),
    "writes_through_const": Bug(r"writes x\[\d+\], but the kernel takes x as const"),
    "overlapping": Bug(
        r"(writes y|reads x)\[\d+\], which thread .* has (read|written) at .*; no __syncwarp",
        threads=32,
        x=MEMORY[:96],
        y=MEMORY[32:],
        n=33,
    ),
    "misaligned_load": Bug(
        "reads 16 bytes at once at address 0x.*, which is no multiple of 16", 16
    ),
    "misaligned_in_shared": Bug("reads 8 bytes at once at .*, which is no multiple of 8", 32),
}


FILES = ("planted_races", "planted_bugs")


def planted(entry: str) -> Unit:
    """The compiled file that holds this kernel."""
    return next(u for u in (unit(name, "checked") for name in FILES) if entry in u.names)


def report_of(entry: str, order: str, **how: Any) -> str:
    bug = BUGS[entry]
    x = numbers(N) if bug.x is None else bug.x
    y = zeros(N) if bug.y is None else bug.y
    options = {"checked": True, "shared": bug.shared, "order": order, **how}
    with pytest.raises(RuntimeError) as raised:
        planted(entry).launch(entry, bug.blocks, bug.threads, x, y, np.int32(bug.n), **options)
    return str(raised.value)


def test_every_planted_bug_is_launched():
    units = [unit(name, "checked") for name in FILES]
    assert {entry for u in units for entry in u.names} == set(BUGS)
    assert all(all(u.here.values()) for u in units)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize("entry", BUGS)
def test_bug_is_reported_with_its_lines(entry, order):
    report = report_of(entry, order)
    assert re.match(rf"{entry}: block \(\d,0,0\) thread \(\d+,0,0\): ", report), report
    assert re.search(BUGS[entry].says, report), report
    lines = {int(n) for n in re.findall(r"kernels/planted_\w+\.cu:(\d+)", report)}
    marked = planted(entry).here[entry]
    assert lines, report
    assert lines <= marked, report
    if re.search(r"\) has (read|written) at ", report):  # the other thread's line too
        assert len(re.findall(r"planted_\w+\.cu:\d+", report)) == 2, report


@pytest.mark.parametrize("guard", ["before", "after"])
def test_reports_are_the_same_between_guard_pages(guard):
    assert re.search(BUGS["reads_past"].says, report_of("reads_past", "forward", guard=guard))
    assert re.search(BUGS["reads_before"].says, report_of("reads_before", "forward", guard=guard))


def test_an_output_that_begins_before_an_input_it_overlaps():
    whole = zeros(N)
    with pytest.raises(RuntimeError, match=r"(y|x)\[\d+\], which thread .* has (read|written)"):
        unit("planted_bugs", "checked").launch(
            "overlapping", 1, 32, whole[1:64], whole[:96], np.int32(0), checked=True
        )


def test_without_addr2line_a_report_names_the_place_in_the_module(tmp_path):
    unit("planted_bugs", "checked")  # compiled here: the other process finds no compiler either
    code = "import test_checker; print(test_checker.report_of('reads_past', 'forward'))"
    env = {
        **os.environ,
        "PATH": os.fspath(tmp_path),
        "PYTHONPATH": os.fspath(Path(__file__).parent),
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert re.search(r" planted_bugs-checked-\w+\.so\+0x[0-9a-f]+ reads x\[64\]", done.stdout), done
