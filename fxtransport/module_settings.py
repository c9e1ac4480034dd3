"""What modules compute with beside their tensors: strides, rates, epsilons, names of modes.

They are plain attributes. In a graph they are seen where a module's code is in it; of a module
that is called as a whole, they are read here.
"""

import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn

from fxtransport.watched import NUMBER, Watched, live_value

_WITHOUT_EFFECT = frozenset(("training", "pretrained_cfg", "default_cfg", "grad_checkpointing"))
"""Attributes that change no number: of where weights are from, of memory, and modes."""


class _NotPlainError(Exception):
    """A value that is no setting: an object, a tensor, a module."""


def settings_hash(
    model: nn.Module,
    opened: Iterable[str],
    watched: Iterable[Watched],
    written: Iterable[tuple[str, str]] = (),
) -> str:
    """A hash of the settings of a model's modules.

    Args:
        model: The model.
        opened: The paths of the modules whose code is in the graph; of these, what the graph
            reads counts.
        watched: What the graph reads.
        written: What the graph writes, by path and name: counters, which are no settings.
    """
    left_out, own = {*opened, ""}, {*written}
    found = [
        (path, type(module).__qualname__, *settings_of(module))
        for path, module in model.named_modules()
        if path not in left_out
    ]
    read = sorted(
        (entry.path, entry.name, entry.module, entry.variable, repr(entry.steps), value)
        for entry in watched
        if (entry.path, entry.name) not in own
        for value in _values(entry, model)
    )
    return hashlib.sha256(repr((found, read)).encode()).hexdigest()


def settings_of(module: nn.Module) -> list[tuple[str, str]]:
    """The settings of a module without its submodules, as texts, by their names."""
    found = []
    for name, value in sorted(vars(module).items()):
        if not name.startswith("_") and name not in _WITHOUT_EFFECT:
            found += [(name, text) for text in _texts(value)]
    return found


def plain_globals(named: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers, texts and functions that generated code refers to by name."""
    return [(name, text) for name, value in sorted(named.items()) for text in _texts(value)]


def _values(entry: Watched, model: nn.Module) -> Iterable[str]:
    """The value of an attribute that the graph reads, as a text, if it is plain."""
    if entry.value is not NUMBER:
        return _texts(entry.value)
    return _texts(live_value(entry, model.get_submodule(entry.path)))


def _texts(value: Any) -> Iterable[str]:
    """A value as text, which is the same in every process; nothing if it is not plain."""
    try:
        return [repr(_plain(value))]
    except _NotPlainError:
        return []


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return type(value).__qualname__, value.name
        case None | bool() | int() | float() | complex() | str() | bytes():
            return value
        case torch.dtype() | range() | slice():
            return repr(value)
        case partial():
            return _plain(value.func), _plain(value.args), _plain(value.keywords)
        case type() | FunctionType() | BuiltinFunctionType():
            return value.__qualname__
        case dict():
            return [(_plain(key), _plain(inner)) for key, inner in value.items()]
        case list() | tuple():
            return tuple(map(_plain, value))
        case set() | frozenset():
            return sorted(repr(_plain(inner)) for inner in value)
    raise _NotPlainError
