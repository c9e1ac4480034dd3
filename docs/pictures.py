"""Draw the picture in the README: what a command prints, as SVG. ``make pictures`` runs it."""

import io
from pathlib import Path

from rich.console import Console

from fxtransport import transportify
from fxtransport.models import build, resolve
from fxtransport.report.split_table import show
from fxtransport.report.summary import summary

COMMAND = "fxtransport split swin_tiny --modules 4 --equal-weight"


def main() -> None:
    """Compile as the command does, and show the table on a console that records."""
    spec = resolve("swin_tiny")
    program = transportify(build(spec), modules=4, balance="activations")
    console = Console(
        record=True, width=140, force_terminal=True, highlight=False, file=io.StringIO()
    )
    show(console, program, summary(program, spec.canonical, 32))
    target = Path(__file__).with_name("split.svg")
    console.save_svg(str(target), title=COMMAND)


if __name__ == "__main__":
    main()
