"""What functions remember between calls: a compile must not leave meta tensors there."""

import copy
import functools
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import CellType, FunctionType, ModuleType
from typing import Any
from unittest import mock

from torch import nn

_Cached = type(functools.lru_cache(lambda: None))
_LIBRARIES = frozenset({"torch", "numpy", "sympy", "scipy", "sklearn", "networkx", "rich", "PIL"})
"""Whose cached functions make no tensors of models; nor do those of Python's own library."""
_CONTAINERS = (dict, list, set)
_PLAIN = frozenset({*_CONTAINERS, OrderedDict, tuple, int, float, bool, str, type(None)})
"""Most of what modules hold; none of it is a function."""
_LARGE = 10_000


_replacing: dict[int, Any] = {}
"""The functions that stand in the place of those with a cache now, by identity."""


def _by_id(functions: Iterable[Any]) -> dict[int, Any]:
    return {id(function): function for function in functions}


def replaces_cached(function: Any) -> bool:
    """Whether a function stands in the place of one with a cache now."""
    return id(function) in _replacing


@contextmanager
def untouched_caches(model: nn.Module) -> Iterator[None]:
    """While active, functions with ``functools.lru_cache`` or ``cache`` compute again.

    At the end, the dicts, lists and sets among the global variables of the modules that define
    the model's classes are as they were.

    Args:
        model: The model whose code runs.
    """
    kinds = {type(module) for module in model.modules()}
    classes = {cls for kind in kinds for cls in kind.__mro__ if not is_library(cls.__module__)}
    defining = {cls.__module__ for cls in classes}
    held = (value for module in model.modules() for value in vars(module).values())
    defining |= {_defined_in(value) for value in held if type(value) not in _PLAIN}
    kept = [_contents(sys.modules[name]) for name in defining if name in sys.modules]
    with ExitStack() as stack:
        modules = _reached(defining)
        classes |= {v for m in modules for v in vars(m).values() if isinstance(v, type)}
        for owner in (*modules, *(c for c in classes if not is_library(c.__module__))):
            found = _cached_functions(owner)
            if found:
                stack.enter_context(mock.patch.multiple(owner, **found))
                stack.enter_context(mock.patch.dict(_replacing, _by_id(found.values())))
        for cell in _cells_with_caches(classes):
            stack.enter_context(_uncached(cell))
        try:
            yield
        finally:
            for contents in kept:
                _restore(contents)


def _cached_functions(owner: Any) -> dict[str, Any]:
    """The functions of a module or class that have a cache, without it, by name."""
    found = {}
    for name, value in list(vars(owner).items()):
        method = isinstance(value, staticmethod | classmethod)
        function = value.__func__ if method else value
        if type(function) is _Cached and not is_library(function.__module__):
            found[name] = type(value)(function.__wrapped__) if method else function.__wrapped__
    return found


def _cells_with_caches(classes: Iterable[type]) -> list[CellType]:
    """The variables of closures, in methods of classes, that are functions with a cache."""
    found: dict[int, CellType] = {}
    for cls in classes:
        for value in vars(cls).values():
            method = isinstance(value, staticmethod | classmethod)
            function = value.__func__ if method else value
            for cell in (isinstance(function, FunctionType) and function.__closure__) or ():
                if type(_held(cell)) is _Cached and not is_library(_held(cell).__module__):
                    found[id(cell)] = cell
    return list(found.values())


def _held(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


@contextmanager
def _uncached(cell: CellType) -> Iterator[None]:
    """While active, a variable of a closure is the function without its cache."""
    cached = cell.cell_contents
    cell.cell_contents = cached.__wrapped__
    try:
        with mock.patch.dict(_replacing, _by_id([cached.__wrapped__])):
            yield
    finally:
        cell.cell_contents = cached


def _defined_in(value: Any) -> str:
    """The module that defines a function that is held somewhere."""
    value = value.func if isinstance(value, functools.partial) else value
    known = isinstance(value, FunctionType | _Cached)
    return value.__module__ if known else "torch"


class Uncached:
    """Stands for a function with a cache that a module holds: it computes again.

    Args:
        cached: The function.
    """

    def __init__(self, cached: Any) -> None:
        self.cached = cached

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        return self.cached.__wrapped__(*args, **kwargs)


def without_caches(shadow: nn.Module) -> nn.Module:
    """A shadow whose modules hold functions without their caches."""
    for module in shadow.modules():
        for name, value in vars(module).items():
            if type(value) is _Cached:
                vars(module)[name] = Uncached(value)
    return shadow


def _reached(names: set[str]) -> list[ModuleType]:
    """Modules of Python, and those that define what stands in them, and so on."""
    found: dict[str, ModuleType] = {}
    ahead = set(names)
    while ahead:
        name = ahead.pop()
        module = sys.modules.get(name)
        if module is None or name in found or is_library(name):
            continue
        found[name] = module
        for value in list(vars(module).values()):
            if isinstance(value, ModuleType):
                ahead.add(value.__name__)
            elif isinstance(value, FunctionType | _Cached):
                ahead.add(value.__module__)
    return list(found.values())


@functools.cache
def is_library(name: str) -> bool:
    """Whether a module of Python is torch's, of another library, or of Python itself."""
    root = name.partition(".")[0]
    if name.startswith("torch.testing") or root == "__main__":
        return False
    own = root == "fxtransport" and not name.startswith("fxtransport.nets")
    return own or root in _LIBRARIES or root in sys.stdlib_module_names


def _contents(module: ModuleType) -> list[tuple[Any, Any]]:
    return [
        (value, copy.copy(value))
        for name, value in vars(module).items()
        if type(value) in _CONTAINERS and not name.startswith("__") and len(value) < _LARGE
    ]


def _restore(contents: list[tuple[Any, Any]]) -> None:
    for value, before in contents:
        if len(value) == len(before) and _same(value, before):
            continue
        if isinstance(value, list):
            value[:] = before
        else:
            value.clear()
            value.update(before)


def _same(value: Any, before: Any) -> bool:
    """Whether two containers hold the same objects."""
    if isinstance(value, dict):
        return all(key in value and value[key] is item for key, item in before.items())
    if isinstance(value, set):
        return set(map(id, value)) == set(map(id, before))
    return all(a is b for a, b in zip(value, before, strict=True))
