"""Pipelines: an order of passes, its text form, and the manager that runs it.

The text form, ``trace,residuals,partition{modules=4 weight=parameters}``, can be stored
with a result and replayed. Passes that a later one requires are run without being named.
"""

import json
import re
import time
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from importlib import import_module
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints

from torch import fx

from fxtransport.errors import PipelineError
from fxtransport.passes.base import Pass, Setting
from fxtransport.unit import Unit

REGISTRY: dict[str, str] = {
    "record": "Record",
    "residuals": "FindResiduals",
    "layers": "FindLayers",
    "trace": "Trace",
    "boundaries": "FindBoundaries",
    "costs": "CountCosts",
    "partition": "Partition",
    "taps": "TapResidues",
    "heads": "PlanHeads",
    "lower": "Lower",
    "verify": "Verify",
}
"""The class of each pass; ``passes/NAME.py`` holds it and is imported when it is used."""

_QUOTED = r"\"(?:\\.|[^\"\\])*\""
_ITEM = re.compile(rf"\s*(?P<name>[a-z_]+)\s*(?:\{{(?P<options>(?:{_QUOTED}|[^{{}}\"])*)\}})?\s*")
_OPTION = re.compile(rf"(?P<key>[a-z_]+)=(?P<value>(?:{_QUOTED}|[^\s\"])+)")
_PART = re.compile(rf"{_QUOTED}|[^,\"]+")
_BARE = re.compile(r"[^\s,\"{}\\]+")
"""What needs no quotes; anything else is written as JSON writes strings."""


def pass_class(name: str) -> type[Pass]:
    """The class of the pass with this name.

    Raises:
        PipelineError: no pass has this name.
    """
    if name not in REGISTRY:
        raise PipelineError(f"there is no pass {name!r}; the passes are {', '.join(REGISTRY)}")
    found = getattr(import_module(f"fxtransport.passes.{name}"), REGISTRY[name])
    assert isinstance(found, type) and issubclass(found, Pass)
    return found


@dataclass(frozen=True)
class Pipeline:
    """An order of passes.

    >>> print(Pipeline.parse("trace, partition{modules=4}"))
    trace,partition{modules=4}
    """

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> "Pipeline":
        """The pipeline that a text form describes.

        Raises:
            PipelineError: the text cannot be read, or names a pass or an option that does
                not exist, or gives an option a value that it cannot have.
        """
        passes: list[Pass] = []
        position = 0
        while position < len(text):
            match = _ITEM.match(text, position)
            if match is None:
                raise PipelineError(f"cannot read the pipeline from {text[position:]!r} on")
            passes.append(_parse_pass(match["name"], match["options"] or ""))
            position = match.end()
            if position < len(text) and text[position] != ",":
                raise PipelineError(f"expected a comma before {text[position:]!r}")
            position += 1
        if not passes:
            raise PipelineError("the pipeline is empty")
        return cls(tuple(passes))

    def __str__(self) -> str:
        """The text form, with only the options that differ from their defaults."""
        return ",".join(_pass_text(p) for p in self.passes)


@dataclass(frozen=True)
class PassRun:
    """What one pass took and left."""

    name: str
    seconds: float
    nodes: int
    """The graph's size after it."""
    before: fx.Graph | None
    after: fx.Graph | None

    @property
    def rewrote(self) -> bool:
        """Whether the pass returned another graph."""
        return self.before is not self.after


def run_passes(
    unit: Unit,
    passes: Sequence[Pass],
    *,
    after: str | None = None,
    observe: Callable[[PassRun], None] = lambda _: None,
) -> Unit:
    """Run passes in order, each after those whose facts it requires.

    Args:
        unit: What to start from.
        passes: Which passes, with their options.
        after: Stop behind the pass of this name.
        observe: Called behind every pass.

    Raises:
        PipelineError: ``after`` is not among the passes, or a requirement has an option
            without a default and was not named.
    """
    order = with_requirements(passes, have=unit.facts.keys())
    if after is not None and after not in (p.name for p in order):
        names = ", ".join(p.name for p in order)
        raise PipelineError(f"the pass {after!r} is not in this pipeline, which runs {names}")
    for step in order:
        before = unit.graph
        start = time.perf_counter()
        unit = step.run(unit)
        seconds = time.perf_counter() - start
        if unit.graph is not None and unit.graph is not before:
            unit.graph.lint()
        nodes = 0 if unit.graph is None else len(unit.graph.nodes)
        observe(PassRun(step.name, seconds, nodes, before, unit.graph))
        if step.name == after:
            break
    return unit


