"""What traced code reads that no module holds: a program refuses to run once it has changed.

That is: global variables and what is in them, variables of closures, attributes of classes, the
environment. Functions are searched for what they read, from those that run on to those that they
name; libraries are not.
"""

import functools
import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from io import IOBase
from types import (
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any, Final
from unittest import mock

import torch
from torch import nn

from fxtransport.errors import TraceError
from fxtransport.tracing.caches import is_library, replaces_cached
from fxtransport.tracing.code_reads import Read, Root, reads_of
from fxtransport.tracing.error_context import describe_module, is_own, is_own_file
from fxtransport.tracing.identities import tensors_with_steps
from fxtransport.tracing.packages import is_of_others
from fxtransport.tracing.places import (
    Code,
    Known,
    Place,
    cells_of,
    is_class,
    place_of_class,
    root_of,
    step_into,
)
from fxtransport.tracing.value_proxy import is_proxy
from fxtransport.watched import (
    ATTRIBUTE,
    CONSTANTS,
    ITEM,
    MISSING,
    OPAQUE,
    PLAIN,
    Holder,
    Watched,
    live_value,
    snapshot,
)

_STAND_INS: Final = ("fxtransport.tracing.free_functions",)
"""What defines functions that stand in the place of the model's while it is traced."""
_LOOKING_UP = ("os", "collections.abc", "_collections_abc")
_WRAPPERS = (functools.partial, functools.partialmethod)


class GlobalVariables:
    """What the code that ran, and the code that it may call, reads of no module.

    Of what the code of other packages reads, only numbers, texts and flags are watched: they keep
    registries and caches, which grow.

    Args:
        packages: Those of the opened modules.
    """

    def __init__(self, packages: Set[str]) -> None:
        self._packages = packages
        self._reader = ""
        self.watched: dict[tuple[Any, ...], Watched] = {}
        self._seen: set[Any] = set()
        self._ran: dict[int, CodeType] = {}
        """The code of frames, by identity: to hash it takes long."""
        self._path = ""
        self._kept: list[Any] = []

    def note_module(self, module: nn.Module, path: str) -> None:
        """What the forward of an opened module reads."""
        self._path = path
        self._follow(type(module).forward, Known(module, None))

    def note_function(self, function: Any, path: str) -> None:
        """What a function that an opened module holds reads."""
        self._path = path
        self._follow(function, None)

    def note(self, frame: FrameType | None, outermost: CodeType, path: str) -> None:
        """What the functions that run now read, and those that they may call.

        Args:
            frame: The innermost frame.
            outermost: The code of the frame at which to stop.
            path: The path of the module whose code runs.
        """
        self._path = path
        while frame is not None and frame.f_code is not outermost:
            code = frame.f_code
            if id(code) not in self._ran:
                self._ran[id(code)] = code
                if code not in self._seen and is_own(frame):
                    self._note_frame(frame)
            frame = frame.f_back

    def _note_frame(self, frame: FrameType) -> None:
        code = frame.f_code
        first = None
        if code.co_argcount and isinstance(frame.f_locals.get(code.co_varnames[0]), nn.Module):
            first = Known(frame.f_locals[code.co_varnames[0]], None)
        cells: dict[str, Known] = {}
        if set(code.co_freevars) - {"__class__"}:
            for function in gc.get_referrers(code):
                if isinstance(function, FunctionType):
                    cells |= cells_of(function, frame.f_locals)
        self._note_code(Code(code, frame.f_globals, cells, first))

    @contextmanager
    def seen(self, is_traced: Callable[[], bool], path: Callable[[], str]) -> Iterator[None]:
        """While active, what traced code reads of the environment is watched.

        Args:
            is_traced: Whether traced code runs now.
            path: The path of the module whose code runs.
        """
        kind: Any = type(os.environ)
        read = kind.__getitem__

        def reading(environment: Any, key: Any) -> Any:
            if environment is os.environ and is_traced() and _is_asked(sys._getframe(1)):
                place = Place("environ", "os", "environ").then(ITEM, key)
                value = dict(environment).get(key, MISSING)
                self._add(place.watched(path(), value))
            return read(environment, key)

        iterate = kind.__iter__

        def iterating(environment: Any) -> Any:
            if environment is os.environ and is_traced() and _is_asked(sys._getframe(1)):
                self._add(Place("environ", "os", "environ").watched(path(), environment))
            return iterate(environment)

        with (
            mock.patch.object(kind, "__getitem__", reading),
            mock.patch.object(kind, "__iter__", iterating),
        ):
            yield

    def refuse_changes(self, root: nn.Module) -> None:
        """Refuse code that changes what it reads.

        Raises:
            TraceError: it does.
        """
        for entry in self.watched.values():
            live = live_value(entry, root.get_submodule(entry.path))
            if any(True for _ in tensors_with_steps(live)):
                continue  # a cache, which is restored
            goes_on = isinstance(live, Iterator) and not isinstance(live, IOBase)
            if goes_on or is_proxy(live) or snapshot(live) != entry.value:
                does = "reads an iterator," if goes_on else "changes"
                name = f"{entry.module}.{entry.name}" if entry.module else entry.name
                raise TraceError(
                    f"{describe_module(root, entry.path)} {does} {name} in forward, which a "
                    "program would not do; keep it in an attribute of a module, or move this code "
                    "to a module without a residual addition, which keeps its own code"
                )

    # -- from function to function -----------------------------------------------------------

    def _follow(self, value: Any, first: Known | None) -> None:
        """Search a function, or what wraps one."""
        if isinstance(value, MethodType):
            bound = value.__self__
            first = first or Known(
                bound, place_of_class(bound) if isinstance(bound, type) else None
            )
            value = value.__func__
        elif isinstance(value, _WRAPPERS):
            value = value.func
        elif isinstance(value, nn.Module):
            return
        if not isinstance(value, FunctionType):
            # an object may raise whatever it likes where it is asked for an attribute
            wrapped = inspect.getattr_static(value, "__wrapped__", None)
            if isinstance(wrapped, FunctionType):
                self._follow(wrapped, first)
            return
        key = (value, type(first.value) if first else None, first.place if first else None)
        if key in self._seen or is_library(value.__module__ or ""):
            return
        self._seen.add(key)
        if not is_own_file(value.__code__.co_filename):
            # a decorator of torch
            for cell in cells_of(value).values():
                self._follow(cell.value, first)
            return
        self._note_defaults(value)
        self._note_code(Code(value.__code__, value.__globals__, cells_of(value), first))

    def _note_defaults(self, function: FunctionType) -> None:
        """What the defaults of its arguments hold, which may change."""
        self._reader, code = function.__module__ or "", function.__code__
        defaults = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        kept: list[tuple[str, str, Any, Any]] = [
            ("__defaults__", name, i, value)
            for i, (name, value) in enumerate(zip(names, defaults, strict=True))
        ]
        kept += [
            ("__kwdefaults__", name, name, value)
            for name, value in (function.__kwdefaults__ or {}).items()
        ]
        for attribute, name, key, value in kept:
            if not isinstance(value, CONSTANTS):
                steps = ((ATTRIBUTE, attribute), (ITEM, key))
                text = f"{name} of {function.__qualname__}"
                self._watch(Known(value, Place(text, holder=Holder(function), steps=steps)))

    def _note_code(self, own: Code) -> None:
        self._seen.add(own.code)
        for read in reads_of(own.code):
            self._reader = own.globals.get("__name__", "")
            self._note_read(own, read)
        for constant in own.code.co_consts:
            if isinstance(constant, CodeType):
                self._note_inner(own, constant)

    def _note_inner(self, own: Code, inner: CodeType) -> None:
        """The code of a function or loop that is in another one's code."""
        name = own.code.co_varnames[0] if own.code.co_argcount else ""
        around = {**own.cells, **({name: own.first} if own.first else {})}
        cells = {k: v for k, v in around.items() if k in inner.co_freevars}
        self._note_code(Code(inner, own.globals, cells))

    def _note_read(self, own: Code, read: Read) -> None:
        found = root_of(own, read)
        if read.root is Root.SUPER and read.steps:
            self._note_inherited(own, read.steps[0][1])
        if found is None or is_proxy(found.value):
            return
        for kind, key in read.steps:
            if isinstance(found.value, ModuleType) and is_library(found.value.__name__):
                return
            if found.value is os.environ:
                return  # seen where it is read
            inner = step_into(found, kind, key)
            if inner is None:
                # as the object is asked, so it is watched
                self._note_object(found, key)
                return
            found = inner
        self._note_value(found, read.steps[-1][1] if read.steps else read.name)
        self._note_parts(found, own.code)

    def _note_parts(self, found: Known, code: CodeType) -> None:
        """What code may read of a class or a module of Python that it has by another name."""
        value, place = found.value, found.place
        own = isinstance(value, ModuleType) and not is_library(value.__name__)
        if not own and not (is_class(value) and not is_library(value.__module__)):
            return
        for name, inner in list(vars(value).items()):
            named = isinstance(value, ModuleType) or name in code.co_names
            if type(inner) in PLAIN and not name.startswith("__") and named:
                self._watch(step_into(found, ATTRIBUTE, name) or Known(None, place))

    def _note_object(self, owner: Known, key: Any) -> None:
        """An object that computes an attribute: by a method, a property, or otherwise."""
        value = owner.value
        if isinstance(value, ModuleType | type(None)):
            return
        if isinstance(value, nn.Module):
            self._note_method(owner, key)
            return
        self._note_method(owner, key)
        if not isinstance(value, CONSTANTS):
            self._watch(owner)

    def _note_method(self, owner: Known, key: Any) -> None:
        if not isinstance(key, str):
            return
        kind = owner.value if is_class(owner.value) else type(owner.value)
        if is_library(kind.__module__):
            return
        found = inspect.getattr_static(owner.value, key, None)
        if isinstance(found, classmethod):
            of_class = owner if is_class(owner.value) else Known(kind, place_of_class(kind))
            self._follow(found.__func__, of_class)
        elif isinstance(found, staticmethod):
            self._follow(found.__func__, None)
        elif isinstance(found, property):
            if not isinstance(owner.value, nn.Module):  # those are asked again
                self._follow(found.fget, owner)
        else:
            self._follow(found, None if is_class(owner.value) else owner)
            if found is not None and hasattr(type(found), "__get__"):
                self._follow(type(found).__get__, Known(found, None))

    def _note_inherited(self, own: Code, name: str) -> None:
        """A method of the classes that the class around the code is derived from."""
        if own.first is None or "__class__" not in own.cells:
            return
        kind = own.first.value if is_class(own.first.value) else type(own.first.value)
        around = own.cells["__class__"].value
        after = kind.__mro__[kind.__mro__.index(around) + 1 :] if around in kind.__mro__ else ()
        found = next((vars(c)[name] for c in after if name in vars(c)), None)
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
        self._follow(found, own.first)

    def _note_value(self, found: Known, name: Any) -> None:
        value = found.value
        if isinstance(value, nn.Module):
            return
        if isinstance(value, FunctionType | MethodType) or callable(value):
            self._follow(value, None)
            plain = is_class(value) and not issubclass(value, nn.Module)
            if plain and not is_library(value.__module__):
                self._follow(value.__init__, None)
            if _name_of(value) == name:
                return  # a definition
            if not is_library(type(value).__module__):
                self._follow(type(value).__call__, found)
        self._watch(found)

    def _watch(self, found: Known) -> None:
        value, place = found.value, found.place
        if place is None or value is None or is_proxy(value) or isinstance(value, OPAQUE):
            return
        if isinstance(value, CellType | CodeType | torch.jit.ScriptFunction):
            return
        if replaces_cached(value) or getattr(value, "__module__", "") in _STAND_INS:
            return
        if type(value) not in PLAIN and is_of_others(self._reader, self._packages):
            return
        self._add(place.watched(self._path, value))

    def _add(self, entry: Watched) -> None:
        where = entry.module or id(entry.holder and entry.holder.held)
        self.watched.setdefault(("global", where, entry.name), entry)


def _name_of(value: Any) -> Any:
    """The name of a function or class; other objects may raise where they are asked for it."""
    if isinstance(value, type) or type(value).__module__ == "builtins":
        return getattr(value, "__name__", None)
    return inspect.getattr_static(value, "__name__", None)


def _is_asked(frame: FrameType | None) -> bool:
    """Whether the model's code asks, perhaps by functions of Python's library."""
    while frame is not None and frame.f_globals.get("__name__") in _LOOKING_UP:
        frame = frame.f_back
    return frame is not None and is_own(frame)
