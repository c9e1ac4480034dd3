"""What a function's code reads of names that are not its own: ``CONFIG.alpha``, ``SETTINGS["n"]``.

It is read off the bytecode, so that functions without source are searched, too.
"""

import dis
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from fxtransport.watched import ATTRIBUTE, ITEM, Step

_SILENT: Final = frozenset(
    "CACHE PRECALL EXTENDED_ARG RESUME PUSH_NULL NOP COPY COPY_FREE_VARS MAKE_CELL".split()
)
_ATTRIBUTES: Final = ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR")
_GLOBALS: Final = ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
_VARIABLES: Final = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "STORE_DEREF")
_SUBSCRIPTS: Final = ("BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR")
_NOTHING: Final = object()


class Root(Enum):
    """Where a name is looked up."""

    GLOBAL = "global"
    CELL = "cell"
    """A variable of the code around the function."""
    FIRST = "first"
    """The first argument, such as ``self``."""
    TYPE = "type"
    """The class of the first argument."""
    SUPER = "super"
    """The classes that the class around the code is derived from."""


@dataclass(frozen=True)
class Read:
    """A name, and what is read of it one after another."""

    root: Root
    name: str
    steps: tuple[Step, ...] = ()

    def then(self, kind: str, key: Any) -> "Read":
        """The same, and one step further."""
        return replace(self, steps=(*self.steps, (kind, key)))


@lru_cache(maxsize=4096)
def reads_of(code: CodeType) -> tuple[Read, ...]:
    """What a function's own code reads, without that of functions in it, each once."""
    scan = _Scan(code)
    for instruction in dis.get_instructions(code):
        if instruction.opname not in _SILENT:
            scan.follow(instruction)
    scan.end()
    return tuple(dict.fromkeys(scan.found))


class _Scan:
    """Goes through the instructions, with the name that is read now."""

    def __init__(self, code: CodeType) -> None:
        self.found: list[Read] = []
        self._free = frozenset(code.co_freevars)
        self._first = code.co_varnames[0] if code.co_argcount else ""
        self._read: Read | None = None
        self._key: Any = _NOTHING
        self._asks_type = False

    def end(self) -> None:
        """No more is read of the name."""
        if self._read is not None:
            self.found.append(self._read)
        self._read, self._key, self._asks_type = None, _NOTHING, False

    def follow(self, instruction: dis.Instruction) -> None:
        """See what an instruction reads."""
        name, value = instruction.opname, instruction.argval
        if name.startswith("LOAD_SUPER_"):
            self._start(Read(Root.SUPER, "super").then(ATTRIBUTE, value))
        elif name in _GLOBALS:
            self._start(Read(Root.GLOBAL, value))
        elif name in _VARIABLES and value in self._free:
            self._start(Read(Root.CELL, value))
        elif name in _VARIABLES or name.startswith("LOAD_FAST"):
            self._local(value[-1] if isinstance(value, tuple) else value)
        elif name in _ATTRIBUTES:
            if self._key is not _NOTHING:
                self.end()  # of a constant
            self._step(ATTRIBUTE, value)
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            self._key = value
        elif name in _SUBSCRIPTS or (name == "BINARY_OP" and instruction.argrepr == "[]"):
            self._subscript()
        elif name == "CALL":
            self._call()
        else:
            self.end()

    def _start(self, read: Read) -> None:
        self.end()
        self._read = read

    def _local(self, name: str) -> None:
        asks = self._read == Read(Root.GLOBAL, "type")
        self.end()
        if name and name == self._first:
            self._read = Read(Root.FIRST, name)
            self._asks_type = asks

    def _step(self, kind: str, key: Any) -> None:
        if self._read is not None:
            self._read, self._key = self._read.then(kind, key), _NOTHING

    def _subscript(self) -> None:
        if self._key is _NOTHING or not isinstance(self._key, str | int | bool | float):
            self.end()
        else:
            self._step(ITEM, self._key)

    def _call(self) -> None:
        if self._read == Read(Root.GLOBAL, "super"):
            self._read = Read(Root.SUPER, "super")
        elif self._read is not None and self._asks_type and not self._read.steps:
            self._read, self._asks_type = Read(Root.TYPE, self._read.name), False
        else:
            self.end()
