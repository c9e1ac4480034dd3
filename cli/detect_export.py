"""``fxtransport detect export``: what is measured of images, as an ONNX model."""

from pathlib import Path

import click

from fxtransport.cli.common import compiling, debug_option, trust_option


@click.command()
@click.argument("det", type=click.Path(path_type=Path))
@click.option(
    "--onnx",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The ONNX model.",
)
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    metavar="NAME",
    help="Return what this detector reads; may be repeated.  [default: all]",
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@trust_option
@debug_option
def export(
    det: Path, onnx: Path, detectors: tuple[str, ...], force: bool, trust_files: bool
) -> None:
    """Write the model in DET, with all that its detectors read of images, as ONNX.

    It takes pixels from 0 to 1, any number of images at once, and returns the logits and the
    features. It is compared with torch by onnxruntime before it is written.

    For example: fxtransport detect export det --onnx extractor.onnx
    """
    from fxtransport.detecting.exporting import export_extractor
    from fxtransport.detecting.folder import load_detector
    from fxtransport.errors import UsageError

    if onnx.exists() and not force:
        raise UsageError(f"{onnx} already exists: give another --onnx, or --force")
    with compiling(str(det)):
        found = load_detector(det, trust_files=trust_files)
        names = export_extractor(found, onnx, detectors)
    click.echo(f"{onnx}: images to {', '.join(names)}; onnxruntime agrees with torch", err=True)
