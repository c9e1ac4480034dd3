"""What a key of a run's configuration is.

The options of ``fxtransport train``, the keys of its configuration files and what ``--set``
takes are one table, in ``keys_what`` and ``keys_how`` beside this file. Published settings are
the defaults: LAP's for CIFAR10, TRGL's for STL10 (THESIS F, G). Nothing heavy is imported here,
so that ``--help`` answers at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = {
    "lap": "L + C/λ, with λ ← λ + τ·L",
    "fixed": "L + λ·C",
    "trgl": "L + C_k/(2τ_k) for each module",
    "trgl-multipliers": "λ_k·L + C_k, with λ_k ← λ_k + h·L_k",
    "vangl": "L for each module, without a cost",
    "e2e": "L, end to end, without a cost",
}
"""The objectives, by the name that their option has."""
GREEDY = ("trgl", "trgl-multipliers", "vangl")


@dataclass(frozen=True)
class By:
    """A default for each value of another key. With other values the key has no meaning."""

    path: str
    values: Mapping[Any, Any]


def never(_: Mapping[str, Any]) -> bool:
    """Of a key that changes what is computed."""
    return False


def always(_: Mapping[str, Any]) -> bool:
    """Of a key that does not."""
    return True


@dataclass(frozen=True)
class Key:
    """One thing that can be set."""

    path: str
    """``section.name``, as in a configuration file."""
    kind: type
    """``str``, ``int``, ``float``, ``bool``, ``list`` (of texts) or ``dict``."""
    flag: str
    """The option, or its long and short form; empty if there is none."""
    help: str
    default: Any = None
    """A value, or :class:`By`; None: it is not set unless it is asked for."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    metavar: str | None = None
    alone: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Options that take no value, each with the value that it stands for and its help."""
    later: Callable[[Mapping[str, Any]], bool] = never
    """Whether it may change when a run with these values is resumed, because it does not change
    what is computed."""

    @property
    def section(self) -> str:
        """The table of the file that it is in."""
        return self.path.partition(".")[0]

    @property
    def option(self) -> str:
        """What to call it before a user."""
        return self.flag.partition("/")[0] or " or ".join(self.alone) or self.path

    @property
    def parameter(self) -> str:
        """What the command calls its argument."""
        return self.path.replace(".", "_")


def by_method(greedy: Any, others: Any) -> By:
    """A default for what trains module by module, and one for the rest."""
    return By("objective.method", {m: greedy if m in GREEDY else others for m in METHODS})


def only(methods: Iterable[str], value: Any) -> By:
    """A default of a key that only these methods know."""
    return By("objective.method", dict.fromkeys(methods, value))
