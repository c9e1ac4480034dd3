"""What the commands share that train: their options, and the configuration of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fxtransport.cli.common import debug_option, trust_option
from fxtransport.cli.options import (
    help_all_option,
    implied_values,
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
    replace_values,
)
from fxtransport.runs.keys import Key, all_keys

if TYPE_CHECKING:
    from fxtransport.runs.combinations import Values
    from fxtransport.runs.config import Config

MODELS = ("model.name", "transfer.teacher")
"""The keys that may name a Python file."""
Command = TypeVar("Command", bound=Callable[..., Any])


def run_options(*keys: Key) -> Callable[[Command], Command]:
    """The options of a command that trains: of a run, and for these keys."""
    options = (
        click.option(
            "--output",
            "-o",
            type=click.Path(path_type=Path),
            metavar="RUN",
            help="The run's folder, a new one: checkpoints, weights, config.toml, metrics.csv.",
        ),
        click.option(
            "--resume",
            type=click.Path(path_type=Path),
            metavar="RUN",
            help="Resume a run at its last checkpoint; --epochs, --lr and --sched may be others.",
        ),
        click.option(
            "--config",
            "file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Set what this TOML file sets, such as another run's config.toml.",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help="Set a key as in the file; may be repeated.",
        ),
        trust_option,
        debug_option,
        help_all_option,
        key_options(keys),
        click.pass_context,
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def start_run(
    context: click.Context,
    name: str | None,
    *,
    required: Sequence[str] = (),
    output: Path | None,
    resume: Path | None,
    file: Path | None,
    assignments: tuple[str, ...],
    trust_files: bool,
    **options: Any,
) -> None:
    """Train as the command line says.

    Args:
        context: Of the command.
        name: The model's, if it is given.
        required: The keys that a new run needs, beside the model's name.
        output: The folder of a new run.
        resume: The folder of a run to go on with.
        file: A configuration.
        assignments: What ``--set`` sets.
        trust_files: Whether Python files that a configuration or a run names may be run.
        options: What other options set.
    """
    from_options = option_values(context.command, options)
    implied = implied_values(context.command, options)
    changes = merge_values(from_options, parse_assignments(assignments))
    if name is not None:
        changes["model.name"] = name
    if resume is not None and (output is not None or file is not None):
        raise click.UsageError("--resume goes on as the run began; leave out --output, --config")
    with name_set_options(all_keys(), from_options):
        if resume is not None:
            run, config = resume, _resume(resume, changes, trust_files=trust_files)
        else:
            run = _new_folder(output)
            config = _begin(file, implied, changes, required, trust_files=trust_files)

        from fxtransport.cli.training import run_training

        run_training(run, config, resume=resume is not None, trust_files=trust_files)


def _begin(
    file: Path | None,
    implied: "Values",
    changes: "Values",
    required: Sequence[str],
    *,
    trust_files: bool,
) -> "Config":
    """The configuration of a new run."""
    values = merge_values(implied, {} if file is None else read_config(file))
    values = replace_values(values, changes)
    if "model.name" not in values:
        raise click.UsageError("Missing argument 'MODEL', or model.name in the --config")
    for path in required:
        if path not in values:
            raise click.UsageError(f"Missing option '{all_keys()[path].option}'")
    # whether the values make sense is checked before names, which takes longer
    complete_config(values)
    for path in MODELS:
        if path in values and path not in changes:
            check_trusted_model(values[path], str(file), trust_files=trust_files)
    return complete_config(fix_names(values))


def _resume(run: Path, changes: "Values", *, trust_files: bool) -> "Config":
    """The configuration of a run that is resumed."""
    from fxtransport.runs.identity import read_run

    saved = read_run(run)
    if changes.get("trainer.amp") == "auto" and saved.get("trainer.amp"):
        # what it meant where the run began
        changes = {**changes, "trainer.amp": saved["trainer.amp"]}
    config = saved.with_changes(fix_names(changes), run, extend=True)
    for path in MODELS:
        if config.get(path) is not None and path not in changes:
            check_trusted_model(config[path], str(run / CONFIG), trust_files=trust_files)
    return config


def check_trusted_model(name: str, source: str, *, trust_files: bool) -> None:
    """Refuse a model in a Python file that a configuration names, unless such files are trusted."""
    from fxtransport.names import check_trusted, resolve

    if Path(name).exists():
        return
    check_trusted(resolve(name), source, trust_files=trust_files)


def fix_names(values: "Values") -> dict[str, Any]:
    """The same values with names and paths that mean the same in every folder."""
    found = dict(values)
    for path in ("data.root", "data.name", "model.initial_checkpoint", "transfer.teacher"):
        if found.get(path) and Path(found[path]).exists():
            found[path] = str(Path(found[path]).absolute())
    if "transfer.cache" in found:
        found["transfer.cache"] = str(Path(found["transfer.cache"]).absolute())
    for path in MODELS:
        if path in found and not _is_path(path, found[path]):
            found[path] = _canonical(found[path])
    return found


def _is_path(path: str, value: str) -> bool:
    """Whether a teacher is a folder or a file of weights, not a name."""
    if path != "transfer.teacher":
        return False
    from fxtransport.pairing.teachers import WEIGHT_FILES

    return Path(value).exists() or Path(value).suffix in WEIGHT_FILES


def _canonical(name: str) -> str:
    """A name that means the same model in every folder."""
    from fxtransport.names import resolve

    spec = resolve(name)
    if spec.note:
        click.echo(spec.note, err=True)
    if spec.library != "file":
        return spec.canonical
    file, _, factory = spec.canonical.rpartition(":")
    return f"{Path(file).absolute()}:{factory}"


def _new_folder(output: Path | None) -> Path:
    """The folder of a new run, which must not be in use."""
    from fxtransport.errors import UsageError

    if output is None:
        raise click.UsageError("Missing option '--output RUN', or '--resume RUN'")
    from fxtransport.training.checkpoint import RunFolder

    # what a run leaves that ended before its first checkpoint may be replaced
    if output.exists() and not (output.is_dir() and RunFolder(output).is_begun):
        raise UsageError(f"{output} already exists: give another --output, or go on with --resume")
    return output
