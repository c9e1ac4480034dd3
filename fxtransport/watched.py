"""Plain attributes that code in a program's graph read: what they were, and whether they still are.

The code of opened modules was run once. What it decided on the value of an attribute, such as a
flag or an entry of a configuration, is in the graph, so the attribute must keep its value.
"""

import sys
import types
import weakref
from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from functools import partial
from logging import Logger
from pathlib import PurePath
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn

from fxtransport.errors import GuardError

PLAIN: Final = (int, float, str, bool, type(None))
CONSTANTS: Final = (
    *PLAIN,
    *(bytes, complex, range, slice, type(...), type(NotImplemented), Enum, PurePath, type),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType),
    *(types.WrapperDescriptorType, np.generic, np.dtype, np.ufunc),
)
"""What is compared as it is. Functions and classes survive a deep copy as themselves."""
OPAQUE: Final = (torch.Tensor, nn.Module, Logger, types.ModuleType, weakref.ReferenceType)
"""What is known by its class only: tensors may change, and modules have guards of their own."""
ATTRIBUTE: Final = "attribute"
ITEM: Final = "item"
Step = tuple[str, Any]
"""How what an object holds is read: ``ATTRIBUTE`` or ``ITEM``, and a name or key."""
DEPTH: Final = 8
"""How deep containers and objects are looked into."""
SIZE: Final = 10_000
"""How many values are looked at, of one attribute."""


class Missing(Enum):
    """Stands for the value of an attribute that is not there."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing.MISSING


class Number(Enum):
    """Stands for a number that a program reads again when it runs."""

    NUMBER = "a number"

    def __repr__(self) -> str:
        return "a number"


NUMBER: Final = Number.NUMBER


class Held(Enum):
    """Stands for a parameter or buffer, which may be any but None; a part may lack it."""

    TENSOR = "a tensor"

    def __repr__(self) -> str:
        return "a tensor"


TENSOR: Final = Held.TENSOR


class BoundMethod:
    """Stands for the class of bound methods, which cannot be pickled."""


Item = tuple[Any, str, Any]
"""What an object holds in one place: the place, the name of the class, and the picture."""


class Frozen(NamedTuple):
    """What an object held."""

    kind: type
    items: tuple[Item, ...] | frozenset[Item]

    def __repr__(self) -> str:
        """As short as the object's own, or nearly so."""
        values = [(place, value) for place, _, value in self.items]
        if issubclass(self.kind, dict):
            return "{" + ", ".join(f"{place!r}: {value!r}" for place, value in values) + "}"
        inner = ", ".join(repr(value) for _, value in values)
        if issubclass(self.kind, list):
            return f"[{inner}]"
        if issubclass(self.kind, tuple):
            return f"({inner})"
        return f"a {self.kind.__name__}"


def snapshot(value: Any) -> Any:
    """A picture of a value that can be compared with one of a later time, or of a deep copy.

    Numbers, strings, data types, enumerations, functions and classes are themselves. Of
    containers and of objects, such as a configuration, the class and all that they hold are
    compared; of modules and tensors, the class.
    """
    return Camera().picture(value)


class Camera:
    """Takes snapshots, of each object once. It is made for one look at everything."""

    def __init__(self) -> None:
        self._taken: dict[int, tuple[Any, Any]] = {}
        self._around: list[int] = []
        self._left = SIZE

    def picture(self, value: Any) -> Any:
        """See :func:`snapshot`."""
        if not self._around:
            self._left = SIZE
        kind = type(value)
        if isinstance(value, CONSTANTS) and (kind is not float or value == value):
            return value
        if isinstance(value, OPAQUE):
            return Frozen(kind, ())
        taken = self._taken.get(id(value))
        if taken is not None:
            return taken[1]
        if id(value) in self._around:
            # a cycle: where it leads
            return Frozen(kind, ((self._around.index(id(value)), kind.__qualname__, None),))
        if len(self._around) >= DEPTH or self._left <= 0:
            return Frozen(kind, ())
        self._around.append(id(value))
        known = BoundMethod if kind is types.MethodType else kind
        frozen = Frozen(known, self._items(value))
        self._around.pop()
        if not self._around:
            # of what is inside, the depth left and the cycles depend on what is around it
            self._taken[id(value)] = (value, frozen)
        return frozen

    def _items(self, value: Any) -> Any:
        match value:
            case dict():
                entries: Iterable[tuple[Any, Any]] = (
                    (self.picture(key), inner) for key, inner in value.items()
                )
            case set() | frozenset():
                return frozenset(self._pictured((None, inner) for inner in value))
            case list() | tuple() | deque():
                entries = enumerate(value)
            case bytearray() | array() | np.ndarray():
                entries = (("shape", getattr(value, "shape", None)), ("data", bytes(value)))
            case types.MethodType():
                entries = (("__func__", value.__func__), ("__self__", value.__self__))
            case partial():
                names = ("func", "args", "keywords")
                entries = ((name, getattr(value, name)) for name in names)
            case _:
                entries = sorted(_attributes(value).items())
                if not entries and _is_comparable(value):
                    return ((None, type(value).__qualname__, value),)
        found = tuple(self._pictured(entries))
        if isinstance(value, list | tuple | dict) and getattr(value, "__dict__", None):
            # of a subclass with attributes of its own
            found += tuple(self._pictured(sorted(vars(value).items())))
        return found

    def _pictured(self, entries: Iterable[tuple[Any, Any]]) -> Iterable[Item]:
        for place, inner in entries:
            self._left -= 1
            if self._left < 0:
                return
            yield place, type(inner).__qualname__, self.picture(inner)


