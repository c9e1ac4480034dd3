"""What a key of a run's configuration is. It imports nothing heavy, so that ``--help`` is quick."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = {
    "lap": "L + C/λ, with λ ← λ + τ·L",
    "fixed": "L + λ·C",
    "trgl": "L + C_k/(2τ_k) for each part",
    "trgl-multipliers": "λ_k·L + C_k, with λ_k ← λ_k + h·L_k",
    "vangl": "L for each part, without a cost",
    "e2e": "L, end to end, without a cost",
}
"""The objectives, by the name that their option has."""
GREEDY = ("trgl", "trgl-multipliers", "vangl")
"""The methods that train part by part."""


@dataclass(frozen=True)
class DefaultBy:
    """A default for each value of another key. With other values the key has no meaning."""

    path: str
    values: Mapping[Any, Any]


def never(_: Mapping[str, Any]) -> bool:
    """A key that changes what is computed."""
    return False


def always(_: Mapping[str, Any]) -> bool:
    """A key that does not change what is computed."""
    return True


@dataclass(frozen=True)
class Entry:
    """An option that sets one entry of a table."""

    name: str
    """The entry's."""
    help: str
    kind: type = float
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What it means for other entries that are not set."""


@dataclass(frozen=True)
class Key:
    """One thing that can be set."""

    path: str
    """``section.name``, as in a configuration file."""
    kind: type
    """``str``, ``int``, ``float``, ``bool``, ``list`` (of texts), ``tuple`` (of numbers) or
    ``dict``."""
    flag: str
    """The option, or its long and short form; empty if there is none."""
    help: str
    default: Any = None
    """A value, or :class:`DefaultBy`; None: it is not set by default."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float = 2**31 - 1
    """The largest whole number; larger ones are mistakes, and would take for ever."""
    metavar: str | None = None
    short_forms: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Options that take no value, each with the value that it stands for and its help."""
    bare: str | None = None
    """What the option means without a value, of a key with ``choices``; None: it needs one."""
    number: str | None = None
    """The entry of a table that a number alone sets; None: entries have names."""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """Options that set an entry of a table, each with that entry."""
    may_change: Callable[[Mapping[str, Any]], bool] = never
    """Whether the key may change when a run with these values is resumed, because it does not
    change what is computed."""
    continues: Callable[[Mapping[str, Any]], bool] = never
    """Whether it may change when a run with these values is resumed, although it changes what is
    computed from there on."""
    basic: bool = False
    """Whether it is one of the options that most people set, which ``--help`` shows."""
    whole: bool = False
    """Whether its numbers are whole, where it is of several."""
    read: Callable[[Any], Any] | None = None
    """Brings the forms that a value may have into one; raises UsageError if it is not valid."""

    @property
    def section(self) -> str:
        """The table of the file that it is in."""
        return self.path.partition(".")[0]

    @property
    def option(self) -> str:
        """The option that sets it, or the path where there is none."""
        return self.flag.partition("/")[0] or " or ".join(self.short_forms) or self.path

    @property
    def parameter(self) -> str:
        """The name of the command's argument."""
        return self.path.replace(".", "_")


def read_pool(value: Any) -> str:
    """A way to pool maps, as a text."""
    from fxtransport.objectives.neurons import parse_pool

    return str(parse_pool(str(value)))


def by_method(greedy: Any, others: Any) -> DefaultBy:
    """A default for the methods that train part by part, and one for the others."""
    return DefaultBy("objective.method", {m: greedy if m in GREEDY else others for m in METHODS})


def only(methods: Iterable[str], value: Any) -> DefaultBy:
    """A default of a key that only these methods know."""
    return DefaultBy("objective.method", dict.fromkeys(methods, value))
