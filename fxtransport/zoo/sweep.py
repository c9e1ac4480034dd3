"""Study models in worker processes.

A worker that crashes or takes too long is replaced, and its model is recorded as refused. The
others continue.
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
"""The seconds that one model may take."""
STARTUP = 120.0
"""The additional seconds that a worker may take to start."""
GRACE = 1.0
"""The seconds that a worker may take to end by itself."""


def sweep(
    names: Sequence[str],
    options: Options | None = None,
    *,
    jobs: int = 1,
    timeout: float = TIMEOUT,
) -> Generator[Record, None, None]:
    """Study models in worker processes, and yield records in the order in which they finish.

    Args:
        names: As :func:`fxtransport.models.resolve` takes them.
        options: What is asked of every model.
        jobs: How many workers there are, each with one thread.
        timeout: The seconds that one model may take.
    """
    waiting = deque(resolve(name).canonical for name in names)
    workers = [_Worker(timeout, options or Options()) for _ in range(jobs)]
    try:
        while True:
            for worker in workers:
                if worker.model is None and waiting:
                    worker.submit(waiting.popleft())
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
    """A process that studies one model after another, and is replaced when it fails."""

    def __init__(self, timeout: float, options: Options) -> None:
        self.timeout = timeout
        self.options = options
        self.model: str | None = None
        self.deadline = math.inf
        self.started = 0.0
        self.process: SpawnProcess | None = None
        self.connection: Connection[Any, Any]

    def submit(self, model: str) -> None:
        """Start the study of a model."""
        startup = 0.0
        if self.process is None or not self.process.is_alive():
            self._start()
            startup = STARTUP
        self.model = model
        self.started = time.monotonic()
        self.deadline = self.started + startup + self.timeout
        with suppress(OSError):  # if it dies now, outcome() will notice
            self.connection.send(model)

    def outcome(self) -> Record | None:
        """The record of the model, if it is finished."""
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
        """End the process, after ``grace`` seconds in which it may end itself; return its code."""
        if self.process is None:
            return None
        self.connection.close()  # upon which an idle worker ends
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
    """Study the models whose names arrive, until the other end of the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it cleans up
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # imported modules stay; the garbage collector need not visit them for every model
    import_module("timm")
    import_module("torchvision")
    gc.freeze()
    try:
        _study_received(connection, options)
    finally:
        # libraries in C++ check for leaks when the process ends
        gc.unfreeze()


def _study_received(connection: "Connection[Any, Any]", options: Options) -> None:
    connection.send(None)
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        with redirect_stdout(sys.stderr):
            record = study(name, options)
        with suppress(BrokenPipeError):  # the other end is closed, which recv() will notice
            connection.send(record)
        FakeTensorMode.cache_clear()  # shared by all modes, it keeps every shape
        gc.collect()
