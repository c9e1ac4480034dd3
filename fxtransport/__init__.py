"""Compile any timm or torchvision model into a program of modules that are trained by transport.

The public names are imported when they are first used, so that the command line answers
before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxtransport.compiler import transportify
    from fxtransport.program import ModuleOutput, Program, ProgramModule, TransportOutput
    from fxtransport.storage import load, save

_HOMES = {
    "ModuleOutput": "fxtransport.program",
    "Program": "fxtransport.program",
    "ProgramModule": "fxtransport.program",
    "TransportOutput": "fxtransport.program",
    "load": "fxtransport.storage",
    "save": "fxtransport.storage",
    "transportify": "fxtransport.compiler",
}

__all__ = [
    "ModuleOutput",
    "Program",
    "ProgramModule",
    "TransportOutput",
    "load",
    "save",
    "transportify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fxtransport' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
