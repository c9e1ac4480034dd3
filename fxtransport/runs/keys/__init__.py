"""The keys of a run's configuration: a file for each section.

The options of ``fxtransport train``, the keys of configuration files and what ``--set`` takes are
this one table. The defaults are published settings: LAP's for CIFAR10, TRGL's for STL10
(THESIS F, G).
"""

import functools
from collections.abc import Mapping

from fxtransport.runs.keys import (
    data,
    model,
    objective,
    optimizer,
    program,
    schedule,
    trainer,
    transfer,
)
from fxtransport.runs.keys.key import METHODS, DefaultBy, Entry, Key

__all__ = ["METHODS", "DefaultBy", "Entry", "Key", "all_keys"]


@functools.cache
def all_keys() -> Mapping[str, Key]:
    """All keys by path, in the order in which they are shown and written."""
    sections = (
        model.KEYS,
        program.program_keys(),
        data.KEYS,
        objective.KEYS,
        transfer.KEYS,
        schedule.KEYS,
        optimizer.KEYS,
        trainer.KEYS,
    )
    return {key.path: key for section in sections for key in section}
