"""Which images of a run's data were decoded to check them: a file in its folder."""

import os
from pathlib import Path

from fxtransport.data.checked import Checked
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.files import read_text
from fxtransport.training.checkpoint import RunFolder

CHECKED = "checked.txt"
"""The file in a run's folder."""
LIMIT = 2**32
"""The most bytes of it."""


def read_checked(run: Path) -> Checked:
    """What a run has noted of its images; nothing where it has not.

    Raises:
        CheckpointError: the file is damaged, or cannot be read.
    """
    path = run / CHECKED
    if not os.path.lexists(path):
        return Checked()
    try:
        return Checked.parse(read_text(path, limit=LIMIT))
    except (OSError, UnicodeDecodeError, UsageError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; delete it, and images are checked once more"
        ) from error


def write_checked(run: Path, checked: Checked) -> None:
    """Note in a run's folder which images were decoded, if any were.

    Raises:
        CheckpointError: it cannot be written, or another file of that name is there.
    """
    if checked.defects:
        RunFolder(run).write_text(CHECKED, checked.text())
