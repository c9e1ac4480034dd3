"""What of a model's forward is computed again in the backward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """A call of ``torch.utils.checkpoint``: the nodes of the function that is checkpointed."""

    path: str
    """The module whose code makes the call."""
    nodes: frozenset[str]
    options: Mapping[str, Any]
    """The keyword arguments of the call that change what it does, without ``use_reentrant``."""
    mode: bool | None = None
    """In which mode of that module it is made: True in train mode only; None in both."""


@dataclass(frozen=True)
class Checkpoints:
    """The calls in the code of opened modules. One that is made inside another comes later."""

    found: tuple[Checkpoint, ...] = ()
