"""Worker threads: order, errors, the BLAS switch, scratch memory."""

import threading
import time

import numpy as np
import pytest

from unetcu import threads
from unetcu.errors import UsageError
from unetcu.threads import blas_control, each, in_order, one_blas_thread, scratch

COUNTS = [1, 2, 3, 4]


@pytest.fixture(params=COUNTS)
def workers(request, monkeypatch):
    monkeypatch.setattr(threads, "_count", request.param)
    return request.param


def test_results_come_in_order_however_long_each_takes(workers):
    def work(i):
        time.sleep(0.002 if i % 3 == 0 else 0)
        return i

    for parts in (0, 1, 2, 7, 20):
        assert list(in_order(work, parts)) == list(range(parts))


def test_each_calls_every_part_once(workers):
    calls = []
    each(calls.append, 50)
    assert sorted(calls) == list(range(50))


def test_parts_run_side_by_side(monkeypatch):
    monkeypatch.setattr(threads, "_count", 3)
    meet = threading.Barrier(3, timeout=10)
    assert len(set(in_order(lambda i: (meet.wait(), threading.get_ident())[1], 3))) == 3


def test_few_results_wait(workers):
    """A consumer that is slow must not let results pile up: memory is bounded."""
    started, waiting = [], []
    for taken, _ in enumerate(in_order(started.append, 30), 1):
        time.sleep(0.001)
        waiting.append(len(started) - taken)
    assert max(waiting) <= workers + 1


def test_an_error_comes_out_and_nothing_still_runs(workers):
    running = []

    def work(i):
        if i == 3:
            raise ValueError("part three")
        running.append(i)
        time.sleep(0.005)
        running.remove(i)

    with pytest.raises(ValueError, match="part three"):
        each(work, 12)
    assert running == []
    assert list(in_order(lambda i: i, 3)) == [0, 1, 2]


def test_a_consumer_that_stops_early_leaves_nothing_running(workers):
    running = []

    def work(i):
        running.append(i)
        time.sleep(0.005)
        running.remove(i)
        return i

    results = in_order(work, 20)
    assert next(results) == 0
    results.close()
    assert running == []


needs_control = pytest.mark.skipif(blas_control() is None, reason="this BLAS has no switch")


@pytest.fixture
def blas_of_two():
    """The BLAS set to two threads, and set back."""
    control = blas_control()
    assert control is not None
    put, get = control
    before = get()
    put(2)
    if get() != 2:
        pytest.fail("the BLAS does not follow its switch")
    yield get
    put(before)


@needs_control
def test_the_blas_is_held_to_one_thread_inside_only(blas_of_two, workers):
    get = blas_of_two
    assert list(in_order(lambda i: get(), 3)) == [1, 1, 1]
    assert get() == 2
    with one_blas_thread():
        assert get() == 1
        with one_blas_thread():
            assert get() == 1
        assert get() == 1
        each(lambda i: None, 3)
        assert get() == 1
    assert get() == 2


@needs_control
def test_the_blas_is_set_back_after_an_error_or_an_early_stop(blas_of_two, workers):
    get = blas_of_two
    with pytest.raises(ZeroDivisionError):
        each(lambda i: 1 // i, 3)
    assert get() == 2
    results = in_order(lambda i: i, 9)
    next(results)
    assert get() == 1
    results.close()
    assert get() == 2


@needs_control
def test_two_users_at_once_keep_it_at_one_until_both_are_done(blas_of_two):
    """The first to leave must not hand the second one's products to more threads."""
    get = blas_of_two
    first_inside, second_inside = threading.Event(), threading.Event()
    seen = []

    def second():
        assert first_inside.wait(10)
        with one_blas_thread():
            second_inside.set()
            first.join()
            seen.append(get())

    def first_user():
        with one_blas_thread():
            first_inside.set()
            assert second_inside.wait(10)

    first = threading.Thread(target=first_user)
    other = threading.Thread(target=second)
    first.start()
    other.start()
    other.join()
    assert seen == [1]
    assert get() == 2


def test_the_count_is_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.delenv("UNETCU_THREADS", raising=False)
    assert threads.count() >= 1
    monkeypatch.setenv("UNETCU_THREADS", "7")
    assert threads.count() == 7
    threads.set_count(3)
    assert threads.count() == 3


@pytest.mark.parametrize("asked", [0, -1, 1025, "two", "", "1.5"])
def test_counts_that_make_no_sense(monkeypatch, asked):
    with pytest.raises(UsageError, match="from 1 to 1024, got"):
        threads.set_count(asked)
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setenv("UNETCU_THREADS", str(asked))
    with pytest.raises(UsageError, match="from 1 to 1024, got"):
        threads.count()


def test_scratch_is_one_buffer_a_key_and_a_thread():
    a = scratch("a test", (3, 4), np.dtype(np.float32))
    assert a.shape == (3, 4)
    assert a.dtype == np.float32
    again = scratch("a test", (6,), np.dtype(np.float64))
    assert np.shares_memory(a, again)
    assert again.dtype == np.float64
    larger = scratch("a test", (100,), np.dtype(np.float64))
    assert not np.shares_memory(a, larger)
    assert not np.shares_memory(larger, scratch("another test", (100,), np.dtype(np.float64)))
    elsewhere = []
    thread = threading.Thread(
        target=lambda: elsewhere.append(scratch("a test", (100,), np.dtype(np.float64)))
    )
    thread.start()
    thread.join()
    assert not np.shares_memory(larger, elsewhere[0])
    assert scratch("a test", (0, 5), np.dtype(np.float32)).size == 0
