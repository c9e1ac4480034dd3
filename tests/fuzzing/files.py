"""Files of programs, runs and detectors, damaged at random: each use is as before, or one error.

What is damaged is a copy of a folder. A use prints numbers; they are those of the whole folder,
or the use ends in one line of an error of ours, with its exit code. Files of the user's that lie
in the folder stay.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from signal import SIGALRM
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
from tests.fuzzing.forks import Ended, captured, ended, for_each, in_fork
from tests.fuzzing.running import ENVIRONMENT, ROOT

RIGHT = ("same", "refused", "as forged")
"""The verdicts that are right. ``as forged``: whoever knows how hashes are made wrote other
numbers with the right hashes, and they are used."""
_WIDE = 1200
"""The longest line of an error."""
_ERROR, _TRACEBACK = "error: ", re.compile("Traceback")
_FOREIGN = re.compile(r"Traceback|(training|compiler) failed: \w+")
"""In errors of damages that hashes tell, also what fails later and is put into one line."""


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
    for seed, name in enumerate(("whole", "other")):
        for make in (make_folders, make_detectors):
            assert ended(in_fork(partial(make, root / name, seed))) == 0, make.__name__
    found = subjects(root / "whole")
    warm_up(root / "whole")
    # what is there by now is not looked through, nor copied, by each fork
    gc.freeze()
    expected: list[Any] = []
    for subject in found:
        # in a fork each, which may train
        [numbers] = for_each(
            lambda _, subject=subject: _whole(root, subject), _failed, range(1), root, 1
        )
        expected.append(numbers)

    def died(seed: int, signal: int) -> Any:
        draw, subject = random.Random(seed), found[seed % len(found)]
        name = _named(draw.choice(DAMAGES))
        shutil.rmtree(root / f"case{seed}")
        verdict = "hang" if signal == SIGALRM else "crash"
        return asdict(Verdict(seed, subject.name, name, "", verdict, f"signal {signal}"))

    def judge(seed: int) -> Any:
        return asdict(_judge(root, found[seed % len(found)], expected[seed % len(found)], seed))

    for each in for_each(judge, died, seeds, root, workers):
        yield Verdict(**each)


def _failed(_: int, signal: int) -> Any:
    raise AssertionError(f"the use of a folder that is whole ended with signal {signal}")


def _whole(root: Path, subject: Subject) -> Any:
    """The numbers of a folder that is not damaged."""
    place = root / "case"
    folder = Path(shutil.copytree(root / "whole" / subject.folder, place / subject.folder))
    found = captured(lambda: subject.use(folder), place)
    assert found.code == 0, found.err
    numbers = _numbers(subject, folder, found)
    shutil.rmtree(place)
    return numbers


def _numbers(subject: Subject, folder: Path, found: Ended) -> Any:
    return subject.numbers(folder, found.out.replace(str(folder), "FOLDER"))


def _judge(root: Path, subject: Subject, expected: Any, seed: int) -> Verdict:
    """Damage a copy of a folder, and use it."""
    draw, place = random.Random(seed), root / f"case{seed}"
    damage = draw.choice(DAMAGES)
    path = Path(shutil.copytree(root / "whole" / subject.folder, place / subject.folder))
    files = tuple(p for p in sorted(path.rglob("*")) if p.is_file() and p.name not in MINE)
    folder = Folder(path, files, root / "other" / subject.folder, place / "elsewhere")
    file = draw.choice(files)
    said = f"{folder.named(file)} {damage(draw, file, folder)}"
    found = captured(lambda: subject.use(path), place)
    verdict, message = _said(found, forged=damage in FORGED)
    if verdict == "done":
        numbers = _numbers(subject, path, found)
        other = "as forged" if damage in FORGED else "other numbers"
        verdict, message = ("same", "") if numbers == expected else (other, str(numbers))
    if not _left_alone(folder):
        verdict = "touched"
    shutil.rmtree(place)
    return Verdict(seed, subject.name, _named(damage), said, verdict, message[:_WIDE])


def _named(damage: Damage) -> str:
    return damage.__name__.replace("_", " ")


def _left_alone(folder: Folder) -> bool:
    """Whether files of the user's, and those to which links lead, are as they were."""
    copy = folder.elsewhere.with_suffix(".copy")
    if copy.exists() and copy.read_bytes() != folder.elsewhere.read_bytes():
        return False
    return all(_is_mine(folder.path / name) for name in MINE)


def _is_mine(path: Path) -> bool:
    return path.is_file() and path.read_text() == "mine"


def _said(found: Ended, *, forged: bool) -> tuple[str, str]:
    """The verdict on how a use ended, and what it said; ``done``: it did not refuse."""
    if (_TRACEBACK if forged else _FOREIGN).search(found.err):
        return "foreign error", found.err[-_WIDE:]
    if found.code == 0:
        return "done", ""
    *before, last = found.err.rstrip("\n").splitlines() or [""]
    one = last.startswith(_ERROR) and not any(line.startswith(_ERROR) for line in before)
    if not one or len(last) > _WIDE or found.code not in (1, 2, 3):
        return "several lines", f"{found.code}: {found.err[-_WIDE:]}"
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
