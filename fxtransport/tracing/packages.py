"""Packages of Python: which are the model's, and which are installed and only used by it."""

import sys
from collections.abc import Iterable, Set
from pathlib import Path

_INSTALLED = ("site-packages", "dist-packages")


def packages_of(kinds: Iterable[type]) -> frozenset[str]:
    """The packages that define classes, and those that they are derived from."""
    return frozenset(_root(each.__module__) for kind in kinds for each in kind.__mro__)


def is_of_others(name: str, packages: Set[str]) -> bool:
    """Whether a module of Python is in an installed package that is none of these.

    Args:
        name: The module's.
        packages: Those of the model.
    """
    return _root(name) not in packages and _is_installed(_root(name))


def _is_installed(package: str) -> bool:
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is not None and any(part in _INSTALLED for part in Path(file).parts)


def _root(name: str) -> str:
    return name.partition(".")[0]
