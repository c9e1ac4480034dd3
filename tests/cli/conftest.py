"""What tests of the command line share: a way to run commands, and processes that hear Ctrl-C."""

import signal
from collections.abc import Iterator

import pytest

from tests.cli.running import Command, in_process


@pytest.fixture
def run() -> Command:
    """Run the command line."""
    return in_process


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Let processes that tests start hear Ctrl-C.

    A shell starts what runs in the background with the signal ignored, and every child
    inherits that.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)