def _attributes(value: Any) -> Mapping[str, Any]:
    """What an object holds by name, in its dictionary and in slots, and plain ones of its class."""
    own = getattr(value, "__dict__", None)
    found = {} if own is None else _of_class(type(value)) | dict(own)
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _is_comparable(value: Any) -> bool:
    """Whether a value cannot change and equals others of its value, as a Decimal does."""
    own = type(value).__dict__.get("__hash__")
    return own is not None and (value == value) is True


def _of_class(kind: type) -> dict[str, Any]:
    """The plain attributes of a class, and of those that it is derived from."""
    return {
        name: value
        for each in reversed(kind.__mro__)
        for name, value in each.__dict__.items()
        if type(value) in PLAIN and not name.startswith("__")
    }


@dataclass(frozen=True, eq=False)
class Holder:
    """A class, function or variable of a closure that no module of Python has by a name.

    It is the same in a copy of a program. In another process it is not there.
    """

    held: type | types.FunctionType | types.CellType | None

    def __deepcopy__(self, memo: object) -> "Holder":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Holder, (None,)


@dataclass(frozen=True)
class Watched:
    """An attribute that the graph depends on."""

    path: str
    """The module's path; empty for the model itself."""
    name: str
    value: Any
    """What it was, from :func:`snapshot`; ``MISSING`` if it was not there."""
    module: str = ""
    """Of a global variable, the module of Python that has it."""
    variable: str = ""
    """Of what is inside a global variable, the variable."""
    steps: tuple[Step, ...] = ()
    """How it is read from the variable, from the holder, or from the class of the module."""
    holder: Holder | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is no attribute of the module."""
        return bool(self.module or self.holder)


def check_watched(watched: Iterable[Watched], origin: nn.Module, camera: Camera) -> None:
    """See that attributes of a module are what they were.

    Args:
        watched: The attributes.
        origin: The module.
        camera: Made for this check: what several modules hold, such as a configuration, is
            looked at once.

    Raises:
        GuardError: one is something else.
    """
    for entry in watched:
        value = entry.value
        live = live_value(entry, origin)
        if value is NUMBER and type(live) in (int, float):
            continue
        if value is TENSOR and live is not None:
            continue
        if live is value or (type(live) is type(value) and type(live) in PLAIN and live == value):
            continue
        found = camera.picture(live)
        if type(found) is not type(value) or found != value:
            raise GuardError(changed(entry, origin, *difference(value, found)))


def live_value(entry: Watched, origin: nn.Module) -> Any:
    """What an attribute, or a global variable, is now; ``MISSING`` if it is not there.

    Args:
        entry: The attribute.
        origin: The module.
    """
    if entry.holder is not None:
        return entry.value if entry.holder.held is None else _inside(entry.holder.held, entry.steps)
    if not entry.module:
        if entry.steps:
            return _inside(type(origin), entry.steps)
        return getattr(origin, entry.name, MISSING)
    module = sys.modules.get(entry.module)
    if module is None:
        # in another process, the code that read it may not be there
        return entry.value
    found = getattr(module, entry.variable or entry.name, MISSING)
    return _inside(found, entry.steps) if entry.steps else found


def _inside(value: Any, steps: tuple[Step, ...]) -> Any:
    """What is inside an object now; ``MISSING`` if it is not there."""
    for kind, key in steps:
        try:
            value = getattr(value, key) if kind is ATTRIBUTE or kind == ATTRIBUTE else value[key]
        except (AttributeError, LookupError, TypeError, ValueError):
            return MISSING
    return value


def changed(entry: Watched, origin: nn.Module, place: str, before: str, now: str) -> str:
    """What to tell a user who changed an attribute."""
    name = entry.name if entry.holder else f"{entry.module or 'self'}.{entry.name}"
    return (
        f"{entry.path or 'the model'} ({type(origin).__name__}) reads {name}{place}, "
        f"which was {before} when the program was compiled and is {now} now; set it back, or "
        "compile again"
    )


def difference(before: Any, now: Any) -> tuple[str, str, str]:
    """Where two pictures differ, as text: the place inside, and what was and is there."""
    place = ""
    while isinstance(before, Frozen) and isinstance(now, Frozen) and before.kind is now.kind:
        old, new = before.items, now.items
        if isinstance(old, AbstractSet) or isinstance(new, AbstractSet):
            break
        if len(old) != len(new):
            break
        pairs = zip(old, new, strict=True)
        one, other = next(((a, b) for a, b in pairs if a != b), (None, None))
        if one is None or other is None or one[0] != other[0]:
            break
        inside = issubclass(before.kind, list | tuple | dict)
        place += f"[{one[0]!r}]" if inside else f".{one[0]}"
        before, now = one[2], other[2]
    return place, *_told_apart(before, now)


def _told_apart(before: Any, now: Any) -> tuple[str, str]:
    """Two values as text that is not the same."""
    old, new = _shortened(before), _shortened(now)
    if old != new:
        return old, new
    kinds = [x.kind if isinstance(x, Frozen) else type(x) for x in (before, now)]
    if kinds[0] is kinds[1]:
        return old, f"another {kinds[0].__name__}"
    return f"{old} of {kinds[0].__qualname__}", f"one of {kinds[1].__qualname__}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
