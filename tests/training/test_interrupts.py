"""Signals are noted once, and what was there before is put back."""

import os
import signal
import threading

import pytest

from fxtransport.training.interrupts import SignalWatch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_ends_at_once(number: signal.Signals) -> None:
    class EndedError(Exception):
        pass

    def end(*_: object) -> None:
        raise EndedError

    before = signal.signal(number, end)
    try:
        with SignalWatch() as watch:
            os.kill(os.getpid(), number)
            assert watch.received == number
            with pytest.raises(EndedError):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with SignalWatch() as watch:
            os.kill(os.getpid(), signal.SIGINT)
            assert watch.received is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_threads_have_no_handlers() -> None:
    found = []

    def enter() -> None:
        with SignalWatch() as watch:
            found.append(watch.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [None]
