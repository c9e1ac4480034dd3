"""Let signals end a run after a step, not during one."""

import signal
import threading
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalWatch:
    """While it is active, SIGINT and SIGTERM are noted instead of ending the process.

    The first of them restores the handlers from before, so that a second one ends the process
    at once. A signal that was ignored stays ignored. Outside the main thread, where Python has
    no signal handlers, nothing is watched.
    """

    received: signal.Signals | None = None
    """The signal that was received."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
