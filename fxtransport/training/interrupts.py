"""Let signals end a run after a step, not within one."""

import signal
import threading
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalWatch:
    """While it is active, SIGINT and SIGTERM are noted instead of ending the process.

    After the first of them, the handlers that were there before are back, so that a second
    one ends the process at once. A signal that was ignored stays so. Outside the main thread
    nothing is watched, for Python has no handlers there.
    """

    received: signal.Signals | None = None
    """The signal that came."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._put_back()

    def _put_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
