"""The names of models: timm's, torchvision's, the papers', aliases, and factories in files.

timm and torchvision are imported when a name is looked up, not before, so that a command that
needs no model answers at once.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from fxtransport.errors import ModelNameError, UsageError

Source = Literal["timm", "torchvision", "nets"]

SOURCES: dict[str, Source] = {"timm": "timm", "torchvision": "torchvision", "nets": "nets"}
LIBRARIES: tuple[Source, ...] = ("timm", "torchvision")
"""Where a name without a prefix is looked for."""
NETS = ("cifar_resnet", "circles_resnet", "km_resnet", "resnet110", "resnet_m")
"""The networks of :mod:`fxtransport.nets`."""
SUGGESTIONS = 8

# Short names that are the prefix of several models. All are timm's.
ALIASES = {
    "beit_base": "beit_base_patch16_224",
    "beit_large": "beit_large_patch16_224",
    "cait_s24": "cait_s24_224",
    "cait_xxs24": "cait_xxs24_224",
    "cait_xxs36": "cait_xxs36_224",
    "deit_base": "deit_base_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_tiny": "deit_tiny_patch16_224",
    "maxvit_tiny": "maxvit_tiny_tf_224",
    "mixer_b16": "mixer_b16_224",
    "mixer_s32": "mixer_s32_224",
    "mobilenetv3": "mobilenetv3_large_100",
    "swin_base": "swin_base_patch4_window7_224",
    "swin_large": "swin_large_patch4_window7_224",
    "swin_small": "swin_small_patch4_window7_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tiny_vit_21m": "tiny_vit_21m_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large": "vit_large_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_tiny": "vit_tiny_patch16_224",
}

_FACTORY = re.compile(r".+\.py:[^:]+")
_SUBMODULE = re.compile(r"(?P<whole>.+)#(?P<path>\w+(?:\.\w+)*)")


@dataclass(frozen=True)
class ModelSpec:
    """A model that has been found, and how.

    ``name`` is the name in the library, or ``path/to/file.py:factory``. ``note`` says in one
    sentence which choice was made when the name asked for was not exact. ``submodule`` is the
    path of a submodule that is meant instead of the whole.
    """

    library: Literal["timm", "torchvision", "nets", "file"]
    name: str
    note: str | None = None
    submodule: str = ""

    @property
    def canonical(self) -> str:
        """The name that always means this: ``timm:resnet18``, ``file.py:factory#backbone``."""
        name = self.name if self.library == "file" else f"{self.library}:{self.name}"
        return f"{name}#{self.submodule}" if self.submodule else name


def check_trusted(spec: ModelSpec, source: str, *, trust_files: bool) -> None:
    """Check that a model whose name was read from a file may be built.

    Args:
        spec: The model.
        source: Where its name is from, for the error.
        trust_files: Whether Python files that are named there may be run.

    Raises:
        UsageError: the model is made by a Python file, and those are not trusted.
    """
    if spec.library == "file" and not trust_files:
        file = Path(spec.name.rpartition(":")[0])
        raise UsageError(
            f"{source} names a model in a Python file, {file}, and would run it: give "
            "trust_files=True if you trust that file"
        )


def resolve(name: str) -> ModelSpec:
    """Find the model that a name means.

    The order is: a factory in a file; the exact name in timm, then in torchvision; an alias; the
    only name with this beginning, which ends at an underscore if possible. The prefix ``timm:`` or
    ``torchvision:`` restricts the search to that library, ``nets:`` to :mod:`fxtransport.nets`.
    The suffix ``#PATH`` means a submodule.

    >>> resolve("torchvision:resnet18").canonical
    'torchvision:resnet18'
    >>> resolve("torchvision:resnet18#layer1").submodule
    'layer1'
    >>> resolve("swin_tiny").note
    'swin_tiny is timm:swin_tiny_patch4_window7_224 (alias)'

    Raises:
        ModelNameError: no model has this name, or several could be meant; the error lists them.
    """
    if part := _SUBMODULE.fullmatch(name):
        return replace(resolve(part["whole"]), submodule=part["path"])
    if _FACTORY.fullmatch(name):
        return ModelSpec("file", name)
    if name.endswith(".py"):
        raise ModelNameError(f"'{name}' is a file: name a function in it, {name}:FACTORY")
    library, colon, rest = name.partition(":")
    if not colon:
        return _find(name, name, _sources(None))
    if library in SOURCES:
        return _find(name, rest, (SOURCES[library],))
    raise ModelNameError(
        f"'{name}' is not a valid name of a model: "
        "write timm:NAME, torchvision:NAME, nets:NAME or path/to/file.py:factory"
    )


