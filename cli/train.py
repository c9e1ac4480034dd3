"""``fxtransport train``: train a model by the least action principle, or part by part."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import debug_option, trust_option
from fxtransport.cli.options import (
    GroupedCommand,
    help_all_option,
    key_options,
    name_set_options,
    option_values,
)
from fxtransport.runs.config import (
    CONFIG,
    complete_config,
    merge_values,
    parse_assignments,
    read_config,
    read_run,
)
from fxtransport.runs.keys import all_keys

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
    help="Resume a run at its last checkpoint.",
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
@trust_option
@debug_option
@help_all_option
@key_options(all_keys().values())
@click.pass_context
def train(
    context: click.Context,
    /,
    name: str | None,
    output: Path | None,
    resume: Path | None,
    file: Path | None,
    assignments: tuple[str, ...],
    trust_files: bool,
    **options: Any,
) -> None:
    """Train a model by the least action principle, or part by part.

    MODEL is a timm or torchvision name (timm:NAME, torchvision:NAME), one of the papers'
    networks (nets:NAME), or path/to/file.py:factory. Defaults are published settings: of LAP
    on CIFAR10, of TRGL on STL10.

    For example: fxtransport train resnet18 --method trgl --modules 4 --output run
    """
    from_options = option_values(context.command, options)
    changes = merge_values(from_options, parse_assignments(assignments))
    if name is not None:
        changes["model.name"] = name
    if resume is not None and (output is not None or file is not None):
        raise click.UsageError("--resume goes on as the run began; leave out --output, --config")
    with name_set_options(all_keys(), from_options):
        if resume is not None:
            run, config = resume, _resume(resume, changes, trust_files=trust_files)
        else:
            run, config = _new_folder(output), _begin(file, changes, trust_files=trust_files)

        from fxtransport.cli.training import run_training

        run_training(run, config, resume=resume is not None)


def _begin(file: Path | None, changes: "Values", *, trust_files: bool) -> "Config":
    """The configuration of a new run."""
    values = merge_values({} if file is None else read_config(file), changes)
    if "model.name" not in values:
        raise click.UsageError("Missing argument 'MODEL', or model.name in the --config")
    # whether the values make sense is checked before names, which takes longer
    complete_config(values)
    if "model.name" not in changes:
        _check_trusted(values["model.name"], str(file), trust_files=trust_files)
    return complete_config(_fix_names(values))


def _resume(run: Path, changes: "Values", *, trust_files: bool) -> "Config":
    """The configuration of a run that is resumed."""
    saved = read_run(run)
    config = saved.with_changes(_fix_names(changes), run)
    if "model.name" not in changes:
        _check_trusted(config["model.name"], str(run / CONFIG), trust_files=trust_files)
    return config


def _check_trusted(name: str, source: str, *, trust_files: bool) -> None:
    from fxtransport.names import check_trusted, resolve

    check_trusted(resolve(name), source, trust_files=trust_files)


def _fix_names(values: "Values") -> dict[str, Any]:
    """The same values with names and paths that mean the same in every folder."""
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
    """The folder of a new run, which must not be in use."""
    from fxtransport.errors import UsageError

    if output is None:
        raise click.UsageError("Missing option '--output RUN', or '--resume RUN'")
    # a run that ended before its first checkpoint leaves these, and they may be replaced
    begun = {CONFIG, "metrics.csv"}
    if output.exists() and not (output.is_dir() and {p.name for p in output.iterdir()} <= begun):
        raise UsageError(f"{output} already exists: give another --output, or go on with --resume")
    return output
