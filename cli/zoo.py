"""``fxtransport zoo``: compile every model that the libraries list, and count."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import out_console
from fxtransport.cli.words import plural
from fxtransport.names import SOURCES, Source

if TYPE_CHECKING:
    from rich.console import Console

    from fxtransport.zoo import Record

EVERY = 50
"""Where there is no terminal, a line is printed every so many models."""
SHOWN = 3
"""How many models a reason is illustrated with."""
LETTERS = {"k": 10**3, "M": 10**6, "G": 10**9}


def _parse_count(_: click.Context, parameter: click.Parameter, text: str) -> int:
    letter = text[-1:] if text[-1:] in LETTERS else ""
    try:
        number = int(float(text.removesuffix(letter)) * LETTERS.get(letter, 1))
    except (ValueError, OverflowError):
        number = -1
    if number < 0:
        raise click.BadParameter(f"write it as 60M, not {text!r}", param=parameter)
    return number


@click.command()
@click.argument("pattern", default="*")
@click.option("--source", type=click.Choice(list(SOURCES)), help="One library's models only.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes, each with one thread.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append each model's record here, as a line of JSON.",
)
@click.option("--resume", is_flag=True, help="Skip the models that are in FILE already.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=86_400, min_open=True),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="For one model.",
)
@click.option(
    "--verify-below",
    default="0",
    callback=_parse_count,
    metavar="N",
    help="Compare numbers, in both modes, of models with fewer parameters: 60M.  [default: none]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model, on stdout.")
def zoo(
    pattern: str,
    source: Source | None,
    jobs: int,
    output: Path | None,
    resume: bool,
    timeout: float,
    verify_below: int,
    as_json: bool,
) -> None:
    """Compile the models whose name matches PATTERN, and show what came of each family.

    Models are built without memory. One that fails, crashes or takes too long ends nothing.

    For example: fxtransport zoo 'resnet*' --jobs 2 --output zoo.jsonl
    """
    if resume and output is None:
        raise click.UsageError("--resume goes on with a file; give --output FILE")
    names = _names(pattern, source)

    from fxtransport.zoo import open_records, sweep

    records: list[Record] = []
    stream = None
    if output is not None:
        stream, records = open_records(output, verify_below, resume=resume)
        records = [record for record in records if record.model in set(names)]
    done = {record.model for record in records}
    left = [name for name in names if name not in done]
    if done:
        click.echo(f"{plural(len(done), 'model')} done before, {len(left)} to go", err=True)
    sweeping = closing(sweep(left, jobs=jobs, timeout=timeout, verify_below=verify_below))
    with stream or nullcontext(), _progress(len(left)) as advance, sweeping as found:
        for record in found:
            records.append(record)
            line = record.to_json()
            if stream is not None:
                stream.write(f"{line}\n")
                stream.flush()
            if as_json:
                click.echo(line)
            advance(record)
    if not as_json:
        _show(out_console(), records)


def _names(pattern: str, source: Source | None) -> list[str]:
    from fxtransport.errors import ModelNameError
    from fxtransport.names import list_models, suggest

    names = list_models(pattern, source)
    if not names:
        close = suggest(pattern, source)
        hint = f": did you mean {', '.join(close)}?" if close else ""
        raise ModelNameError(f"no model matches '{pattern}'{hint}")
    return names


@contextmanager
def _progress(total: int) -> Iterator[Callable[["Record"], None]]:
    """What is called with each record: a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        count = 0

        def tell(_: "Record") -> None:
            nonlocal count
            count += 1
            if count % EVERY == 0:
                click.echo(f"{count} of {plural(total, 'model')}", err=True)

        yield tell
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("models", total=total)

        def move(record: "Record") -> None:
            progress.update(task, advance=1, description=record.model)

        yield move


def _show(console: "Console", records: "Sequence[Record]") -> None:
    """Print the tables."""
    from rich.table import Table

    from fxtransport.zoo import refusals, summarize, summarize_as

    total = summarize_as("total", records)
    table = Table(box=None, pad_edge=False, header_style="bold", footer_style="bold")
    table.show_footer = True
    table.add_column("family", "total", overflow="fold")
    for heading, footer in (
        ("models", total.models),
        ("compiled", total.compiled),
        ("verified", total.verified),
        ("refused", total.refused),
        ("median s", f"{total.median_seconds:.2f}"),
        ("slowest s", f"{total.slowest_seconds:.2f}"),
    ):
        table.add_column(heading, str(footer), justify="right", no_wrap=True)
    table.add_column("slowest", total.slowest, overflow="fold")
    for one in summarize(records):
        table.add_row(
            one.family,
            str(one.models),
            str(one.compiled),
            str(one.verified or "–"),
            str(one.refused or "–"),
            f"{one.median_seconds:.2f}",
            f"{one.slowest_seconds:.2f}",
            one.slowest,
            style="yellow" if one.refused else "",
        )
    console.print(table)
    refused = refusals(records)
    if not refused:
        return
    console.print()
    reasons = Table(box=None, pad_edge=False, header_style="bold")
    reasons.add_column("refused because", overflow="fold")
    reasons.add_column("models", justify="right", no_wrap=True)
    reasons.add_column("such as", overflow="fold")
    for kind, models in refused.items():
        more = ", …" if len(models) > SHOWN else ""
        reasons.add_row(kind, str(len(models)), ", ".join(models[:SHOWN]) + more)
    console.print(reasons)
