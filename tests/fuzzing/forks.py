"""Run something for many seeds in forks of this process, which has imported all.

Where a fork dies, another one goes on after that seed. This process must have one thread, for a
fork has none of the others.
"""

import json
import os
import resource
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

SECONDS = 20
"""The longest that the work for one seed may take."""
MEMORY = 4 * 2**30
"""The most bytes that a fork may allocate."""
BATCH = 25
"""The number of seeds for one fork, which shares with this process what it does not change."""
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Ended:
    """How something ended: its exit code, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str


def captured(work: Callable[[], int], folder: Path, seconds: int = SECONDS) -> Ended:
    """Run something here as a process would be run.

    Args:
        work: Returns the exit code, or raises SystemExit.
        folder: Where its output is kept.
        seconds: After these the system ends this process, also where no Python runs.
    """
    kept = [os.dup(1), os.dup(2)]
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    code: Any = 1
    try:
        code = work()
    except SystemExit as done:
        code = done.code or 0
    except BaseException:  # noqa: BLE001 - what is not ours is shown, as Python does
        traceback.print_exc()
    finally:
        signal.alarm(0)
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
    out, err = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    return Ended(code, out, err)


def in_fork(work: Callable[[], None]) -> int:
    """Start something in a fork, and return the number of its process."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # torch makes its pool of threads again at the first call after a fork, which must not be
        # one of two threads that call it at once
        torch.set_num_threads(1)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the fork ends here, whatever happens
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a fork, once it has ended; below 0, the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@dataclass(frozen=True)
class _Batch:
    process: int
    seeds: range
    found: Path


def for_each(
    work: Callable[[int], Any],
    died: Callable[[int, int], Any],
    seeds: range,
    folder: Path,
    workers: int,
) -> Iterator[Any]:
    """What is found for each seed, in order.

    Args:
        work: From a seed to a value of JSON, in a fork.
        died: From a seed and the signal that ended its fork to such a value, here.
        seeds: All seeds.
        folder: Where values are kept.
        workers: How many forks there are at once.
    """
    running: deque[_Batch] = deque()
    for first in range(seeds.start, seeds.stop, BATCH):
        running.append(_begin(work, range(first, min(first + BATCH, seeds.stop)), folder))
        if len(running) == workers:
            yield from _finish(running.popleft(), work, died, folder)
    for batch in running:
        yield from _finish(batch, work, died, folder)


def _begin(work: Callable[[int], Any], seeds: range, folder: Path) -> _Batch:
    found = folder / f"found{seeds.start}"
    return _Batch(in_fork(partial(_write_each, work, seeds, found)), seeds, found)


def _write_each(work: Callable[[int], Any], seeds: range, found: Path) -> None:
    with found.open("w") as file:
        for seed in seeds:
            file.write(f"{json.dumps(work(seed))}\n")
            file.flush()


def _finish(
    batch: _Batch, work: Callable[[int], Any], died: Callable[[int, int], Any], folder: Path
) -> Iterator[Any]:
    """The values of a batch, and of those that go on where it died."""
    while True:
        code = ended(batch.process)
        lines = batch.found.read_text().splitlines()
        batch.found.unlink()
        yield from map(json.loads, lines)
        rest = batch.seeds[len(lines) :]
        assert code <= 0, f"the fork of seed {rest.start} failed"
        if not rest:
            return
        yield died(rest.start, -code)
        if len(rest) == 1:
            return
        batch = _begin(work, rest[1:], folder)
