"""Run workers and gather their verdicts; where one dies, another goes on after that seed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
BATCH = 100
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""One thread, so that processes can be forked; the programs run on the CPU."""
Verdict = dict[str, Any]


def run(first: int, programs: int, workers: int, batch: int = BATCH) -> Iterator[Verdict]:
    """The verdicts on the programs of seeds in a row, as batches of them end."""
    ends = range(first, first + programs, batch)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(run_batch, k, min(batch, first + programs - k)) for k in ends]
        for job in as_completed(jobs):
            yield from job.result()


def run_batch(first: int, count: int) -> list[Verdict]:
    """The verdicts of one worker, and of those that go on where it died."""
    found: list[Verdict] = []
    while len(found) < count:
        seed = first + len(found)
        command = [sys.executable, "-m", "tests.fuzzing.worker", "--first", str(seed)]
        ended = subprocess.run(
            [*command, "--count", str(count - len(found))],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            check=False,
        )
        found += [json.loads(line) for line in ended.stdout.splitlines() if line.endswith("}")]
        if len(found) < count:
            reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
            found.append(
                {
                    "verdict": "crashed",
                    "error": "worker",
                    "message": reason,
                    "seed": first + len(found),
                    "steps": 0,
                    "guarded": [],
                    "residuals": 0,
                    "parts": 0,
                }
            )
    return found
