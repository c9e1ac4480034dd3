"""Start the command again with jemalloc, where it is installed.

What a training step frees on a CPU is kept for the next one. In what glibc keeps there are holes
that it cannot use again; in what jemalloc keeps there are few. An allocator can be chosen only
when a process starts.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fxtransport.allocators import (
    GLIBC_SETTINGS,
    JEMALLOC_SETTINGS,
    is_chosen,
    jemalloc_library,
)

TRAINS = ("train", "transfer")
"""The commands that this is for."""
STARTED = "FXTRANSPORT_STARTED_AGAIN"
"""Set in the environment of a process that has started again."""


def start_with_jemalloc(argv: Sequence[str]) -> None:
    """Start the console script again with jemalloc, in the same process, if it is to train.

    Processes that this one starts do not inherit it.

    Args:
        argv: The command line, from the console script on.
    """
    if os.environ.pop(STARTED, None) is not None:
        os.environ.pop("LD_PRELOAD", None)
        return
    script, *arguments = argv
    if Path(script).stem != "fxtransport" or not arguments or arguments[0] not in TRAINS:
        return
    environment = with_jemalloc()
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def with_jemalloc() -> dict[str, str] | None:
    """The environment of a process that trains by this command line, with jemalloc.

    Returns:
        None where the environment chooses an allocator or its settings, on another system than
        Linux, and where jemalloc is not found.
    """
    if sys.platform != "linux" or is_chosen(GLIBC_SETTINGS + JEMALLOC_SETTINGS):
        return None
    library = jemalloc_library()
    return None if library is None else os.environ | {"LD_PRELOAD": library, STARTED: "1"}
