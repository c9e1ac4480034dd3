"""``fxtransport detect attack``: write attacked images."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxtransport.cli.common import compiling, debug_option, out_console, trust_option
from fxtransport.cli.detect_options import (
    attack_options,
    attack_progress,
    attack_settings,
    data_options,
    device_option,
    images_option,
    model_options,
    new_folder,
    pairs,
    seed_option,
    source_of,
    subject_on,
)

if TYPE_CHECKING:
    from fxtransport.input_size import InputSize


@click.command()
@model_options
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the attacked images, a new one.",
)
@attack_options
@data_options
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="validation",
    show_default=True,
    help="Which images are attacked.",
)
@click.option("--png", is_flag=True, help="Write pictures, too; they are rounded to 8 bits.")
@images_option
@seed_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object an attack, on stdout.")
@trust_option
@debug_option
def attack(
    model: str,
    pretrained: bool,
    input_size: "InputSize | None",
    model_arg: tuple[str, ...],
    transform: tuple[str, ...],
    output: Path,
    attacks: tuple[str, ...],
    epsilon: float | None,
    count_all: bool,
    data: str | None,
    data_dir: str | None,
    download: bool,
    data_arg: tuple[str, ...],
    split: str,
    png: bool,
    images: int,
    seed: int,
    device: str | None,
    as_json: bool,
    trust_files: bool,
) -> None:
    """Attack the images that a RUN or MODEL classifies, and count what fools it.

    Counted is what was classified correctly, was changed, and fools the model. Each attack is a
    file of safetensors with the clean and the attacked images; attacks.json says what they did.

    For example: fxtransport detect attack run --attack pgd --epsilon 0.1 -o attacked
    """
    from fxtransport.detecting.attacked_folder import summary, write_attacked, write_description
    from fxtransport.detecting.attacking import attack_labeled, collect, pixel_model
    from fxtransport.detection.identity import identity_of
    from fxtransport.errors import UsageError
    from fxtransport.report.detection_table import show_attacks

    chosen = attack_settings(attacks, epsilon)
    if not chosen:
        raise click.UsageError("Missing option '--attack'")
    new_folder(output)
    with compiling(model):
        subject = subject_on(
            device,
            model,
            source_of(data, data_dir, download, data_arg),
            pretrained=pretrained,
            input_size=input_size,
            options=pairs(model_arg),
            transform=pairs(transform),
            root=data_dir,
            trust_files=trust_files,
        )
    stream = subject.data.require_test() if split == "test" else subject.data.validation
    if stream is None:
        raise UsageError(f"{subject.source.name} has no validation split; take --split test")
    given = collect(stream, images, seed)
    summaries = []
    with attack_progress() as progress:
        for each in chosen:
            made = attack_labeled(
                each,
                subject.program,
                subject.preprocessing,
                given,
                seed=seed,
                count_all=count_all,
                progress=progress,
            )
            write_attacked(output, made, subject.data.class_names, pictures=png)
            watched = pixel_model(subject.program, subject.preprocessing) if png else None
            summaries.append(summary(made, watched))
    identity = identity_of(subject.program, subject.data.class_names, subject.preprocessing)
    about = {"data": asdict(subject.source), "split": split, "seed": seed, "attacks": summaries}
    write_description(output, {"model": identity.to_json(), **about})
    if as_json:
        for found in summaries:
            click.echo(json.dumps(found))
    else:
        show_attacks(out_console(), summaries)
    click.echo(f"saved in {output}", err=True)