def with_requirements(passes: Sequence[Pass], have: Iterable[type] = ()) -> tuple[Pass, ...]:
    """The passes, each preceded by those that provide what it requires."""
    known = set(have)
    given = {type(p): p for p in passes}
    order: list[Pass] = []

    def add(step: Pass) -> None:
        if step in order:
            return
        for fact in step.requires:
            if fact not in known:
                provider = _provider(fact)
                add(given[provider] if provider in given else _with_defaults(provider, step))
        known.update(step.provides)
        order.append(step)

    for step in passes:
        add(step)
    return tuple(order)


class PassDescription(TypedDict):
    """A pass in words."""

    name: str
    summary: str
    options: dict[str, str]
    requires: list[str]
    provides: list[str]
    rewrites: bool


def describe(name: str) -> PassDescription:
    """What a pass does, its options with their types or defaults, its needs and results."""
    found = pass_class(name)
    hints = get_type_hints(found)
    options = {}
    for f in fields(found):
        kind, _ = option_type(hints[f.name])
        required = f"<{getattr(kind, '__name__', kind)}>"
        options[f.name] = required if f.default is MISSING else _value_text(f.default)
    return {
        "name": name,
        "summary": (found.__doc__ or "").strip().splitlines()[0],
        "options": options,
        "requires": [fact.__name__ for fact in found.requires],
        "provides": [fact.__name__ for fact in found.provides],
        "rewrites": found.rewrites,
    }


def option_type(annotation: Any) -> tuple[Any, bool]:
    """An option's type without ``None``, and whether it may be ``None``."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    inner = [a for a in get_args(annotation) if a is not type(None)]
    assert len(inner) == 1, "an option has one type, or one type and None"
    return inner[0], True


@dataclass(frozen=True)
class ProgramSetting:
    """An option of programs: a field of a pass, as the command line and Python see it."""

    name: str
    pass_name: str
    kind: Any
    """The type of the value, or of each of several."""
    several: bool
    """Whether the value is a tuple."""
    default: Any
    how: Setting

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it can have; empty if there are too many to list."""
        return tuple(self.kind) if isinstance(self.kind, type(Enum)) else ()


def program_settings() -> dict[str, ProgramSetting]:
    """The options of programs by name, in the order of the passes that they belong to."""
    found = {}
    for name in REGISTRY:
        declared = pass_class(name)
        hints = get_type_hints(declared)
        for f in fields(declared):
            if "setting" not in f.metadata:
                continue
            kind, _ = option_type(hints[f.name])
            several = get_origin(kind) is tuple
            item = get_args(kind)[0] if several else kind
            how = f.metadata["setting"]
            found[f.name] = ProgramSetting(f.name, name, item, several, f.default, how)
    return found


def _provider(fact: type) -> type[Pass]:
    for name in REGISTRY:
        found = pass_class(name)
        if fact in found.provides:
            return found
    raise AssertionError(f"no pass provides {fact.__name__}")


def _with_defaults(found: type[Pass], wanted_by: Pass) -> Pass:
    missing = [f.name for f in fields(found) if f.default is MISSING]
    if missing:
        raise PipelineError(
            f"{wanted_by.name} requires {found.name}, which must be given "
            f"{' and '.join(missing)}: {found.name}{{{missing[0]}=…}}"
        )
    return found()


def _parse_pass(name: str, options: str) -> Pass:
    found = pass_class(name)
    hints = get_type_hints(found)
    names = [f.name for f in fields(found)]
    given: dict[str, Any] = {}
    rest = _OPTION.sub("", options).strip()
    if rest:
        raise PipelineError(f"{name}: cannot read the option {rest!r}; write key=value")
    for match in _OPTION.finditer(options):
        key = match["key"]
        if key not in names:
            known = ", ".join(names) or "none"
            raise PipelineError(f"{name} has no option {key!r}; its options: {known}")
        given[key] = _parse_value(f"{name}{{{key}}}", match["value"], hints[key])
    missing = [f.name for f in fields(found) if f.default is MISSING and f.name not in given]
    if missing:
        raise PipelineError(f"{name} must be given {' and '.join(missing)}")
    return found(**given)


def _parse_value(where: str, text: str, annotation: Any) -> Any:
    kind, optional = option_type(annotation)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        parts = [part for part in _PART.findall(text) if part != '""']
        return tuple(_parse_value(where, part, item) for part in parts)
    if text.startswith('"'):
        text = _unquoted(where, text)
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


def _pass_text(step: Pass) -> str:
    given = [
        f"{f.name}={_value_text(getattr(step, f.name))}"
        for f in fields(step)
        if f.default is MISSING or getattr(step, f.name) != f.default
    ]
    return f"{step.name}{{{' '.join(given)}}}" if given else step.name


def _unquoted(where: str, text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise PipelineError(f"{where}: cannot read {text}") from error


def _value_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_value_text, value)) or '""'
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)
