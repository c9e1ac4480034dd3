"""Print the program of a seed, its verdict, and a smaller program with the same one.

python -m tests.fuzzing.reducing 17 [--reduce]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzzing.grammar import Written, write_seed
from tests.fuzzing.judge import Verdict
from tests.fuzzing.running import gist
from tests.fuzzing.worker import judge_source, warm_up


def kind(verdict: Verdict) -> tuple[str, ...]:
    """What stays the same while a program is made smaller."""
    if verdict.verdict in ("refused", "foreign"):
        return verdict.verdict, verdict.error, gist(verdict.message)
    # what is written of an attribute may be lost with the attribute
    return verdict.verdict, verdict.error.split(" module")[0].split(" (")[0]


def reduce(seed: int, folder: Path) -> tuple[Written, Verdict]:
    """Leave out statements as long as the verdict stays the same."""
    edits: dict[int, str] = {}
    written = write_seed(seed)
    verdict = judge_source(written.source, "program", folder)
    wanted = kind(verdict)
    for edit in ("drop", "unwrap", "drop"):
        for number in range(written.statements):
            tried = {**edits, number: edit}
            smaller = write_seed(seed, tried)
            if number in edits or smaller.source == written.source:
                continue
            found = judge_source(smaller.source, f"program{number}{edit}", folder)
            if kind(found) == wanted:
                edits, written, verdict = tried, smaller, found
    return written, verdict


def main() -> None:
    parser = argparse.ArgumentParser(description="Print a program of the fuzzer.")
    parser.add_argument("seed", type=int)
    parser.add_argument("--reduce", action="store_true", help="make it smaller")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up(folder)
        if given.reduce:
            written, verdict = reduce(given.seed, folder)
        else:
            written = write_seed(given.seed)
            verdict = judge_source(written.source, "program", folder)
    sys.stdout.write(f"{written.source}\n# {verdict.verdict}: {verdict.error}\n")
    sys.stdout.write("".join(f"# {line}\n" for line in verdict.message.splitlines()))
    sys.stdout.write("".join(f"# guarded: {line}\n" for line in verdict.guarded))


if __name__ == "__main__":
    main()
