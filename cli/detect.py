"""``fxtransport detect``: detectors of attacked and strange images. Finds the subcommand."""

from importlib import import_module

import click

COMMANDS = {
    "attack": "Attack the images of a data set, and count what fools the model.",
    "evaluate": "Test detectors on attacks and on other data.",
    "export": "Write what is measured of images as an ONNX model.",
    "fit": "Fit detectors for a trained model.",
    "score": "Judge images: clean or suspicious.",
}
"""Each is in the file ``detect_NAME.py``, which is imported when it is called."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = getattr(import_module(f"fxtransport.cli.detect_{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_LazyGroup)
def detect() -> None:
    """Detect attacked and out-of-distribution images by their way through the network.

    For example: fxtransport detect fit run --attack fgm -o det
    """
