"""``fxtransport zoo``: compile every model that the libraries list, and count outcomes."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import out_console
from fxtransport.errors import ModelNameError, UsageError
from fxtransport.names import SOURCES, Source
from fxtransport.report.words import plural

if TYPE_CHECKING:
    from fxtransport.zoo.record import Record

EVERY = 50
"""After how many models a line is printed where there is no terminal."""
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
@click.option("--source", type=click.Choice(list(SOURCES)), help="Only the models of one library.")
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
    help="Append the record of each model to this file, as a line of JSON.",
)
@click.option("--resume", is_flag=True, help="Skip the models that are already in FILE.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=86_400, min_open=True),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="The limit for one model.",
)
@click.option(
    "--verify-below",
    default="0",
    callback=_parse_count,
    metavar="N",
    help="Verify models with fewer parameters, such as 60M, in both modes.  [default: none]",
)
@click.option(
    "--submodule",
    metavar="PATH",
    help="Compile this submodule of each model.  "
    "[default: the whole; its backbone where that cannot be one graph]",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page of Markdown about all records.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
def zoo(
    pattern: str,
    source: Source | None,
    jobs: int,
    output: Path | None,
    resume: bool,
    timeout: float,
    verify_below: int,
    submodule: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compile the models whose names match PATTERN, and show the outcome by family.

    Models are built on the meta device. One that fails, crashes or takes too long does not end
    the sweep.

    For example: fxtransport zoo 'resnet*' --jobs 2 --output zoo.jsonl
    """
    if resume and output is None:
        raise click.UsageError("--resume continues a file; give --output FILE")
    if output is not None and not resume and output.exists() and output.stat().st_size:
        raise UsageError(f"{output} exists; continue it with --resume, or give another file")
    names = _names(pattern, source)

    from fxtransport.zoo.file import header, open_records
    from fxtransport.zoo.page import write_page
    from fxtransport.zoo.record import Options
    from fxtransport.zoo.sweep import sweep
    from fxtransport.zoo.table import show

    options = Options(verify_below, submodule)
    records: list[Record] = []
    stream = None
    if output is not None:
        stream, records = open_records(output, options, resume=resume)
        records = [record for record in records if record.model in set(names)]
    done = {record.model for record in records}
    left = [name for name in names if name not in done]
    if done:
        click.echo(f"{plural(len(done), 'model')} done before, {len(left)} to go", err=True)
    sweeping = closing(sweep(left, options, jobs=jobs, timeout=timeout))
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
        show(out_console(), records)
    if report is not None:
        write_page(report, header(options), records)


def _names(pattern: str, source: Source | None) -> list[str]:
    from fxtransport.names import list_models, suggest

    names = list_models(pattern, source)
    if not names:
        close = suggest(pattern, source)
        hint = f": did you mean {', '.join(close)}?" if close else ""
        raise ModelNameError(f"no model matches '{pattern}'{hint}")
    return names


@contextmanager
def _progress(total: int) -> Iterator[Callable[["Record"], None]]:
    """A function to call with each record: moves a bar on a terminal, prints lines elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        count = 0

        def print_line(_: "Record") -> None:
            nonlocal count
            count += 1
            if count % EVERY == 0:
                click.echo(f"{count} of {plural(total, 'model')}", err=True)

        yield print_line
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("models", total=total)

        def move_bar(record: "Record") -> None:
            progress.update(task, advance=1, description=record.model)

        yield move_bar
