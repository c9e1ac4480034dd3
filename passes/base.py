"""What a pass is, how its options are declared, and its text form.

Nothing here imports torch, nor do the passes that declare options of programs: the command
line reads these declarations before torch is loaded.
"""

from __future__ import annotations

import json
import re
import types
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from fxtransport.errors import PipelineError

if TYPE_CHECKING:
    from fxtransport.unit import Unit

QUOTED = r"\"(?:\\.|[^\"\\])*\""
"""A value in quotes, in which any character may stand."""
_OPTION = re.compile(rf"(?P<key>[a-z_]+)=(?P<value>(?:{QUOTED}|[^\s\"])+)")
_ITEM = re.compile(rf"{QUOTED}|[^,\"]+")
_BARE = re.compile(r"[^\s,\"{}\\]+")
"""What needs no quotes; anything else is written as JSON writes strings."""


@dataclass(frozen=True)
class Pass(ABC):
    """One step of the compiler.

    A subclass is a frozen dataclass in a file of its own. Its fields are its options, in
    Python, in the pipeline's text form and on the command line; its docstring's first line
    says what it does. Facts are true or gone: a pass that rewrites the
    graph names the facts that stay true, and the manager drops all others.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[type, ...]] = ()
    """The facts that it reads."""
    provides: ClassVar[tuple[type, ...]] = ()
    """The facts that it states, or states again where they were known."""
    preserves: ClassVar[tuple[type, ...]] = ()
    """The facts that are still true of the graph that it returns, if it rewrites."""
    on_demand: ClassVar[bool] = False
    """Whether, of the passes that options configure, it runs only where another needs it."""
    rewrites: ClassVar[bool] = False
    """Whether it returns another graph; if not, it only reads the graph."""
    holds_data: ClassVar[bool] = False
    """Whether it computes with real tensors, whose memory must be given back as it goes."""

    @classmethod
    def as_requirement(cls) -> Self:
        """The pass as it runs where a later one requires it and nobody has named it."""
        return cls()

    @property
    def needed(self) -> tuple[type, ...]:
        """The facts that it reads with its present options."""
        return self.requires

    @abstractmethod
    def run(self, unit: Unit) -> Unit:
        """The unit with the facts that this pass states, or with the graph that it returns."""

    def __str__(self) -> str:
        """The text form, with only the options that differ from their defaults."""
        options = [
            f"{f.name}={value_text(getattr(self, f.name))}"
            for f in fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{' '.join(options)}}}" if options else self.name


@dataclass(frozen=True)
class Setting:
    """How a user sets a field of a pass that is an option of programs.

    From it follow the keyword of ``transportify``, the option of the command line and the key
    of a run's configuration. The field's name, type and default say the rest.
    """

    help: str
    """One sentence, for the command line and Python alike."""
    flag: str = ""
    """The option, or its long and short form, ``--modules/-k``; ``--`` and the name if empty."""
    metavar: str | None = None
    """What stands for the value in a help text."""
    least: int | None = None
    """The smallest value, of a number."""
    excluded: tuple[Enum, ...] = ()
    """Members of an enum that a user cannot choose."""


def setting(
    default: Any,
    help: str,
    *,
    flag: str = "",
    metavar: str | None = None,
    least: int | None = None,
    excluded: tuple[Enum, ...] = (),
) -> Any:
    """A field of a pass that is an option of programs; see :class:`Setting`."""
    how = Setting(help, flag, metavar, least, excluded)
    return field(default=default, metadata={"setting": how})


def option_type(annotation: Any) -> tuple[Any, bool]:
    """An option's type without ``None``, and whether it may be ``None``."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    inner = [a for a in get_args(annotation) if a is not type(None)]
    assert len(inner) == 1, "an option has one type, or one type and None"
    return inner[0], True


def value_text(value: object) -> str:
    """The text form of an option's value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(value_text, value)) or '""'
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def parse_pass(declared: type[Pass], options: str) -> Pass:
    """A pass with the options that a text form gives between its braces.

    Raises:
        PipelineError: the pass has no such option, the option cannot have that value, or one
            without a default is missing.
    """
    name = declared.name
    hints = get_type_hints(declared)
    names = [f.name for f in fields(declared)]
    values: dict[str, Any] = {}
    rest = _OPTION.sub("", options).strip()
    if rest:
        raise PipelineError(f"{name}: cannot read the option {rest!r}; write key=value")
    for match in _OPTION.finditer(options):
        key = match["key"]
        if key not in names:
            known = ", ".join(names) or "none"
            raise PipelineError(f"{name} has no option {key!r}; its options: {known}")
        values[key] = _parse_value(f"{name}{{{key}}}", match["value"], hints[key])
    missing = [f.name for f in fields(declared) if f.default is MISSING and f.name not in values]
    if missing:
        raise PipelineError(f"{name} must be given {' and '.join(missing)}")
    return declared(**values)


def _parse_value(where: str, text: str, annotation: Any) -> Any:
    kind, optional = option_type(annotation)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        parts = [part for part in _ITEM.findall(text) if part != '""']
        return tuple(_parse_value(where, part, item) for part in parts)
    if text.startswith('"'):
        text = _unquote(where, text)
    if optional and text == "none":
        return None
    if kind is bool:
        if text not in ("true", "false"):
            raise PipelineError(f"{where} is true or false, not {text!r}")
        return text == "true"
    try:
        return kind(text)
    except ValueError as error:
        values = f" ({', '.join(kind)})" if issubclass(kind, Enum) else ""
        raise PipelineError(f"{where} cannot be {text!r}{values}") from error


def _unquote(where: str, text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise PipelineError(f"{where}: cannot read {text}") from error
