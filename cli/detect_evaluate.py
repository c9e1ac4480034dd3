"""``fxtransport detect evaluate``: test detectors."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fxtransport.cli.common import compiling, debug_option, out_console, trust_option
from fxtransport.cli.detect_options import (
    attack_options,
    attack_progress,
    attack_settings,
    data_options,
    device_option,
    open_detector,
    pairs,
    seed_option,
    source_of,
    watched_option,
)


@click.command()
@click.argument("det", type=click.Path(path_type=Path))
@attack_options
@click.option(
    "--ood",
    "others",
    multiple=True,
    metavar="[near=|far=]NAME",
    help="Another data set, whose test split the detectors shall find; may be repeated.",
)
@click.option(
    "--adaptive",
    is_flag=True,
    help="Also attack each detector together with the model, from images of CW.",
)
@click.option(
    "--adaptive-arg",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of --adaptive: only (decisions, features or gradients), steps, evaluations, "
    "iterations, epsilon, descents; may be repeated.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep attacked images in this folder, and take those that are there.",
)
@data_options
@click.option(
    "--fpr",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    metavar="X",
    help="The false-positive rate of the thresholds.",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Draw ROC curves and histograms of scores into this folder.",
)
@click.option("--images", type=click.IntRange(1), metavar="N", help="At most this many images.")
@seed_option
@click.option(
    "--seeds",
    type=click.IntRange(2),
    metavar="N",
    help="Fit and test N times, on other splits of the images, and show 95 % intervals.",
)
@watched_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a test, on stdout.")
@trust_option
@debug_option
def evaluate(
    det: Path,
    attacks: tuple[str, ...],
    epsilon: float | None,
    count_all: bool,
    others: tuple[str, ...],
    adaptive: bool,
    adaptive_arg: tuple[str, ...],
    cache: Path | None,
    data: str | None,
    data_dir: str | None,
    download: bool,
    data_arg: tuple[str, ...],
    fpr: float,
    plots: Path | None,
    images: int | None,
    seed: int,
    seeds: int | None,
    watched: Path | None,
    device: str | None,
    as_json: bool,
    trust_files: bool,
) -> None:
    """Test the detectors in DET on the test split: on attacks, and on other data.

    Without --attack and --ood, the attacks are those that the detectors were fitted on. The
    attack that a detector finds worst is marked. An image that was fitted on is refused. Other
    data is near, far, or neither, and shares no image with the test split or with other sets.

    With --adaptive, attackers know the detector. Images of CW that it finds are moved until
    they fool the model and are not found: by what model and detector decide, by features that
    are not found, and, where it is fitted on clean images alone, by gradients. CW, as --attack
    sets it, comes before.

    With --seeds, detectors of the same kinds are fitted again: each time, the images of the
    validation and of the test split are divided by another seed.

    For example: fxtransport detect evaluate det --attack fgm --attack pgd --ood patches
    """
    from fxtransport.detecting.adaptive import AdaptiveSettings
    from fxtransport.detecting.evaluating import (
        Evaluation,
        EvaluationSettings,
        evaluate_detectors,
        images_to_test,
        known_attacks,
    )
    from fxtransport.detecting.other_data import load_others, parse_others
    from fxtransport.detecting.repeating import (
        SeedsEvaluation,
        evaluate_over_seeds,
        images_to_split,
    )
    from fxtransport.report.detection_pictures import draw
    from fxtransport.report.detection_table import show_evaluation
    from fxtransport.report.pictures import require_matplotlib

    chosen = attack_settings(attacks, epsilon)
    parse_others(others)
    if adaptive_arg and not adaptive:
        raise click.UsageError("--adaptive-arg goes with --adaptive")
    evasion = AdaptiveSettings.named(pairs(adaptive_arg)) if adaptive else None
    if plots is not None:
        require_matplotlib()
    with compiling(str(det)):
        found = open_detector(det, watched, device, trust_files=trust_files)
        source = source_of(data, data_dir, download, data_arg)
        source = source or found.fitted_on.data.moved(data_dir)
        pool = None if seeds is None else images_to_split(found, source, images, seed)
        given = images_to_test(found, source, images, seed) if pool is None else pool.images
        strange = load_others(found, others, images, seed)
    if not chosen and not others:
        chosen = known_attacks(found)
    settings = EvaluationSettings(chosen, fpr, seed, count_all, evasion, cache)
    result: Evaluation | SeedsEvaluation
    with attack_progress() as progress:
        if pool is None or seeds is None:
            result = evaluate_detectors(found, given, settings, strange, progress)
        else:
            result = evaluate_over_seeds(
                found, pool, settings, strange, seeds=seeds, progress=progress
            )
    evaluations = [result] if isinstance(result, Evaluation) else result.evaluations
    for reason in evaluations[0].untested:
        click.echo(f"not tested: {reason}", err=True)
    if plots is not None:
        for path in draw(evaluations, plots):
            click.echo(f"drawn: {path}", err=True)
    if as_json:
        for row in result.rows:
            click.echo(json.dumps(_json(asdict(row))))
    else:
        show_evaluation(out_console(), found, result)


def _json(value: Any) -> Any:
    """Values of JSON, which knows no NaN and no infinities."""
    if isinstance(value, dict):
        return {name: _json(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
