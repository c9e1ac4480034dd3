"""``fxtransport train``: train a model by the least-action principle, or module by module."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import debug_option
from fxtransport.cli.runs.options import GroupedCommand, given, key_options, merged
from fxtransport.runs.config import CONFIG, parse_assignments, read, read_run, resolved

if TYPE_CHECKING:
    from fxtransport.runs.config import Config, Values


@click.command(cls=GroupedCommand)
@click.argument("name", metavar="[MODEL]", required=False)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="The run's folder, a new one: checkpoints, weights, config.toml, metrics.csv.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with a run at its last checkpoint.",
)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Set what this TOML file sets, such as another run's config.toml.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Set a key as in the file; may be repeated.",
)
@debug_option
@key_options
@click.pass_context
def train(
    context: click.Context,
    /,
    name: str | None,
    output: Path | None,
    resume: Path | None,
    file: Path | None,
    assignments: tuple[str, ...],
    **options: Any,
) -> None:
    """Train a model by the least-action principle, or module by module.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), one of the papers'
    networks (nets:NAME), or path/to/file.py:factory. Defaults are published settings: of LAP
    on CIFAR10, of TRGL on STL10.

    For example: fxtransport train resnet18 --method trgl --modules 4 --output run
    """
    changes = merged(given(context.command, options), parse_assignments(assignments))
    if name is not None:
        changes["model.name"] = name
    if resume is not None:
        if output is not None or file is not None:
            raise click.UsageError(
                "--resume goes on as the run began; leave out --output, --config"
            )
        run, config = resume, _continued(resume, changes)
    else:
        run, config = _new_folder(output), _begun(file, changes)

    from fxtransport.cli.runs.training import run_training

    run_training(run, config, resume=resume is not None)


def _begun(file: Path | None, changes: "Values") -> "Config":
    """The configuration of a new run."""
    values = merged({} if file is None else read(file), changes)
    if "model.name" not in values:
        raise click.UsageError("Missing argument 'MODEL', or model.name in the --config")
    # what depends on the machine alone is not asked before everything else makes sense
    resolved(values)
    return resolved(_lasting(values))


def _continued(run: Path, changes: "Values") -> "Config":
    """The configuration of a run that goes on."""
    return read_run(run).with_changes(_lasting(changes), run)


def _lasting(values: "Values") -> dict[str, Any]:
    """What was set, with names that mean the same everywhere and tomorrow."""
    found = dict(values)
    if "model.name" in found:
        from fxtransport.names import resolve

        spec = resolve(found["model.name"])
        if spec.note:
            click.echo(spec.note, err=True)
        found["model.name"] = spec.canonical
        if spec.library == "file":
            file, _, factory = spec.canonical.rpartition(":")
            found["model.name"] = f"{Path(file).absolute()}:{factory}"
    for path in ("data.root", "data.name"):
        if Path(found.get(path, "")).is_dir() and found.get(path):
            found[path] = str(Path(found[path]).absolute())
    return found


def _new_folder(output: Path | None) -> Path:
    """Where a new run goes; it must be free."""
    from fxtransport.errors import UsageError

    if output is None:
        raise click.UsageError("Missing option '--output RUN', or '--resume RUN'")
    # what ended before its first checkpoint leaves these, and nothing is lost with them
    begun = {CONFIG, "metrics.csv"}
    if output.exists() and not (output.is_dir() and {p.name for p in output.iterdir()} <= begun):
        raise UsageError(
            f"{output} is there already: give another --output, or go on with --resume"
        )
    return output