def list_models(pattern: str = "*", source: Source | None = None) -> list[str]:
    """List canonical names, timm's first, that match a glob or contain a text.

    >>> list_models("resnet18", source="torchvision")
    ['torchvision:quantized_resnet18', 'torchvision:resnet18']
    """
    glob = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    sources = _sources(source)
    return [
        f"{library}:{name}"
        for library in sources
        for name in _names(library)
        if fnmatchcase(name, glob) or fnmatchcase(f"{library}:{name}", glob)
    ]


def suggest(name: str, source: Source | None = None) -> list[str]:
    """List the canonical names, at most eight, that come closest to a name.

    >>> suggest("resnet81")[0]
    'timm:resnet18'
    """
    return _suggest(name.rpartition(":")[2], _sources(source))


def torchvision_module(name: str) -> str:
    """The module of torchvision.models that defines a model.

    >>> torchvision_module("r3d_18")
    'video.resnet'
    """
    import torchvision

    module: str = torchvision.models.get_model_builder(name).__module__
    return module.removeprefix("torchvision.models.")


def _sources(source: Source | None) -> tuple[Source, ...]:
    return LIBRARIES if source is None else (source,)


@functools.cache
def _names(library: Source) -> tuple[str, ...]:
    if library == "nets":
        return NETS
    if library == "timm":
        import timm

        return tuple(timm.list_models())
    import torchvision

    return tuple(torchvision.models.list_models())


def _find(asked: str, name: str, sources: tuple[Source, ...]) -> ModelSpec:
    for library in sources:
        if name in _names(library):
            return ModelSpec(library, name)
    if "timm" in sources and (known := _find_in_timm(asked, name)):
        return known
    candidates = _starting_with(f"{name}_", sources) or _starting_with(name, sources)
    if not name or not candidates:
        raise ModelNameError(_unknown(asked, _suggest(name, sources)))
    if len(candidates) > 1:
        raise ModelNameError(_ambiguous(asked, name, candidates))
    [canonical] = candidates.values()
    found_in, _, found = canonical.partition(":")
    return ModelSpec(
        SOURCES[found_in], found, f"{asked} is {canonical} (the only name with this beginning)"
    )


def _find_in_timm(asked: str, name: str) -> ModelSpec | None:
    """Find aliases, names with a tag of pretrained weights, and names that timm has replaced."""
    from timm.models import get_deprecated_models

    alias = ALIASES.get(name)
    if alias in _names("timm"):
        return ModelSpec("timm", alias, f"{asked} is timm:{alias} (alias)")
    architecture, dot, _ = name.partition(".")
    if dot and architecture in _names("timm"):
        tagged = _tagged(architecture)
        if name in tagged:
            return ModelSpec("timm", name)
        close = difflib.get_close_matches(name, tagged, n=SUGGESTIONS, cutoff=0.0)
        raise ModelNameError(_unknown(asked, [f"timm:{known}" for known in close]))
    replaced = get_deprecated_models().get(name)
    if replaced:
        return ModelSpec("timm", replaced, f"{asked} is timm:{replaced} (renamed by timm)")
    return None


def _tagged(architecture: str) -> list[str]:
    import timm

    return [name for name in timm.list_models(architecture, include_tags=True) if "." in name]


def _starting_with(prefix: str, sources: tuple[Source, ...]) -> dict[str, str]:
    """Map names with this prefix to canonical ones, shortest first; timm before torchvision."""
    found: dict[str, str] = {}
    for library in sources:
        for name in sorted(_names(library), key=len):
            if name.startswith(prefix):
                found.setdefault(name, f"{library}:{name}")
    return found


def _suggest(name: str, sources: tuple[Source, ...]) -> list[str]:
    pool = _starting_with("", sources)
    if "timm" in sources:
        pool |= {short: f"timm:{full}" for short, full in ALIASES.items() if full in pool}
    name = name.lower()
    within = [known for known in pool if name and name in known]
    close = difflib.get_close_matches(name, pool, n=SUGGESTIONS, cutoff=0.6)
    return list(dict.fromkeys(pool[known] for known in [*within, *close]))[:SUGGESTIONS]


def _ambiguous(asked: str, name: str, candidates: dict[str, str]) -> str:
    common = [full for full in ALIASES.values() if full in candidates]
    ordered = [candidates[found] for found in dict.fromkeys([*common, *candidates])]
    more = len(ordered) - SUGGESTIONS
    tail = f", and {more} more: `fxtransport models {name}` lists them" if more > 0 else ""
    return f"'{asked}' could mean several models: {', '.join(ordered[:SUGGESTIONS])}{tail}"


def _unknown(asked: str, suggestions: list[str]) -> str:
    if not suggestions:
        return f"no model is called '{asked}': `fxtransport models` lists all"
    return f"no model is called '{asked}': did you mean {', '.join(suggestions)}?"
