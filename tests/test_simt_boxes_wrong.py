"""The SIMT runtime: every wrong use of mbarriers and boxes is told by its line, if not by a plain
run then in checked mode."""

import re

import numpy as np
import pytest
from simt_boxes import X, boxes_at, plain, ring, run, u16
from simt_launch import ORDERS, i32
from simt_units import FOLDER


def trouble(does):
    """The error of a launch, its line numbers replaced by the comments at those lines."""
    lines = (FOLDER / "boxes.cu").read_text("utf-8").splitlines()
    with pytest.raises(RuntimeError) as raised:
        does()
    return re.sub(
        r"kernels/boxes\.cu:(\d+)",
        lambda m: "<" + lines[int(m[1]) - 1].partition("// line ")[2] + ">",
        str(raised.value),
    )


UNDER_WAY = (
    r"<read> reads byte \d+ of the dynamic .* cp\.async of thread .* at <copy> is still under"
)
DEADLOCK = "deadlock, no thread can go on"
BETWEEN = "; no (__syncwarp|__syncthreads or mbarrier) lies between"
WRONG_RINGS = [
    # fault, mode, what is said
    ("it waits for no place", 1, "fast", "<expect>: all 1 have arrived, and the phase has not"),
    (
        "it waits with the wrong parity",
        2,
        "fast",
        f"{DEADLOCK}.* in mbarrier.try_wait at <producer",
    ),
    ("too many bytes are expected", 3, "fast", f"{DEADLOCK}.*<consumer waits>.*<producer waits>"),
    ("too few are", 4, "fast", "mbarrier at <copy>: 16 bytes more are coming than it was told"),
    (
        "one arrival too many",
        5,
        "fast",
        f"(<too many>: all 1 have arrived, and the phase has not|{DEADLOCK})",
    ),
    ("they do not wait", 6, "checked", f"({UNDER_WAY}|<read> .* which no thread of the block)"),
    (
        "they wait for the other phase",
        7,
        "checked",
        f"({UNDER_WAY}|<read> .* which no thread|{DEADLOCK})",
    ),
    ("no __syncwarp", 8, "checked", rf"<copy> writes byte \d+ .* has read at <read>{BETWEEN}"),
    ("nobody arrives", 9, "fast", f"{DEADLOCK}.*<consumer waits>.*<producer waits>"),
    ("written behind the copy", 11, "checked", "<extra> reads .* at <behind the copy>"),
    (
        "an arrival too many of those who read",
        13,
        "checked",
        r"<copy> writes byte \d+ .* has read at <read>",
    ),
    ("written between arrival and copy", 12, "checked", "<extra> reads .* at <before the copy>"),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("fault", "mode", "says"), [w[1:] for w in WRONG_RINGS], ids=[w[0] for w in WRONG_RINGS]
)
def test_a_wrong_ring_is_reported(fault, mode, says, order):
    report = trouble(lambda: ring(mode, order, fault))
    assert re.match(r"ring: block \(0,0,0\) thread \(\d+,0,0\): ", report), report
    assert re.search(says, report), report


def one(mode, fault, order="forward"):
    """Whether the copy comes out right; the map and `source` are of the same array."""
    n, x = 512, np.array(X)
    view, y = (x, 0, (64, 20, 1), (1, 64, 1280), (64, 8, 1)), np.zeros(512, u16)
    right = boxes_at(view, (0, 0, 0))
    run("one_copy", mode, order, 64, view, y, x, i32(n), i32(fault), shared=2 * n + 512)
    return np.array_equal(y, right)


INIT, TENSOR = "mbarrier.init at <{}>: ", "cp.async.bulk.tensor at <{}>: "
UNKNOWN = " at <{}>: there is no mbarrier; nobody has made it with init"
TARGET = "the target must lie in shared memory, at a multiple of 1024"
MISUSES = [
    (1, INIT.format("odd") + "it must lie in shared memory, at a multiple of 8"),
    (2, INIT.format("odd memory") + "it must lie in shared memory"),
    (3, INIT.format("nobody") + "for nobody"),
    (4, "mbarrier.(arrive|try_wait)" + UNKNOWN.format("(expect|wait) one")),
    (5, INIT.format("twice") + "it is there already"),
    (7, "mbarrier.arrive at <expect one>: something else has been written over the mbarrier"),
    (8, "mbarrier.arrive" + UNKNOWN.format("stranger")),
    (9, "mbarrier.try_wait" + UNKNOWN.format("stranger waits")),
    (10, "cp.async.bulk.tensor" + UNKNOWN.format("stranger copies")),
    (11, TENSOR.format("misplaced") + TARGET),
    (12, TENSOR.format("misplaced past") + TARGET),
    (13, TENSOR.format("misplaced far") + TARGET),
    (14, TENSOR.format("rank") + "4 coordinates for 3 dimensions"),
    (
        15,
        r"one_copy: block \(0,0,0\): it ends while a copy is under way, for which nobody",
    ),
    (16, "mbarrier.try_wait at <parity>: the parity is 2, neither 0 nor 1"),
    (23, f"{DEADLOCK}: 63 in mbarrier.try_wait at <wait one>"),  # they have not seen the phase end
    (21, "mbarrier.try_wait at <wait again>: something else has been written over the mbarrier"),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("fault", "says"), MISUSES)
