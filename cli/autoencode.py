"""``fxtransport autoencode``: train a decoder with the encoder of a model."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from fxtransport.cli.common import compiling, debug_option, out_console
from fxtransport.cli.options import KeyCommand, key_options, name_set_options, option_values
from fxtransport.cli.run_options import fix_names
from fxtransport.runs.keys import Key, all_keys

PATHS = ("model.input_size", "model.options", "trainer.seed", "trainer.device")


def _keys() -> Iterable[Key]:
    found = all_keys()
    return [*(k for k in found.values() if k.section == "data"), *(found[path] for path in PATHS)]


@click.command(cls=KeyCommand)
@click.argument("name", metavar="MODEL")
@click.option(
    "--encoder",
    "path",
    default="encoder",
    show_default=True,
    metavar="PATH",
    help="The module that is given images, and whose output the first block is given.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write both, as .safetensors.",
)
@click.option(
    "--epochs",
    "-n",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="How long to train.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    metavar="X",
    help="Adam's learning rate.",
)
@key_options(_keys())
@click.option("--json", "as_json", is_flag=True, help="One JSON object, on stdout.")
@debug_option
@click.pass_context
def autoencode(
    context: click.Context,
    /,
    name: str,
    path: str,
    output: Path,
    epochs: int,
    lr: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the encoder of a MODEL with a decoder, so that images come back.

    A run that begins with the file and keeps the encoder has blocks that fxtransport clouds shows
    as images. Give both commands the same data, seed and arguments of the model.

    For example: fxtransport autoencode nets:resnet_m --data mnist5k -o encoder.safetensors;
    fxtransport train nets:resnet_m --data mnist5k --initial-checkpoint encoder.safetensors
    --freeze encoder -o run; fxtransport clouds run --autoencoder encoder.safetensors
    """
    from fxtransport.report.words import shape
    from fxtransport.runs.autoencoders import (
        check_target,
        make_autoencoder,
        reconstruction_error,
        save_autoencoder,
        train_autoencoder,
    )
    from fxtransport.runs.config import complete_config
    from fxtransport.runs.recipe import make_recipe
    from fxtransport.runs.settings import choose_device
    from fxtransport.training import keep_freed_memory

    check_target(output)
    values = option_values(context.command, options)
    with name_set_options(all_keys(), values):
        config = complete_config(fix_names({**values, "model.name": name}))
        with compiling(name):
            recipe = make_recipe(config)
            model = make_autoencoder(recipe, path)
    device = choose_device(config)
    if device == "cpu":
        keep_freed_memory()
    data = recipe.data
    click.echo(
        f"{path} makes {shape(model.decoder.hidden)} of images; {data.description}", err=True
    )
    train_autoencoder(
        model,
        data.train,
        epochs=epochs,
        lr=lr,
        device=device,
        tell=lambda epoch, error: click.echo(f"epoch {epoch}: error {error:.5f}", err=True),
    )
    splits = {"validation": data.validation, "test": data.test}
    errors = {
        split: reconstruction_error(model, batches)
        for split, batches in splits.items()
        if batches is not None
    }
    save_autoencoder(model, output)
    if as_json:
        click.echo(json.dumps({"output": str(output), "encoder": path, "errors": errors}))
        return
    words = "".join(f", {error:.4f} on the {split} split" for split, error in errors.items())
    out_console().print(f"{output}: mean square error of normalized pixels{words}")
