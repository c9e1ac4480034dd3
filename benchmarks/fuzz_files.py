"""Files of programs, parts, runs and detectors, damaged at random: as before, or one error of ours.

Each damage is drawn from a seed: a flipped bit, a cut, another value, two files that change places,
a link, a pipe, a file of a terabyte, other values under the right hashes. Then the program is
loaded and called, the run measured, exported or resumed, or images are judged by the detector.
See ``tests/fuzzing/files.py``.

    python benchmarks/fuzz_files.py [--mutations 5000] [--seed 0] [--workers 2] [--record FILE]
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from common import write
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from tests.fuzzing.files import RIGHT, Verdict, verdicts  # noqa: E402 - no path led there before

LISTED = 200


def summary(found: list[Verdict]) -> dict[str, Any]:
    """How many damages there are of each verdict, by what was damaged and how."""
    counts = Counter((v.subject, v.damage, v.verdict) for v in found)
    return {
        "mutations": len(found),
        "verdicts": dict(Counter(v.verdict for v in found).most_common()),
        "others": sum(v.verdict not in RIGHT for v in found),
        "groups": [
            {"subject": subject, "damage": damage, "verdict": verdict, "count": count}
            for (subject, damage, verdict), count in sorted(counts.items())
        ],
        "wrong": [vars(v) for v in found if v.verdict not in RIGHT][:LISTED],
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """Print a line for each kind of damage, and each damage that went wrong."""
    kinds = [*found["verdicts"]]
    for column in ("damage", "subject"):
        table = Table(column, *kinds, title=f"{found['mutations']} damages, by {column}")
        for name in dict.fromkeys(sorted(g[column] for g in found["groups"])):
            counts = Counter[str]()
            for g in found["groups"]:
                counts[g["verdict"]] += g["count"] if g[column] == name else 0
            table.add_row(name, *(str(counts[kind]) for kind in kinds))
        table.add_row("all", *(str(found["verdicts"][kind]) for kind in kinds))
        console.print(table)
    for v in found["wrong"]:
        console.print(f"{v['seed']} {v['subject']}, {v['damage']}: {v['verdict']} {v['message']}")


def recorded(first: int, count: int, workers: int, record: Path | None) -> Iterator[Verdict]:
    """The verdicts; those that are in a file of an earlier call are read from there."""
    done = 0
    if record is not None and record.exists():
        for line in record.read_text().splitlines():
            yield Verdict(**json.loads(line))
            done += 1
    if done >= count:
        return
    for verdict in verdicts(first + done, count - done, workers):
        if record is not None:
            with record.open("a") as file:
                file.write(f"{json.dumps(asdict(verdict))}\n")
        yield verdict


@click.command()
@click.option("--mutations", default=5000, show_default=True, help="How many damages.")
@click.option("--seed", default=0, show_default=True, help="The seed of the first.")
@click.option("--workers", default=2, show_default=True, help="How many are used at once.")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep each verdict in this file, so that a run that was ended goes on.",
)
def main(mutations: int, seed: int, workers: int, record: Path | None) -> None:
    """Damage, use and count."""
    start = time.perf_counter()
    judged = recorded(seed, mutations, workers, record)
    found = summary(list(track(judged, total=mutations, description="damages")))
    found |= {"first_seed": seed, "minutes": round((time.perf_counter() - start) / 60, 1)}
    show(Console(width=160), found)
    path = write("fuzz_files", "cpu", found)
    click.echo(f"written to {path.relative_to(ROOT)}")
    sys.exit(found["others"] > 0)


if __name__ == "__main__":
    main()
