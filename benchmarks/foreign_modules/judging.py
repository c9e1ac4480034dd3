"""Whether the program of a module computes what the module computes, and what it is worth."""

import copy
import itertools
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from foreign_modules import Case, Library
from foreign_modules.runs import (
    FAILURES,
    Run,
    call,
    difference,
    first_lines,
    generators,
    run,
    seed_all,
)
from fxtransport import transportify
from fxtransport.errors import FxTransportError, GuardError, PartitionError, VerificationError
from fxtransport.program import Program

EXACT, GUARDED = "exact", "guarded"
RIGHTLY, WRONGLY = "refused rightly", "refused wrongly"
CRASHED, WRONG, EAGER, LATE = "crashed", "wrong", "eager fails", "timed out"
OUTCOMES = (EXACT, GUARDED, RIGHTLY, WRONGLY, CRASHED, WRONG, EAGER, LATE)

BATCHES = (2, 3)
"""The program is compiled for the first, and compared at both."""


@dataclass
class Judgment:
    """What became of one module."""

    library: str
    name: str
    outcome: str = EXACT
    reason: str = ""
    """The first lines of what went wrong."""
    error: str = ""
    """The class of the error, if there was one."""
    seconds: float = 0.0
    """What compiling took, with verification."""
    parts: int = 0
    residuals: dict[str, int] = field(default_factory=dict)
    """Residual additions by kind."""
    expected: int | None = None
    """How many additions have residues that the program returns, by hand."""
    guards: list[str] = field(default_factory=list)
    """At which inputs a guard refused."""
    rightly_guarded: bool = False
    disturbed: list[str] = field(default_factory=list)
    """What compiling left changed in the process."""
    noise: float = 0.0
    """The largest relative error of a gradient that counts as equal."""

    @property
    def found(self) -> int:
        """How many additions have residues that the program returns."""
        return sum(n for kind, n in self.residuals.items() if kind != "inner")


def chain(program: Program, inputs: Any) -> Any:
    """What the parts compute, one after the other."""
    names = program.facts.example.names
    given = tuple(inputs[name] for name in names or ()) if isinstance(inputs, Mapping) else inputs
    state = given[0] if isinstance(given, tuple) and len(given) == 1 else given
    for part in program.parts:
        state = part(state, measure=None, head=False).hidden
    return state


def surroundings(model: nn.Module) -> dict[str, str]:
    """What compiling must leave as it is."""
    torch_state, python_state, numpy_state = generators()
    return {
        "torch's generator": str(hash(torch_state.numpy().tobytes())),
        "Python's generator": str(hash(python_state)),
        "NumPy's generator": str(numpy_state),
        "default dtype": str(torch.get_default_dtype()),
        "grad mode": str(torch.is_grad_enabled()),
        "modes of modules": str([m.training for m in model.modules()]),
        "warnings' filters": str(warnings.filters),
    }


def compile_case(model: nn.Module, example: Any, verify: bool) -> Program:
    """Compile a module into two parts, or into one if it cannot be cut."""
    options = {"verify": verify, "head": "none"}
    try:
        return transportify(model, example, modules=2, **options)
    except PartitionError:
        return transportify(model, example, modules=1, **options)


def sequence(model: nn.Module, forward: Callable[[Any], Any], case: Case) -> list[Run]:
    """Train and eval, at each batch size."""
    runs = []
    for training in (True, False):
        model.train(training)
        runs += [run(model, forward, case, batch) for batch in BATCHES]
    return runs


def compare(judgment: Judgment, program: Program, case: Case, expected: list[Run]) -> None:
    """Run the program, then the chain of its parts, where the model ran twice before."""
    ways: list[tuple[str, Callable[[Any], Any]]] = [("", lambda x: call(program, x))]
    ways.append(("chained parts, ", lambda x: chain(program, x)))
    places = itertools.product(ways, (True, False), BATCHES)
    for ((way, forward), training, batch), eager in zip(places, expected, strict=True):
        program.train(training)
        found = run(program, forward, case, batch)
        where = f"{way}{'train' if training else 'eval'}, batch {batch}"
        if isinstance(found.error, GuardError) and batch != BATCHES[0] and eager.error is None:
            judgment.guards.append(f"{where}: {first_lines(found.error)}")
            restore(program, eager)
            continue
        what = _judged(judgment, eager, found)
        if what:
            judgment.outcome, judgment.reason = WRONG, f"{where}: {what}"
            return


def restore(program: Program, after: Run) -> None:
    """Give the program the buffers that the model has after a run that a guard refused."""
    buffers = dict(program.named_buffers())
    for name, value in after.buffers.items():
        if name in buffers and buffers[name].shape == value.shape:
            buffers[name].detach().copy_(value)


def _judged(judgment: Judgment, eager: Run, found: Run) -> str:
    """What is wrong with a run, or nothing."""
    if eager.error is not None:
        return "" if found.error else f"only the model raises {first_lines(eager.error)}"
    if found.error is not None:
        judgment.error = type(found.error).__name__
        return first_lines(found.error)
    what, noise = difference(eager, found)
    judgment.noise = max(judgment.noise, noise)
    return what


def refusal(judgment: Judgment, error: Exception, known: Library) -> None:
    """What a failure to compile counts as."""
    judgment.error = type(error).__name__
    judgment.reason = first_lines(error)
    if not isinstance(error, FxTransportError):
        judgment.outcome = CRASHED
    elif judgment.name in known.refused and not isinstance(error, VerificationError):
        judgment.outcome = RIGHTLY
    else:
        judgment.outcome = WRONGLY


def judge(case: Case, known: Library, verify: bool = True) -> Judgment:
    """Compile a module, and compare it with itself in every way."""
    judgment = Judgment(known.name, case.name, expected=known.residuals.get(case.name))
    seed_all(0)
    model = case.build()
    eager = copy.deepcopy(model)
    expected = [r for _ in range(2) for r in sequence(eager, lambda x: call(eager, x), case)]
    failures = [r.error for r in expected if r.error is not None]
    if len(failures) == len(expected):
        judgment.outcome, judgment.reason = EAGER, first_lines(failures[0])
        return judgment
    again = copy.deepcopy(model)
    example = case.inputs(BATCHES[0])
    before = surroundings(model)
    start = time.perf_counter()
    try:
        program = compile_case(model, example, verify)
    except FAILURES as error:
        refusal(judgment, error, known)
        return judgment
    finally:
        judgment.seconds = time.perf_counter() - start
        after = surroundings(model)
        judgment.disturbed = [name for name in before if before[name] != after[name]]
    judgment.parts = len(program.parts)
    for residual in program.facts.residuals:
        kind = str(residual.kind)
        judgment.residuals[kind] = judgment.residuals.get(kind, 0) + 1
    plain = sequence(again, lambda x: call(again, x), case)[0]
    if plain.error is not None and expected[0].error is None:
        judgment.outcome = WRONG
        judgment.reason = f"the model after compiling: {first_lines(plain.error)}"
        return judgment
    compare(judgment, program, case, expected)
    if judgment.outcome == EXACT and judgment.guards:
        judgment.outcome, judgment.reason = GUARDED, judgment.guards[0]
        judgment.rightly_guarded = case.name in known.guarded
    return judgment


def as_json(judgment: Judgment) -> dict[str, Any]:
    """A judgment as it is written, which names no folder of this machine."""
    reason = re.sub(r"/\S*/(?:site-packages|fxtransport/(?=benchmarks))/?", "", judgment.reason)
    return {**asdict(judgment), "reason": reason, "found": judgment.found}
