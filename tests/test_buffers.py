"""Memory that is handed out again: no two arrays share any, holes are found and joined."""

import gc
import sys
import threading

import numpy as np
import pytest

from unetcu.device import cpu, device
from unetcu.device.buffers import LEAST, PAGE, Buffers, region

BYTE = np.dtype(np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system may refuse a region")
def test_linux_has_a_region():
    """Else a region that is no longer made would silently skip what is tested with it."""
    assert region() is not None


@pytest.fixture
def buffers():
    made = region()
    if made is None:
        pytest.skip("the system refuses the address space of a region")
    return Buffers(16 * PAGE)


def take(buffers, pages):
    return buffers.empty((pages * PAGE,), BYTE)


def test_arrays_have_the_shape_asked_for(buffers):
    x = buffers.empty((3, 5, 7), np.dtype(np.float64))
    assert (x.shape, x.dtype, x.flags.c_contiguous, x.flags.writeable) == (
        (3, 5, 7), np.float64, True, True,
    )  # fmt: skip
    x[...] = 1.5
    assert x.sum() == 157.5
    assert x.ctypes.data % 64 == 0
    assert buffers.highest == PAGE


def test_a_piece_is_free_when_its_last_view_is_gone(buffers):
    x = take(buffers, 16)
    assert take(buffers, 1) is None
    view = x[5:].view(np.int8)[::2]
    del x
    assert take(buffers, 1) is None
    del view
    assert take(buffers, 16) is not None


def test_the_smallest_hole_that_fits_is_taken(buffers):
    a, b, c, d = (take(buffers, n) for n in (3, 1, 2, 1))
    assert a is not None
    places = [x.ctypes.data for x in (a, c)]
    del a, c  # holes of 3 and 2 pages, and 9 at the end
    two, three = take(buffers, 2), take(buffers, 3)
    assert [three.ctypes.data, two.ctypes.data] == places
    assert buffers.highest == 7 * PAGE
    del b, d


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]], ids=str)
def test_holes_that_touch_are_joined(buffers, order):
    arrays = {i: take(buffers, n) for i, n in enumerate((4, 5, 7))}
    for i in order:
        del arrays[i]
    assert take(buffers, 16) is not None


def test_random_arrays_never_overlap(rng):
    if region() is None:
        pytest.skip("the system refuses the address space of a region")
    buffers = Buffers(100 * PAGE)
    alive, refused = {}, 0
    for i in range(3000):
        if alive and rng.random() < 0.5:
            number = rng.choice(list(alive))
            assert (alive.pop(number) == number).all()
        x = buffers.empty((int(rng.integers(1, 20 * PAGE // 4)),), np.dtype(np.int32))
        if x is None:
            refused += 1
            alive.pop(next(iter(alive)))
        else:
            x[...] = i
            alive[i] = x
    assert refused < 1000
    assert all((x == i).all() for i, x in alive.items())
    alive.clear()
    del x
    assert take(buffers, 100) is not None


def test_many_threads_at_once():
    if region() is None:
        pytest.skip("the system refuses the address space of a region")
    buffers, wrong = Buffers(4000 * PAGE), []

    def work(number):
        for n in range(300):
            x = buffers.empty((1 + n % 7, 1000), np.dtype(np.int64))
            x[...] = number
            wrong.extend([number] * (not (x == number).all()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert take(buffers, 4000) is not None


def test_large_arrays_of_the_cpu_come_from_there_and_go_back():
    if cpu._region() is None:
        pytest.skip("the system refuses the address space of a region")
    gc.collect()
    first = device("cpu").empty((LEAST,), np.float32)
    place = first.ctypes.data
    del first
    again = device("cpu").empty((LEAST,), np.float32)
    assert again.ctypes.data == place
    assert device("cpu").empty((3, 0, 5)).size == 0
    assert device("cpu").empty(()).shape == ()
