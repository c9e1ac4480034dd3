"""``fxtransport compare``: how alike two networks are, or a run and its beginning."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxtransport.cli.common import debug_option, out_console, parse_size, trust_option
from fxtransport.cli.detect_options import all_of, pairs

if TYPE_CHECKING:
    from fxtransport.comparing import Network
    from fxtransport.detecting.source import DataSource
    from fxtransport.input_size import InputSize

_models = all_of(
    click.option("--pretrained", is_flag=True, help="Fetch pretrained weights of MODELs."),
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
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        metavar="N",
        help="The seed of MODELs that are not pretrained: B has the next one.",
    ),
)
_data = all_of(
    click.option("--data", metavar="NAME", help="The data set; by default that of the run."),
    click.option("--data-dir", metavar="DIR", help="The folder of the data set."),
    click.option("--download", is_flag=True, help="Fetch the data set if it is not there."),
    click.option(
        "--data-arg",
        multiple=True,
        metavar="KEY=VALUE",
        help="An option of the data set, such as tile=64.",
    ),
    click.option(
        "--split",
        type=click.Choice(["validation", "test"]),
        default="validation",
        show_default=True,
        help="What to run the networks on.",
    ),
    click.option(
        "--samples",
        type=click.IntRange(4),
        default=512,
        show_default=True,
        metavar="N",
        help="At most this many samples.",
    ),
)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option(
    "--along",
    is_flag=True,
    help="Compare all weights that the run A kept with B, or with those that it began with.",
)
@_data
@_models
@click.option(
    "--conditional/--no-conditional",
    default=True,
    help="Whether to compute the conditional OT distance between the weights of two networks of "
    "one architecture.  [default: yes]",
)
@click.option(
    "--ot-p",
    type=click.FloatRange(1),
    metavar="X",
    help="The power of the distance of neurons.  [default: 1 for kept roles, else 2]",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the matrix of layers (needs fxtransport[plots]).",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, on stdout.")
@debug_option
def compare(
    a: str,
    b: str | None,
    along: bool,
    data: str | None,
    data_dir: str | None,
    download: bool,
    data_arg: tuple[str, ...],
    split: str,
    samples: int,
    pretrained: bool,
    input_size: "InputSize | None",
    model_arg: tuple[str, ...],
    seed: int,
    conditional: bool,
    ot_p: float | None,
    picture: Path | None,
    trust_files: bool,
    as_json: bool,
) -> None:
    """Compare two networks, layer by layer, on the same samples.

    A and B are runs of fxtransport train (RUN@2: the weights that it kept after 2 epochs), saved
    programs, files that fxtransport export wrote, or names of models.

    For example: fxtransport compare run other --data digits
    """
    _check_options(b, along=along, picture=picture)
    from fxtransport.comparing import compare as compare_two
    from fxtransport.comparing import compare_along, open_network
    from fxtransport.report.comparison import draw, show, show_along

    source = _source(data, data_dir, data_arg, download=download)
    how: dict[str, Any] = {
        "split": split,
        "samples": samples,
        "conditional": conditional,
        "p": ot_p,
    }

    def opened(name: str, offset: int) -> "Network":
        seed_of = seed + offset
        if Path(name.partition("@")[0]).exists():
            return open_network(name, seed=seed_of, trust_files=trust_files)
        return open_network(
            name,
            seed=seed_of,
            trust_files=trust_files,
            pretrained=pretrained,
            input_size=input_size,
            options=pairs(model_arg),
        )

    reference = None if b is None else opened(b, 1)
    if along:
        found = compare_along(a, reference, source, trust_files=trust_files, **how)
        if as_json:
            for epoch, each in found:
                click.echo(json.dumps({"epoch": epoch, **each.to_json()}))
        else:
            show_along(out_console(), [*found])
        return
    assert reference is not None
    result = compare_two(opened(a, 0), reference, source, **how)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    else:
        show(out_console(), result)
    if picture is not None:
        draw(result, picture)
        click.echo(f"drawn: {picture}", err=True)


def _check_options(b: str | None, *, along: bool, picture: Path | None) -> None:
    """Refuse what does not go together, before anything is read."""
    if b is None and not along:
        raise click.UsageError("Missing argument 'B', or --along")
    if along and picture is not None:
        raise click.UsageError("--along and --picture exclude one another; give one")
    if picture is not None:
        from fxtransport.report.pictures import require_matplotlib

        require_matplotlib()


def _source(
    name: str | None, root: str | None, options: tuple[str, ...], *, download: bool
) -> "DataSource | None":
    from fxtransport.detecting.source import DataSource

    if name is None:
        if root is not None or options or download:
            raise click.UsageError("--data-dir, --data-arg and --download belong to --data")
        return None
    return DataSource.named(name, root=root, download=download, options=pairs(options))
