"""Pipelines: an order of passes, its text form, and the manager that runs it.

The text form, ``trace,partition{modules=4 balance=parameters}``, can be stored with a result
and replayed. Passes that a later one requires are run without being named; a program stores
the order that ran, with these named.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, dataclass, fields, replace
from enum import Enum
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypedDict, get_args, get_origin, get_type_hints

from fxtransport.errors import PipelineError
from fxtransport.passes.base import QUOTED, Pass, Setting, option_type, parse_pass, value_text

if TYPE_CHECKING:
    from torch import fx

    from fxtransport.unit import Step, Unit

REGISTRY: dict[str, str] = {
    "record": "Record",
    "residuals": "FindResiduals",
    "layers": "FindLayers",
    "trace": "Trace",
    "costs": "CountCosts",
    "taps": "TapResidues",
    "boundaries": "FindBoundaries",
    "heads": "PlanHeads",
    "memory": "CountMemory",
    "partition": "Partition",
    "lower": "Lower",
    "verify": "Verify",
}
"""The class of each pass; ``passes/NAME.py`` holds it and is imported when it is used."""

CONFIGURABLE = ("partition", "boundaries", "costs", "heads", "memory", "taps", "trace")
"""The passes whose fields are options of programs, those that users set most first."""

_PASS = re.compile(rf"\s*(?P<name>[a-z_]+)\s*(?:\{{(?P<options>(?:{QUOTED}|[^{{}}\"])*)\}})?\s*")


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
    def parse(cls, text: str) -> Pipeline:
        """The pipeline that a text form describes.

        Raises:
            PipelineError: the text cannot be read, or names a pass or an option that does
                not exist, or gives an option a value that it cannot have.
        """
        passes: list[Pass] = []
        position = 0
        while position < len(text):
            match = _PASS.match(text, position)
            if match is None:
                raise PipelineError(f"cannot read the pipeline from {text[position:]!r} on")
            passes.append(parse_pass(pass_class(match["name"]), match["options"] or ""))
            position = match.end()
            if position < len(text) and text[position] != ",":
                raise PipelineError(f"expected a comma before {text[position:]!r}")
            position += 1
        if not passes:
            raise PipelineError("the pipeline is empty")
        return cls(tuple(passes))

    @classmethod
    def of(cls, unit: Unit) -> Pipeline:
        """The passes that ran on a unit, in order. Run again, they do the same."""
        return cls(tuple(step for step in unit.history if isinstance(step, Pass)))

    def __str__(self) -> str:
        """The text form, with only the options that differ from their defaults."""
        return ",".join(map(str, self.passes))


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

    A pass that ran with the same options, and whose facts are still true, is not run again.
    What the passes change in the process, such as the state of torch's generators, is
    restored at the end. After a pass, the facts are dropped that it has made untrue: those
    that a rewrite does not preserve, and those that follow from a fact that was stated again.

    Args:
        unit: What to start from.
        passes: Which passes, with their options.
        after: Stop after the pass of this name.
        observe: Called after every pass.

    Raises:
        PipelineError: ``after`` is not among the passes, a requirement has an option without
            a default and was not named, or the graph would be rewritten twice by one pass.
    """
    from fxtransport.process import preserve_process
    from fxtransport.tracing.caches import untouched_caches

    order = resolve_order(unit, passes)
    if after is not None and after not in (p.name for p in order):
        names = ", ".join(p.name for p in order)
        raise PipelineError(f"the pass {after!r} is not in this pipeline, which runs {names}")
    with preserve_process(unit.model), untouched_caches(unit.model):
        for step in order:
            before = unit.graph
            start = time.perf_counter()
            unit = _run(unit, step)
            seconds = time.perf_counter() - start
            if unit.graph is not None and unit.graph is not before:
                unit.graph.lint()
            nodes = 0 if unit.graph is None else len(unit.graph.nodes)
            observe(PassRun(step.name, seconds, nodes, before, unit.graph))
            if step.name == after:
                break
    return unit


def _run(unit: Unit, step: Pass) -> Unit:
    """The unit after a pass, with the facts that are true of it."""
    from fxtransport.process import without_collections

    with nullcontext() if step.holds_data else without_collections():
        found = step.run(unit)
    stated = {kind for kind, fact in found.facts.items() if unit.facts.get(kind) is not fact}
    assert stated <= set(step.provides), f"{step.name} states what it does not provide: {stated}"
    assert step.rewrites or found.graph is unit.graph, f"{step.name} rewrites and does not say so"
    true = _facts_after(step, set(unit.facts), unit.history)
    facts = {kind: fact for kind, fact in found.facts.items() if kind in true}
    return replace(found, facts=facts, history=(*unit.history, step))


