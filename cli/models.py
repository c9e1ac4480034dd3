"""``fxtransport models``: list the names of models."""

import click

from fxtransport.names import SOURCES, Source


@click.command()
@click.argument("pattern", default="*")
@click.option("--source", type=click.Choice(list(SOURCES)), help="The models of one library only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def models(pattern: str, source: Source | None, as_json: bool) -> None:
    """List the models whose name matches PATTERN, a glob or a part of the name.

    For example: fxtransport models swin, or fxtransport models 'resnet*' --source torchvision
    """
    import json

    from fxtransport.errors import ModelNameError
    from fxtransport.names import list_models, suggest

    names = list_models(pattern, source)
    if not names:
        close = suggest(pattern, source)
        hint = f": did you mean {', '.join(close)}?" if close else ""
        raise ModelNameError(f"no model matches '{pattern}'{hint}")
    for name in names:
        click.echo(json.dumps({"model": name}) if as_json else name)
