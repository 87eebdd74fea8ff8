"""Signals become a wish that is noted; handlers are put back."""

import signal
import threading

import pytest

from unetcu.training.interrupts import Interrupts

BOTH = (signal.SIGINT, signal.SIGTERM)


def test_nothing_happened():
    with Interrupts() as stop:
        assert stop.signal == 0
        assert stop.exit_code == 0
    assert stop.exit_code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_and_the_work_goes_on(number, code):
    before = [signal.getsignal(n) for n in BOTH]
    with Interrupts() as stop:
        assert [signal.getsignal(n) for n in BOTH] != before
        signal.raise_signal(number)
        assert stop.signal == number
    assert (stop.signal, stop.exit_code) == (number, code)
    assert [signal.getsignal(n) for n in BOTH] == before
    with Interrupts() as other:
        assert other.signal == 0


@pytest.mark.parametrize("first", BOTH)
def test_ctrl_c_after_a_signal_acts_at_once(first):
    before = [signal.getsignal(n) for n in BOTH]
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with Interrupts() as stop:
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGTERM)  # asks for the same again
            assert stop.signal
            signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C was swallowed")
    assert [signal.getsignal(n) for n in BOTH] == before


def test_handlers_are_put_back_after_an_error():
    before = [signal.getsignal(n) for n in BOTH]
    with pytest.raises(ZeroDivisionError), Interrupts():
        raise ZeroDivisionError
    assert [signal.getsignal(n) for n in BOTH] == before


def test_handlers_of_the_caller_are_put_back():
    seen = []

    def own(number, frame):
        seen.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGTERM)
        assert seen == []
        signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_on_another_thread_signals_are_left_alone():
    before = [signal.getsignal(n) for n in BOTH]
    inside = []

    def work():
        with Interrupts() as stop:
            inside.append(([signal.getsignal(n) for n in BOTH], stop.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(before, 0)]
