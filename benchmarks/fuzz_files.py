"""Files of saved programs, parts and runs, damaged at random: as before, or one error of ours.

Each damage is drawn from a seed: a flipped bit, a cut, another value, two files that change places,
a link, a pipe, a file of a terabyte. Then the program is loaded and called, or the run measured, or
gone on with to its end. See ``tests/fuzzing/files.py``.

    python benchmarks/fuzz_files.py [--mutations 5000] [--seed 0]
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
from common import write
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from tests.fuzzing.files import RIGHT, Verdict, run  # noqa: E402 - no path led there before

LISTED = 200


def summary(verdicts: list[Verdict]) -> dict[str, Any]:
    """How many damages there are of each verdict, by what was damaged and how."""
    counts = Counter((v.subject, v.mutation.partition(":")[0], v.verdict) for v in verdicts)
    return {
        "mutations": len(verdicts),
        "verdicts": dict(Counter(v.verdict for v in verdicts).most_common()),
        "groups": [
            {"subject": subject, "mutation": mutation, "verdict": verdict, "count": count}
            for (subject, mutation, verdict), count in sorted(counts.items())
        ],
        "wrong": [vars(v) for v in verdicts if v.verdict not in RIGHT][:LISTED],
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """Print a line for each kind of damage, and each damage that went wrong."""
    verdicts = [*found["verdicts"]]
    table = Table("damage", "of", *verdicts, title=f"{found['mutations']} damages")
    kinds = dict.fromkeys((g["mutation"], g["subject"]) for g in found["groups"])
    for kind in sorted(kinds):
        counts = {
            g["verdict"]: g["count"]
            for g in found["groups"]
            if (g["mutation"], g["subject"]) == kind
        }
        table.add_row(*kind, *(str(counts.get(verdict, 0)) for verdict in verdicts))
    table.add_row("all", "", *map(str, found["verdicts"].values()))
    console.print(table)
    for v in found["wrong"]:
        console.print(f"{v['seed']} {v['subject']}, {v['mutation']}: {v['verdict']} {v['message']}")


@click.command()
@click.option("--mutations", default=5000, show_default=True, help="How many damages.")
@click.option("--seed", default=0, show_default=True, help="The seed of the first.")
def main(mutations: int, seed: int) -> None:
    """Damage, use and count."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(seed, seed + mutations)
        verdicts = list(track(run(Path(folder), seeds), total=mutations, description="damages"))
    found = summary(verdicts)
    found |= {"first_seed": seed, "minutes": round((time.perf_counter() - start) / 60, 1)}
    show(Console(width=160), found)
    path = write("fuzz_files", "cpu", found)
    click.echo(f"written to {path.relative_to(ROOT)}")
    sys.exit(not set(found["verdicts"]) <= set(RIGHT))


if __name__ == "__main__":
    main()
