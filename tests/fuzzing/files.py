"""Files of programs, runs and detectors, damaged at random: each use is as before, or one error.

What is damaged is a copy of a folder. A use prints numbers; they are those of the whole folder,
or the use ends in one line of an error of ours, with its exit code. Files of the user's that lie
in the folder stay. Each use is in a fork of this process, which has one thread.
"""

import argparse
import gc
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzzing.damages import DAMAGES, FORGED, Damage, Folder
from tests.fuzzing.folders import (
    MINE,
    Subject,
    make_detectors,
    make_folders,
    subjects,
    warm_up,
)
from tests.fuzzing.forks import Ended, Running, start
from tests.fuzzing.running import ENVIRONMENT, ROOT

RIGHT = ("same", "refused", "as forged")
"""The verdicts that are right. ``as forged``: whoever knows how hashes are made wrote other
numbers with the right hashes, and they are used."""
_WIDE = 1200
"""The longest line of an error."""
_ERROR, _TRACEBACK = "error: ", re.compile("Traceback")
_FOREIGN = re.compile(r"Traceback|(training|compiler) failed: \w+")
"""In errors of damages that hashes tell, also what fails later and is put into one line."""
_TO_MAKE = 300


@dataclass(frozen=True)
class Verdict:
    """What became of one damaged folder.

    ``verdict`` is ``same``, ``refused``, ``as forged``, ``other numbers``, ``foreign error``,
    ``several lines``, ``hang``, ``crash`` or ``touched``: a file of the user's is gone or changed.
    """

    seed: int
    subject: str
    damage: str
    said: str
    verdict: str
    message: str


@dataclass(frozen=True)
class _Case:
    """A damaged folder that is being used."""

    seed: int
    subject: Subject
    damage: Damage
    said: str
    folder: Folder
    fork: Running


def verdicts(first: int, count: int, workers: int) -> Iterator[Verdict]:
    """The verdicts on the damages of seeds in a row, in a process of one thread."""
    command = [sys.executable, "-m", "tests.fuzzing.files", "--first", str(first)]
    with subprocess.Popen(
        [*command, "--count", str(count), "--workers", str(workers)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            yield Verdict(**json.loads(line))
    assert worker.returncode == 0, f"the worker ended with {worker.returncode}"


def run(root: Path, seeds: range, workers: int = 1) -> Iterator[Verdict]:
    """The verdicts on the damages of some seeds, in order.

    Args:
        root: A folder to work in.
        seeds: One for each damage.
        workers: How many forks run at once.
    """
    for at, name in enumerate(("whole", "other")):
        for make in (make_folders, make_detectors):
            ended = start(partial(make, root / name, at), root, _TO_MAKE).wait()
            assert ended.code == 0, ended.err
    found = subjects(root / "whole")
    warm_up(root / "whole")
    # what is there by now is not looked through, nor copied, by each fork
    gc.freeze()
    expected = [_whole(root, subject) for subject in found]
    running: deque[_Case] = deque()
    for seed in seeds:
        running.append(_damage(root, found[seed % len(found)], seed))
        if len(running) == workers:
            case = running.popleft()
            yield _judge(case, expected[case.seed % len(found)])
    for case in running:
        yield _judge(case, expected[case.seed % len(found)])


def _whole(root: Path, subject: Subject) -> Any:
    """The numbers of a folder that is not damaged."""
    place = root / "case"
    folder = Path(shutil.copytree(root / "whole" / subject.folder, place / subject.folder))
    ended = start(lambda: subject.use(folder), place, _TO_MAKE).wait()
    assert ended.code == 0, ended.err
    numbers = subject.numbers(folder, ended.out.replace(str(folder), "FOLDER"))
    shutil.rmtree(place)
    return numbers


def _damage(root: Path, subject: Subject, seed: int) -> _Case:
    """Damage a copy of a folder, and begin to use it."""
    draw, place = random.Random(seed), root / f"case{seed}"
    path = Path(shutil.copytree(root / "whole" / subject.folder, place / subject.folder))
    files = tuple(p for p in sorted(path.rglob("*")) if p.is_file() and p.name not in MINE)
    folder = Folder(path, files, root / "other" / subject.folder, place / "elsewhere")
    damage, file = draw.choice(DAMAGES), draw.choice(files)
    said = f"{folder.named(file)} {damage(draw, file, folder)}"
    fork = start(lambda: subject.use(path), place)
    return _Case(seed, subject, damage, said, folder, fork)


def _judge(case: _Case, expected: Any) -> Verdict:
    path, elsewhere = case.folder.path, case.folder.elsewhere
    verdict, message = _said(case, case.fork.wait(), expected)
    copy = elsewhere.with_suffix(".copy")
    kept = all(_is_mine(path / name) for name in MINE)
    if not kept or (copy.exists() and copy.read_bytes() != elsewhere.read_bytes()):
        verdict = "touched"
    shutil.rmtree(path.parent)
    name = case.damage.__name__.replace("_", " ")
    return Verdict(case.seed, case.subject.name, name, case.said, verdict, message[:_WIDE])


def _is_mine(path: Path) -> bool:
    return path.is_file() and path.read_text() == "mine"


def _said(case: _Case, ended: Ended, expected: Any) -> tuple[str, str]:
    """The verdict on how a use ended, and what it said."""
    if ended.code < 0:
        return ("hang" if ended.timed_out else "crash"), f"signal {-ended.code}"
    if (_TRACEBACK if case.damage in FORGED else _FOREIGN).search(ended.err):
        return "foreign error", ended.err[-_WIDE:]
    if ended.code == 0:
        path = case.folder.path
        found = case.subject.numbers(path, ended.out.replace(str(path), "FOLDER"))
        if found == expected:
            return "same", ""
        return ("as forged" if case.damage in FORGED else "other numbers"), str(found)
    *before, last = ended.err.rstrip("\n").splitlines() or [""]
    one = last.startswith(_ERROR) and not any(line.startswith(_ERROR) for line in before)
    if not one or len(last) > _WIDE or ended.code not in (1, 2, 3):
        return "several lines", f"{ended.code}: {ended.err[-_WIDE:]}"
    return "refused", last


def main() -> None:
    """Print the verdicts on some seeds, each a line of JSON."""
    parser = argparse.ArgumentParser()
    for name, default in (("first", 0), ("count", 100), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(given.first, given.first + given.count)
        for verdict in run(Path(folder), seeds, given.workers):
            print(json.dumps(asdict(verdict)), flush=True)  # noqa: T201 - what is read
    sys.exit()


if __name__ == "__main__":
    main()
