"""Run something in a fork of this process, which has imported all, and see how it ends.

It needs one thread: a fork has none of the others.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

SECONDS = 20
"""The longest that it may take."""
MEMORY = 4 * 2**30
"""The most bytes that it may allocate."""
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Ended:
    """How a fork ended.

    Attributes:
        code: Its exit code; below 0, the signal that ended it.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
    """

    code: int
    out: str
    err: str

    @property
    def timed_out(self) -> bool:
        """Whether it took too long."""
        return self.code == -signal.SIGALRM


@dataclass(frozen=True)
class Running:
    """A fork that runs."""

    pid: int
    folder: Path

    def wait(self) -> Ended:
        """Wait until it has ended."""
        _, status = os.waitpid(self.pid, 0)
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(os.waitstatus_to_exitcode(status), out, err)


def start(work: Callable[[], int], folder: Path, seconds: int = SECONDS) -> Running:
    """Run something in a fork.

    Args:
        work: Returns the exit code; it may end the process itself.
        folder: Where its output is kept.
        seconds: The longest that it may take.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Running(pid, folder)
    code = 1
    try:
        _become(folder, seconds)
        code = work()
    except BaseException:  # noqa: BLE001 - what is not ours is shown, and ends the fork
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(folder: Path, seconds: int) -> None:
    """Set the streams and limits of a fork."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # torch makes its pool of threads again at the first call after a fork, which must not be one
    # of two threads that call it at once
    torch.set_num_threads(1)
    # the alarm ends the process also where no Python runs
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
