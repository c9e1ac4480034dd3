"""Compile any timm or torchvision model into a program of parts that are trained by transport.

The public names are imported when they are first used, so that the command line answers before
torch is loaded, and so that what runs programs does not load what compiles them. The stub beside
this file, ``__init__.pyi``, tells type checkers where they are.
"""

from importlib import import_module

_HOMES = {
    "Part": "fxtransport.program",
    "PartOutput": "fxtransport.program",
    "Program": "fxtransport.program",
    "TransportOutput": "fxtransport.program",
    "compile_named": "fxtransport.targets",
    "image_extractor": "fxtransport.detectors",
    "load": "fxtransport.storage",
    "load_detector": "fxtransport.detecting.folder",
    "load_part": "fxtransport.storage",
    "load_run": "fxtransport.runs.load",
    "pair": "fxtransport.pairing.pairs",
    "plan": "fxtransport.planning",
    "save": "fxtransport.storage",
    "save_part": "fxtransport.storage",
    "transport_features": "fxtransport.detectors",
    "transportify": "fxtransport.compiler",
}

__all__ = [
    "Part",
    "PartOutput",
    "Program",
    "TransportOutput",
    "compile_named",
    "image_extractor",
    "load",
    "load_detector",
    "load_part",
    "load_run",
    "pair",
    "plan",
    "save",
    "save_part",
    "transport_features",
    "transportify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'fxtransport' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
