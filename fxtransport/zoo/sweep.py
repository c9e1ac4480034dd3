"""Study models in worker processes.

A worker that crashes or takes too long is replaced, and its model recorded as refused; the
others go on.
"""

import gc
import math
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fxtransport.models import resolve
from fxtransport.zoo.record import Options, Record, Refusal
from fxtransport.zoo.study import family, study

TIMEOUT = 120.0
"""Seconds for one model."""
STARTUP = 120.0
"""Seconds for a worker to start, on top."""
GRACE = 1.0
"""Seconds for a worker to leave by itself."""


def sweep(
    names: Sequence[str],
    options: Options | None = None,
    *,
    jobs: int = 1,
    timeout: float = TIMEOUT,
) -> Generator[Record, None, None]:
    """Study models in worker processes; records come in the order in which they are done.

    Args:
        names: As :func:`fxtransport.models.resolve` takes them.
        options: What is asked of every model.
        jobs: How many workers, each with one thread.
        timeout: Seconds for one model.
    """
    waiting = deque(resolve(name).canonical for name in names)
    workers = [_Worker(timeout, options or Options()) for _ in range(jobs)]
    try:
        while True:
            for worker in workers:
                if worker.model is None and waiting:
                    worker.give(waiting.popleft())
            busy = [worker for worker in workers if worker.model is not None]
            if not busy:
                return
            until = min(worker.deadline for worker in busy)
            wait([worker.connection for worker in busy], max(0.0, until - time.monotonic()))
            for worker in busy:
                if record := worker.outcome():
                    yield record
    finally:
        for worker in workers:
            worker.stop(grace=GRACE if worker.model is None else 0.0)


class _Worker:
    """A process that studies one model after the other, and is replaced when it fails."""

    def __init__(self, timeout: float, options: Options) -> None:
        self.timeout = timeout
        self.options = options
        self.model: str | None = None
        self.deadline = math.inf
        self.started = 0.0
        self.process: SpawnProcess | None = None
        self.connection: Connection[Any, Any]

    def give(self, model: str) -> None:
        """Have a model studied."""
        startup = 0.0
        if self.process is None or not self.process.is_alive():
            self._start()
            startup = STARTUP
        self.model = model
        self.started = time.monotonic()
        self.deadline = self.started + startup + self.timeout
        with suppress(OSError):  # if it dies right now, outcome() will see
            self.connection.send(model)

    def outcome(self) -> Record | None:
        """The record of the model, if there is one yet."""
        assert self.model is not None
        if not self.connection.poll():
            if time.monotonic() < self.deadline:
                return None
            self.stop(grace=0.0)
            return self._failed("Timeout", f"took more than {self.timeout:g} s")
        try:
            received = self.connection.recv()
        except (EOFError, OSError):  # the process has died
            return self._failed("Crash", f"the process ended with code {self.stop(GRACE)}")
        if received is None:  # it has started
            self.started = time.monotonic()
            self.deadline = self.started + self.timeout
            return None
        assert isinstance(received, Record)
        self.model = None
        return received

    def stop(self, grace: float) -> int | None:
        """End the process, after seconds in which it may do so itself; return its exit code."""
        if self.process is None:
            return None
        self.connection.close()  # at which an idle one leaves
        self.process.join(grace)
        self.process.terminate()
        self.process.join(GRACE)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process = None
        return code

    def _start(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.options), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection

    def _failed(self, error: str, slug: str) -> Record:
        assert self.model is not None
        spec = resolve(self.model)
        self.model = None
        seconds = round(time.monotonic() - self.started, 3)
        refusal = Refusal(error, slug, f"{spec.canonical}: {slug}")
        return Record(spec.canonical, family(spec), seconds, refusal=refusal)


def _serve(connection: "Connection[Any, Any]", options: Options) -> None:
    """Study the models whose names arrive, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it cleans up
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # what is imported stays, and need not be looked through for garbage with every model
    import_module("timm")
    import_module("torchvision")
    gc.freeze()
    try:
        _study_what_comes(connection, options)
    finally:
        # libraries that are written in C++ look for leaks when the process ends
        gc.unfreeze()


def _study_what_comes(connection: "Connection[Any, Any]", options: Options) -> None:
    connection.send(None)
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        with redirect_stdout(sys.stderr):
            record = study(name, options)
        with suppress(BrokenPipeError):  # nobody listens any more, which recv() will see
            connection.send(record)
        FakeTensorMode.cache_clear()  # which all modes share, and which keeps every shape seen
        gc.collect()
