"""What all pictures share: matplotlib, figures of several panels, and files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxtransport.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120


def require_matplotlib() -> None:
    """Check that there is something to draw with.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"pictures are drawn by matplotlib, which cannot be imported ({error}): "
            "pip install 'fxtransport[plots]'"
        ) from error


def check_format(file: Path) -> None:
    """Check that a picture can be drawn into a file of this name, before anything is computed.

    Raises:
        UsageError: matplotlib is not installed, or it does not draw this format.
    """
    require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if file.suffix.removeprefix(".").lower() not in known:
        raise UsageError(
            f"the ending of {file} says no format of pictures: take .png, .svg or .pdf"
        )


def panels(
    count: int, columns: int = 4, size: tuple[float, float] = (4.0, 4.0)
) -> "tuple[Figure, list[Any]]":
    """A figure with so many panels, ``columns`` in a row, each of a size in inches."""
    from matplotlib.figure import Figure

    across = min(columns, count)
    rows = -(-count // across)
    figure = Figure(figsize=(size[0] * across, size[1] * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, across, place + 1) for place in range(count)]


def save(figure: "Figure", file: Path) -> None:
    """Write a figure into a file; the ending says the format.

    Raises:
        UsageError: it cannot be written.
    """
    from matplotlib import rc_context

    try:
        # the same picture is the same file
        with rc_context({"svg.hashsalt": "fxtransport"}):
            metadata = {"Date": None} if file.suffix.lower() == ".svg" else None
            figure.savefig(file, dpi=_DPI, metadata=metadata)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {file}: {error}") from error