def test_misuse_is_an_error_with_its_line(fault, says, order):
    assert re.search(says, trouble(lambda: one("fast", fault, order)))


@pytest.mark.parametrize(
    "given",
    [
        X,
        (X, 0, (64, 9, 1), (1, 64, 0)),
        (X.view(np.uint8), 0, (64, 9, 1), (1, 64, 0), (64, 8, 1)),
        (X, 0, (64,), (1,), (64,)),
        (X, 0, (8,) * 5, (1, *[8] * 4), (64, *[1] * 4)),
        (X, 0, (64, 9, 1), (1, 64), (64, 8, 1)),
        (X, 0, (64, 9, 1), (2, 64, 0), (64, 8, 1)),
        (X, 0, (60, 9, 1), (1, 64, 0), (64, 8, 1)),
        (X, 0, (64, 9, 1), (1, 64, 0), (32, 8, 1)),
    ],
    ids=lambda given: str(given[1:]) if isinstance(given, tuple) else "an array",
)
def test_what_is_no_map_is_refused(given):
    with pytest.raises(RuntimeError, match=r"^box_of_four: map (is no|must be a) map of boxes"):
        run("box_of_four", "fast", "forward", 64, given, X, *map(i32, (8, 0, 0, 0, 0)), shared=64)


def test_an_mbarrier_that_only_its_maker_knows_of():
    """No __syncthreads behind init: some order shows it, checked mode always does."""
    assert "nobody has made it with init" in trouble(lambda: one("fast", 6, "reverse"))
    for order in ORDERS:
        report = trouble(lambda order=order: one("checked", 6, order))
        assert re.search("(has written at <init>|which no thread of the block has|no mbar)", report)


def test_what_is_read_before_the_wait_is_poison():
    n, y = 512, np.zeros(512, u16)
    view = plain(64, 20, 1, box=(64, 8, 1))
    run("too_early", "fast", "forward", 64, view, y, i32(n), i32(0), shared=2 * n)
    assert (y == 0xFFFF).all()
    run("too_early", "fast", "forward", 64, view, y, i32(n), i32(1), shared=2 * n)
    assert (y == 0xFFFF).all(), "the wrong parity"
    for parity in (0, 1):
        numbers = i32(n), i32(parity)
        report = trouble(
            lambda given=numbers: run(
                "too_early", "checked", "forward", 64, view, y, *given, shared=2 * n
            )
        )
        assert re.search(r"<too early> reads .* at <early copy> is still under way", report)


@pytest.mark.parametrize("order", ORDERS)
def test_races_of_a_copy_are_found(order):
    assert one("checked", 0, order)
    assert one("checked", 22, order)
    read = r"<copy one> reads map\[3\], which thread \(40,0,0\) has written at <source>"
    written = (
        r"<source> writes source\[3\], which the copy of a box has read at <copy one>; no wait"
    )
    assert re.search(f"({read}|{written})", trouble(lambda: one("checked", 17, order)))
    target = "<target> writes byte 18 of the dynamic .* <copy one> is still under way"
    early = "<copy one> writes byte 18 .* has written at <target>"
    after = "<target> writes byte 18 .* which the copy of a box has written at <copy one>; no wait"
    assert re.search(f"({target}|{early}|{after})", trouble(lambda: one("checked", 18, order)))
    report = trouble(lambda: one("checked", 19, order))
    late = "<dump> reads .* which the copy of a box has written at <copy one>; no wait for an mb"
    soon = "<dump> reads .* is still under way"
    assert re.search(f"({late}|{soon}|<dump> .* which no thread of)", report)
    assert one("checked", 20, order), "the source may be overwritten behind the wait"
