"""Run workers and gather their verdicts; where one dies, another goes on after that seed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parent.parent.parent
BATCH = 100
WORDS = 9
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""One thread, so that processes can be forked; the programs run on the CPU."""
Verdict = dict[str, Any]


def run(first: int, programs: int, workers: int, batch: int = BATCH) -> Iterator[Verdict]:
    """The verdicts on the programs of seeds in a row, as they come."""
    found: SimpleQueue[Verdict | None] = SimpleQueue()
    with ThreadPoolExecutor(workers) as pool:

        def work(start: int) -> None:
            try:
                run_batch(start, min(batch, first + programs - start), found.put)
            finally:
                found.put(None)

        jobs = [pool.submit(work, start) for start in range(first, first + programs, batch)]
        running = len(jobs)
        while running:
            verdict = found.get()
            if verdict is None:
                running -= 1
            else:
                yield verdict
        for job in jobs:
            job.result()


def run_batch(first: int, count: int, give: Callable[[Verdict], None]) -> None:
    """Give the verdicts of one worker, and of those that go on where it died."""
    seed, end = first, first + count
    while seed < end:
        command = [sys.executable, "-m", "tests.fuzzing.worker", "--first", str(seed)]
        with subprocess.Popen(
            [*command, "--count", str(end - seed)],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                give(json.loads(line))
                seed += 1
        if seed < end:
            give(crash(seed, f"the worker ended with {worker.returncode}"))
            seed += 1


def crash(seed: int, message: str) -> Verdict:
    """The verdict on a program that killed its worker."""
    numbers = {"seed": seed, "steps": 0, "guarded": [], "residuals": 0, "parts": 0}
    return {"verdict": "crashed", "error": "worker", "message": message, **numbers}


def gist(message: str) -> str:
    """The first words of a message, without what differs from program to program."""
    line = (message.split(" | ")[0].strip().splitlines() or [""])[0]
    line = re.sub(r"\S*program\d*\S*\.py:\d+", "FILE", line)
    line = re.sub(r"\S*/(\w+\.py):\d+", r"\1", line)
    line = re.sub(r"\([A-Z]\w*\)|'[^']*'|\"[^\"]*\"", "…", line)
    line = re.sub(r"\b(blocks?|block\d|named\w*|through\w*|linear\w*)[.\w]*", "PATH", line)
    line = re.sub(r"\d[\d.e+-]*", "N", line)
    return " ".join(line.split()[:WORDS])
