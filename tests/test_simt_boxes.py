"""The SIMT runtime: mbarriers, and boxes copied by TMA: right uses, in every order and mode. Wrong
ones: test_simt_boxes_wrong.py."""

import numpy as np
import pytest
from simt_boxes import MODES, X, boxes_at, plain, ring, run, u16
from simt_launch import ORDERS, i32
from simt_units import unit

DENSE = plain(72, 6, 8, box=(64, 4, 2))
THREE = {
    "dense": DENSE,
    "windows that overlap": (X, 8, (64, 9, 5), (1, 8, 24), (64, 3, 5)),
    "a later index is the faster": (X, 16, (80, 5, 4), (1, 320, 80), (64, 2, 3)),
    "the same row again and again": (X, 0, (64, 7, 2), (1, 0, 64), (64, 8, 1)),
    "narrower than a box": (X, 0, (8, 20, 20), (1, 8, 160), (64, 5, 3)),
    "another start": plain(72, 6, 8, box=(64, 1, 9), start=504),
}
FOUR = {
    "rows of one kind": (X, 80, (40, 3, 5, 3), (1, 400, 40, 1200), (64, 2, 7, 1)),
    "overlapping and not monotone": (X, 0, (64, 4, 6, 3), (1, 1000, 8, 16), (64, 8, 3, 2)),
}


def corners(view):
    """Coordinates with which a box lies inside, across each side and beyond it."""
    _, _, sizes, _, box = view
    inside = [0] * len(sizes)
    yield inside
    for d, (size, count) in enumerate(zip(sizes, box, strict=True)):
        for first in (-count - 9, -count, 1 - count, -1, 1, size - 1, size, size + 3, -(2**31)):
            yield [*inside[:d], first, *inside[d + 1 :]]
    yield [-3] * len(sizes)
    yield [n - 1 for n in sizes]
    yield [2**31 - 1] * len(sizes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*THREE, *FOUR])
def test_boxes_inside_across_and_beyond_every_side(name, mode):
    view = THREE.get(name) or FOUR[name]
    n = int(np.prod(view[4]))
    entry, more = ("box_of_three", [i32(0)]) if name in THREE else ("box_of_four", [])
    for k, at in enumerate(corners(view)):
        y = np.full(n, 0xABCD, u16)
        guard = ("after", "before", "none")[k % 3]
        given = [view, y, i32(n), *map(i32, at), *more]
        run(entry, mode, ORDERS[k % 3], 64, *given, shared=2 * n, guard=guard)
        assert np.array_equal(y, boxes_at(view, at)), at


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_what_is_expected_may_be_told_before_the_copy_behind_it_and_by_another(order, mode):
    n = 512
    for expects in range(3):
        y = np.zeros(n, u16)
        numbers = map(i32, (n, 8, -1, 2, expects))
        run("box_of_three", mode, order, 96, DENSE, y, *numbers, shared=2 * n)
        assert np.array_equal(y, boxes_at(DENSE, (8, -1, 2)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_two_boxes_and_two_arrivals_end_each_of_several_phases(order, mode):
    four = FOUR["overlapping and not monotone"]
    n_a, n_b, phases = 512, 64 * 8 * 3 * 2, 5
    y = np.zeros(phases * (n_a + n_b), u16)
    numbers = map(i32, (n_a, n_b, phases))
    run("phase_after_phase", mode, order, 96, DENSE, four, y, *numbers, shared=2 * (n_a + n_b))
    right = [
        part
        for i in range(phases)
        for part in (boxes_at(DENSE, (8 * i, i - 1, 0)), boxes_at(four, (0, i, 1, -i)))
    ]
    assert np.array_equal(y, np.concatenate(right))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_a_ring_of_two_places_goes_round_and_round(order, mode):
    for warps in (1, 2, 3):
        assert np.array_equal(*ring(mode, order, warps=warps))
    got, right = ring(mode, order, fault=10)  # what was written before the arrival is there
    right[0] += 1
    assert np.array_equal(got, right)


def test_a_profile_counts_what_a_box_reads_once():
    """Each of its rows that lies inside as one request, of 4 sectors."""
    view = plain(64, 8, 4, box=(64, 4, 2))
    for first, right in ((0, [(8, 1024, 32)]), (6, [(4, 512, 16)]), (8, [])):
        given = [view, np.zeros(512, u16), *map(i32, (512, 0, first, 0, 0))]
        rows = unit("boxes", "profile").launch(
            "box_of_three", 1, 64, *given, shared=1024, profile=True
        )
        loads = [r for r in rows if r["array"] == "map"]
        assert [(r["requests"], r["bytes"], r["sectors"]) for r in loads] == right
