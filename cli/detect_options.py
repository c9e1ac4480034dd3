"""What the commands of ``fxtransport detect`` share: options of models, data and attacks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fxtransport.cli.common import parse_size
from fxtransport.runs.config import parse_pair

if TYPE_CHECKING:
    from fxtransport.detecting.attacking import Progress
    from fxtransport.detecting.image_detector import ImageDetector
    from fxtransport.detecting.source import DataSource
    from fxtransport.detecting.subject import Subject
    from fxtransport.detection.attacks import Attack

Command = TypeVar("Command", bound=Callable[..., Any])


def all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several decorators as one."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


data_options = all_of(
    click.option("--data", metavar="NAME", help="The data set; by default the one that is known."),
    click.option("--data-dir", metavar="DIR", help="The folder of the data set."),
    click.option("--download", is_flag=True, help="Fetch the data set if it is not there."),
    click.option(
        "--data-arg",
        multiple=True,
        metavar="KEY=VALUE",
        help="An option of the data set, such as tile=64.",
    ),
)
"""Which data, as ``fxtransport train`` names it."""

attack_options = all_of(
    click.option(
        "--attack",
        "attacks",
        multiple=True,
        metavar="NAME",
        help="An attack, such as fgm or 'pgd{epsilon=0.1 steps=20}'; may be repeated.",
    ),
    click.option(
        "--epsilon",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="X",
        help="How far attacks may change a pixel, from 0 to 1.  [default: 0.03]",
    ),
    click.option(
        "--count-all",
        is_flag=True,
        help="Count every image as attacked, also those that do not fool the model.",
    ),
)
"""Which attacks, and how they are counted."""

model_options = all_of(
    click.argument("model", metavar="RUN|MODEL"),
    click.option("--pretrained", is_flag=True, help="Fetch pretrained weights of a MODEL."),
    click.option(
        "--input-size",
        "--image-size",
        metavar="SIZE",
        callback=parse_size,
        help="The size of a MODEL's input: N, HxW or C,H,W; its own by default.",
    ),
    click.option(
        "--model-arg",
        multiple=True,
        metavar="KEY=VALUE",
        help="An argument of a MODEL's constructor.",
    ),
    click.option(
        "--transform",
        multiple=True,
        metavar="KEY=VALUE",
        help="How a MODEL's images are prepared: an option of timm's transforms, such as "
        "mean=[0.5,0.5,0.5].  [default: as pretrained weights need it]",
    ),
)
"""Which classifier."""

watched_option = click.option(
    "--model",
    "watched",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Look at the model of this run, if the detectors are valid for it.  "
    "[default: the model in DET]",
)
"""Which classifier detectors look at, where it is not the one that is saved with them."""

images_option = click.option(
    "--images",
    type=click.IntRange(1),
    metavar="N",
    help="At most this many images.",
    default=2000,
    show_default=True,
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Determines which images are taken, and what is random in attacks.",
)
device_option = click.option(
    "--device", metavar="TEXT", help="The device, such as cuda:1.  [default: cuda, or cpu]"
)


def pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    """The values of KEY=VALUE options."""
    return dict(parse_pair(text) for text in texts)


def attack_settings(attacks: tuple[str, ...], epsilon: float | None) -> "tuple[Attack, ...]":
    """The attacks that options name."""
    from fxtransport.detecting.attack_text import parse_attacks

    return parse_attacks(attacks, {} if epsilon is None else {"epsilon": epsilon})


def source_of(
    data: str | None, data_dir: str | None, download: bool, data_arg: tuple[str, ...], **more: Any
) -> "DataSource | None":
    """The data that options name; None if they name none, but perhaps the folder of what is known.

    Raises:
        UsageError: an option goes with ``--data``, which is not given.
    """
    from fxtransport.detecting.source import DataSource
    from fxtransport.errors import UsageError

    if data is None:
        if download or data_arg or more.get("validation"):
            raise UsageError("--download, --data-arg and --validation go with --data")
        return None
    return DataSource.named(data, root=data_dir, download=download, options=pairs(data_arg), **more)


def subject_on(device: str | None, *arguments: Any, **options: Any) -> "Subject":
    """A classifier with its data, on the device that is asked for."""
    from fxtransport.detecting.subject import open_subject

    subject = open_subject(*arguments, **options)
    if subject.note:
        click.echo(subject.note, err=True)
    place(subject.program, device)
    return subject


def place(program: Any, device: str | None) -> None:
    """Move a program to the device that is asked for: an accelerator, if there is one."""
    import torch

    from fxtransport.errors import UsageError, first_line

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        program.to(name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {name!r} cannot be used: {first_line(error)}") from error


@contextmanager
def attack_progress() -> "Iterator[Progress]":
    """Show how many images are attacked, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    from fxtransport.detecting.attacking import silent

    console = Console(stderr=True)
    if not console.is_terminal:
        yield silent
        return
    with Bars(console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, count: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=count)
            bars.update(tasks[what], completed=done)

        yield show


def open_detector(
    det: Path, watched: Path | None, device: str | None, *, trust_files: bool
) -> "ImageDetector":
    """Load detectors and their model, or another that they must be valid for."""
    from fxtransport.detecting.folder import load_detector, saved_detectors
    from fxtransport.detecting.subject import open_watched

    program = None
    if watched is not None:
        program = open_watched(watched, saved_detectors(det), trust_files=trust_files)
    found = load_detector(det, program, trust_files=trust_files)
    place(found.senses.extractor, device)
    return found


def new_folder(output: Path) -> None:
    """Check that a folder can be made, before anything is computed."""
    from fxtransport.detecting.folder import check_new

    check_new(output)