def resolve_order(unit: Unit, passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes that will run on a unit, each preceded by those that provide what it requires.

    Raises:
        PipelineError: see :func:`run_passes`.
    """
    order = _Order(set(unit.facts), list(unit.history), passes)
    for position, step in enumerate(passes):
        order.add(step, position)
    return tuple(order.found)


class _Order:
    """The order of passes in the making, with the facts that will be known after them."""

    def __init__(self, known: set[type], history: list[Step], passes: Sequence[Pass]) -> None:
        self.found: list[Pass] = []
        self._known = known
        self._history = history
        self._passes = passes

    def add(self, step: Pass, position: int) -> None:
        """Let a pass run, unless it has, after what provides the facts that it requires."""
        earlier = next((s for s in reversed(self._history) if type(s) is type(step)), None)
        if earlier == step and self._known.issuperset(step.provides):
            return
        if earlier is not None and step.rewrites:
            raise PipelineError(_rewritten_twice(earlier, step))
        for fact in step.needed:
            if fact not in self._known:
                self.add(self._provider(fact, position, step), position)
        self._known = _facts_after(step, self._known, self._history)
        self._history.append(step)
        self.found.append(step)

    def _provider(self, fact: type, position: int, wanted_by: Pass) -> Pass:
        """The pass that is to provide a fact.

        It is the last one before this position, or else the next one, or else one that ran
        before; and if none of that kind was given, it has default options.
        """
        nearest = [*self._passes[position::-1], *self._passes[position + 1 :]]
        ran = [step for step in reversed(self._history) if isinstance(step, Pass)]
        for step in (*nearest, *ran):
            if fact in step.provides and fact not in step.needed:
                return step
        return _with_defaults(_provider_class(fact), wanted_by)


def _rewritten_twice(earlier: Step, step: Pass) -> str:
    if earlier == step:
        return (
            f"{step} has rewritten this graph already, and a rewrite after it did not preserve "
            f"what it found out; run what requires {step.name} before that"
        )
    return (
        f"{earlier} has rewritten this graph already, and {step} would do it again; name "
        f"{step.name} once, before what requires it, or start again from the model"
    )


def _facts_after(step: Pass, known: set[type], history: Iterable[Step]) -> set[type]:
    """The types of the facts that are true after a pass."""
    kept = known.intersection(step.preserves) if step.rewrites else known
    stale = _dependents(kept.intersection(step.provides), [*history, step])
    return (kept - stale).union(step.provides)


def _dependents(facts: set[type], ran: Iterable[Step]) -> set[type]:
    """The facts that passes compute from some facts, directly or through others."""
    found: set[type] = set()
    new = facts
    steps: list[type[Pass] | Step] = [*map(pass_class, REGISTRY), *ran]
    while new:
        provided = {fact for s in steps if new.intersection(s.requires) for fact in s.provides}
        new = provided - found - facts
        found |= new
    return found


def _provider_class(fact: type) -> type[Pass]:
    for name in REGISTRY:
        found = pass_class(name)
        if fact in found.provides:
            return found
    raise PipelineError(f"no pass provides {fact.__name__}; name one that does")


def _with_defaults(found: type[Pass], wanted_by: Pass) -> Pass:
    missing = [f.name for f in fields(found) if f.default is MISSING]
    if missing:
        raise PipelineError(
            f"{wanted_by.name} requires {found.name}, which must be given "
            f"{' and '.join(missing)}: {found.name}{{{missing[0]}=…}}"
        )
    return found.as_requirement()


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
        options[f.name] = required if f.default is MISSING else value_text(f.default)
    return {
        "name": name,
        "summary": (found.__doc__ or "").strip().splitlines()[0],
        "options": options,
        "requires": [fact.__name__ for fact in found.requires],
        "provides": [fact.__name__ for fact in found.provides],
        "rewrites": found.rewrites,
    }


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
        if not isinstance(self.kind, type(Enum)):
            return ()
        return tuple(str(member) for member in self.kind if member not in self.how.excluded)


def program_settings() -> dict[str, ProgramSetting]:
    """The options of programs by name, those that users set most first."""
    return dict(_program_settings())


@cache
def _program_settings() -> dict[str, ProgramSetting]:
    found = {}
    for name in CONFIGURABLE:
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
