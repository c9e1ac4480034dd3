"""Small modules out of a grammar of Python: each exact, or refused by an error of ours.

Each program is written from a seed, compiled, and compared with eager in a process of its own:
outputs, gradients, state and generators, in both modes, at several sizes, chained by parts, and
after attributes are changed. See ``tests/fuzzing/``.

    python benchmarks/fuzz.py [--programs 10000] [--seed 0] [--workers 2]
    python benchmarks/fuzz.py --show SEED [--reduce]
"""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from common import write
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from tests.fuzzing.running import gist, run  # noqa: E402 - the folder above is on no path before

Verdict = dict[str, Any]
RIGHT = ("exact", "refused", "discarded")
LISTED = 3


def summary(verdicts: list[Verdict]) -> dict[str, Any]:
    """How many programs there are of each verdict, and of each message."""
    counts = Counter(v["verdict"] for v in verdicts)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for v in sorted(verdicts, key=lambda v: int(v["seed"])):
        if v["verdict"] != "exact":
            error = re.sub(r" (=|\().*", "", v["error"])
            error = re.sub(r"[a-z]+\d+", lambda m: m.group().rstrip("0123456789"), error)
            groups.setdefault((v["verdict"], error, gist(v["message"])), []).append(v["seed"])
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1])))
    run_at_all = [v for v in verdicts if v["verdict"] != "discarded"]
    return {
        "programs": len(verdicts),
        "verdicts": dict(counts.most_common()),
        "compared_steps": sum(v["steps"] for v in verdicts),
        "programs_guarded": sum(bool(v["guarded"]) for v in verdicts),
        "guards": dict(Counter(gist(g) for v in verdicts for g in v["guarded"]).most_common(30)),
        "programs_with_residuals": sum(v["residuals"] > 0 for v in verdicts),
        "programs_of_two_parts": sum(v["parts"] > 1 for v in verdicts),
        "refused_share": round(counts["refused"] / max(1, len(run_at_all)), 4),
        "groups": [
            {"verdict": a, "error": b, "message": c, "programs": len(seeds), "seeds": seeds[:10]}
            for (a, b, c), seeds in ordered
        ],
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """Print the counts, and a line for each group."""
    table = Table("verdict", "programs", title=f"{found['programs']} programs")
    for verdict, count in found["verdicts"].items():
        table.add_row(verdict, str(count))
    table.add_row("with a guard that refused a step", str(found["programs_guarded"]))
    table.add_row("steps compared", str(found["compared_steps"]))
    console.print(table)
    table = Table("verdict", "error", "message", "programs", "seeds")
    for group in found["groups"]:
        seeds = " ".join(map(str, group["seeds"][:LISTED]))
        cells = (group["verdict"], group["error"], group["message"])
        table.add_row(*cells, str(group["programs"]), seeds)
    console.print(table)


@click.command()
@click.option("--programs", default=10_000, show_default=True, help="How many programs.")
@click.option("--seed", default=0, show_default=True, help="The seed of the first.")
@click.option("--workers", default=2, show_default=True, help="How many run at a time.")
@click.option("--show", "shown", type=int, metavar="SEED", help="Print one program, and judge it.")
@click.option("--reduce", is_flag=True, help="With --show: make it smaller first.")
@click.option("--output", type=click.Path(path_type=Path), help="Write each verdict here, too.")
def main(
    programs: int, seed: int, workers: int, shown: int | None, reduce: bool, output: Path | None
) -> None:
    """Write, judge and count programs."""
    if shown is not None:
        command = [sys.executable, "-m", "tests.fuzzing.reducing", str(shown)]
        sys.exit(
            subprocess.run([*command, *["--reduce"] * reduce], cwd=ROOT, check=False).returncode
        )
    start = time.perf_counter()
    verdicts = []
    with output.open("w", encoding="utf-8") if output else nullcontext() as file:
        for verdict in track(run(seed, programs, workers), total=programs, description="programs"):
            verdicts.append(verdict)
            if file is not None:
                file.write(json.dumps(verdict) + "\n")
                file.flush()
    found = summary(verdicts)
    found |= {"first_seed": seed, "minutes": round((time.perf_counter() - start) / 60, 1)}
    show(Console(width=160), found)
    path = write("fuzz", "cpu", found)
    click.echo(f"written to {path.relative_to(ROOT)}")
    sys.exit(not set(found["verdicts"]) <= set(RIGHT))


if __name__ == "__main__":
    main()
