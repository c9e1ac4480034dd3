"""Judge programs, each in a process of its own, and print a line of JSON for each.

    python -m tests.fuzzing.worker --first 0 --count 100

Processes are forked from one that has loaded and used the compiler, so that each starts within
milliseconds from the same state, and a program that kills the interpreter ends only its own.
"""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.fuzzing.grammar import write_seed
from tests.fuzzing.judge import Verdict, judge

SECONDS = 60
SIMPLE = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.linear(x).relu()


class Root(nn.Sequential):
    def __init__(self):
        super().__init__(Block(), Block(), nn.Linear(8, 3))


INPUTS, EXAMPLE, SHAPES, CHANGES = 1, (2, 8), [(3, 8)], []
TRAINING, VERIFY, MODULES, WARM = True, True, 2, False
"""
"""A program that loads all of the compiler."""


def judge_apart(path: Path, seconds: float = SECONDS) -> Verdict:
    """The verdict on a program, from a process that is forked for it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _report(path, writing)
    os.close(writing)
    stopped = _wait(child, seconds)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    if stopped is None:
        return Verdict("timed out", "TimeoutError", f"no verdict within {seconds:.0f} seconds")
    if not text:
        number = -os.waitstatus_to_exitcode(stopped)
        name = signal.Signals(number).name if number > 0 else f"exit code {-number}"
        return Verdict("crashed", name, "the process ended without a verdict")
    return Verdict(**json.loads(text))


def _report(path: Path, writing: int) -> None:
    """In the child: judge, write, and end at once."""
    try:
        # a program may print, and torch logs
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        # the reader waits for the end of the process: a verdict is shorter than a pipe is wide
        os.write(writing, json.dumps(judge(path).as_json()).encode()[:60_000])
    finally:
        os._exit(3)


def _wait(child: int, seconds: float) -> int | None:
    """The status with which a child ended; None if it was stopped."""
    end = time.monotonic() + seconds
    pause = 0.002
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def judge_source(source: str, name: str, folder: Path) -> Verdict:
    """Write a program to a file and judge it apart."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    return judge_apart(path)


def warm_up(folder: Path) -> None:
    """Load and use all that programs need, before processes are forked."""
    torch.set_num_threads(1)
    # those that crash leave no core files
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = folder / "simple.py"
    path.write_text(SIMPLE, encoding="utf-8")
    judge(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge programs of the fuzzer.")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=100, help="the number of programs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up(folder)
        parent = os.getppid()
        for seed in range(given.first, given.first + given.count):
            if os.getppid() != parent:
                break  # nobody reads on
            verdict = judge_source(write_seed(seed).source, f"program{seed}", folder)
            verdict.seed = seed
            sys.stdout.write(json.dumps(verdict.as_json()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
