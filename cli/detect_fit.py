"""``fxtransport detect fit``: fit detectors for a trained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    metavar="DET",
    help="The folder of the detectors and of the model, a new one.",
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    metavar="NAME,…",
    help="Which detectors; the first judges by default.  "
    "[default: combined with --attack or --ood, one-class without]",
)
@attack_options
@click.option(
    "--ood",
    "others",
    multiple=True,
    metavar="NAME",
    help="Another data set, whose test split is fitted on like attacked images; may be repeated.",
)
@click.option(
    "--noisy",
    is_flag=True,
    help="Count copies as clean that have as much noise as the attacks change.",
)
@data_options
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="X",
    help="With --data: the share of images to fit on, where the set has no validation split.  "
    "[default: 0.1]",
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    metavar="X",
    help="The share of these that calibrates.",
)
@images_option
@seed_option
@device_option
@trust_option
@debug_option
def fit(
    model: str,
    pretrained: bool,
    input_size: "InputSize | None",
    model_arg: tuple[str, ...],
    transform: tuple[str, ...],
    output: Path,
    detectors: tuple[str, ...],
    attacks: tuple[str, ...],
    epsilon: float | None,
    count_all: bool,
    others: tuple[str, ...],
    noisy: bool,
    data: str | None,
    data_dir: str | None,
    download: bool,
    data_arg: tuple[str, ...],
    validation: float | None,
    held_out: float,
    images: int,
    seed: int,
    device: str | None,
    trust_files: bool,
) -> None:
    """Fit detectors for a RUN of fxtransport train, or a MODEL with weights of its own.

    Detectors are fitted on the validation split, which the model was not trained on; a share of
    it calibrates. The test split is not read. DET holds the model, too, and needs nothing else.

    With --ood, detectors learn to find other data; evaluate it on further sets, for it refuses
    images that were fitted on. With --noisy, they learn that noise is no attack.

    For example: fxtransport detect fit run --attack fgm --detector combined,one-class -o det
    """
    from fxtransport.detecting.fitting import FitSettings, fit_detectors
    from fxtransport.detecting.folder import save_detector
    from fxtransport.report.detection_table import show_fitted

    new_folder(output)
    settings = FitSettings(
        detectors=tuple(name for text in detectors for name in text.split(",") if name),
        attacks=attack_settings(attacks, epsilon),
        held_out=held_out,
        images=images,
        seed=seed,
        count_all=count_all,
        others=others,
        noisy=noisy,
    )
    shares: dict[str, Any] = {"seed": seed} | ({"validation": validation} if validation else {})
    source = source_of(data, data_dir, download, data_arg, **shares)
    with compiling(model):
        subject = subject_on(
            device,
            model,
            source,
            detectors=settings.detectors,
            pretrained=pretrained,
            input_size=input_size,
            options=pairs(model_arg),
            transform=pairs(transform),
            root=data_dir,
            trust_files=trust_files,
        )
    with attack_progress() as progress:
        found = fit_detectors(subject, settings, progress)
    save_detector(found, output)
    show_fitted(out_console(), found)
    click.echo(f"saved in {output}", err=True)
