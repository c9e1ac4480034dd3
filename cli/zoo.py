"""``fxtransport zoo``: compile every model that the libraries list, and count."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import out_console
from fxtransport.names import SOURCES, Source
from fxtransport.report.words import plural

if TYPE_CHECKING:
    from fxtransport.zoo.record import Record

EVERY = 50
"""Where there is no terminal, a line is printed every so many models."""
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
    help="Write a page of Markdown about the records.",
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
    submodule: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Compile the models whose name matches PATTERN, and show what came of each family.

    Models are built without memory. One that fails, crashes or takes too long ends nothing.

    For example: fxtransport zoo 'resnet*' --jobs 2 --output zoo.jsonl
    """
    if resume and output is None:
        raise click.UsageError("--resume goes on with a file; give --output FILE")
    names = _names(pattern, source)

    from fxtransport.cli.zoo_table import show
    from fxtransport.zoo.file import header, open_records
    from fxtransport.zoo.page import write_page
    from fxtransport.zoo.record import Options
    from fxtransport.zoo.sweep import sweep

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
