"""Where values are that code reads and no module holds, and what is inside them."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from torch import nn

from fxtransport.tracing.code_reads import Read, Root
from fxtransport.tracing.value_proxy import is_proxy
from fxtransport.watched import ATTRIBUTE, ITEM, Holder, Step, Watched, snapshot

_UNKNOWN: Final = object()


@dataclass(frozen=True)
class Place:
    """Where a value is, as a program finds it again."""

    text: str
    module: str = ""
    variable: str = ""
    holder: Holder | None = None
    steps: tuple[Step, ...] = ()

    def then(self, kind: str, key: Any) -> "Place":
        """What is inside."""
        inner = f".{key}" if kind == ATTRIBUTE else f"[{key!r}]"
        return replace(self, text=f"{self.text}{inner}", steps=(*self.steps, (kind, key)))

    def watched(self, path: str, value: Any) -> Watched:
        """The value there, which must stay."""
        return Watched(
            path, self.text, snapshot(value), self.module, self.variable, self.steps, self.holder
        )


@dataclass(frozen=True)
class Known:
    """A value that code reads, and where it is; None where a module's attribute leads to it."""

    value: Any
    place: Place | None


@dataclass(frozen=True)
class Code:
    """Code, and what it finds by name."""

    code: CodeType
    globals: dict[str, Any]
    cells: Mapping[str, Known]
    first: Known | None = None


def root_of(own: Code, read: Read) -> Known | None:
    """What a name stands for."""
    match read.root:
        case Root.GLOBAL:
            if read.name not in own.globals:
                return None
            module = own.globals.get("__name__", "")
            return Known(own.globals[read.name], Place(read.name, module, read.name))
        case Root.CELL:
            return own.cells.get(read.name)
        case Root.TYPE:
            return None if own.first is None else class_of(own.first)
        case Root.SUPER:
            return None
    return own.first


def class_of(known: Known) -> Known:
    """The class of a value."""
    kind = type(known.value)
    return Known(kind, place_of_class(kind))


def step_into(found: Known, kind: str, key: Any) -> Known | None:
    """What is inside a value, if no code of the value's class computes it."""
    value, place = found.value, found.place
    if kind == ATTRIBUTE and key == "__class__":
        return class_of(found)
    if kind == ITEM:
        plain = type(value) in (dict, list, tuple) or type(value).__getitem__ is dict.__getitem__
        if not plain or isinstance(value, nn.Module):
            return None
        inner = _item(value, key)
    elif isinstance(value, ModuleType):
        inner = vars(value).get(key, _UNKNOWN)
        place = Place(value.__name__.rpartition(".")[2], value.__name__) if place else None
        if inner is _UNKNOWN:
            return None
        return Known(inner, Place(key, value.__name__, key))
    else:
        inner = inspect.getattr_static(value, key, _UNKNOWN)
        if _is_computed(inner, value, key):
            return None
    if inner is _UNKNOWN:
        return None
    return Known(inner, None if place is None else place.then(kind, key))


def _item(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (LookupError, TypeError):
        return _UNKNOWN


def _is_computed(inner: Any, value: Any, key: str) -> bool:
    """Whether an attribute is a method, a property or such."""
    if isinstance(value, nn.Module):
        return True
    if isinstance(inner, classmethod | staticmethod | property):
        return True
    own = vars(value) if hasattr(value, "__dict__") else {}
    return key not in own and hasattr(type(inner), "__get__")


def place_of_class(kind: type) -> Place:
    """Where a class is: in a module of Python, or only where it was made."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    if found is not kind:
        return Place(kind.__name__, holder=Holder(kind))
    variable, *names = kind.__qualname__.split(".")
    place = Place(variable, kind.__module__, variable)
    for name in names:
        place = place.then(ATTRIBUTE, name)
    return place


def cells_of(function: FunctionType, seen: Mapping[str, Any] | None = None) -> dict[str, Known]:
    """The variables of a closure that are set, and where it has several, those seen."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # not set yet
        if seen is not None and seen.get(name) is not value:
            continue
        if name == "__class__":
            found[name] = Known(value, place_of_class(value))
            continue
        place = Place(f"{name} of {function.__qualname__}", holder=Holder(cell))
        found[name] = Known(value, replace(place, steps=((ATTRIBUTE, "cell_contents"),)))
    return found


def is_class(value: Any) -> bool:
    """Whether a value is a class."""
    return isinstance(value, type) and not is_proxy(value)
