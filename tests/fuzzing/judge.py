"""Compile one program of the fuzzer and compare it with eager, step by step."""

import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.errors import FxTransportError, GuardError, PartitionError
from tests.fuzzing.states import (
    difference,
    differs,
    duplicate,
    flat,
    process,
    put_back,
    seed,
    state,
)

RIGHT = ("exact", "refused", "discarded")
"""The verdicts that are no failures."""


@dataclass
class Verdict:
    """What became of a program."""

    verdict: str = "exact"
    """One of ``RIGHT``, or wrong, foreign (an exception not ours), crashed, timed out."""
    error: str = ""
    """The class of the exception, or what was compared."""
    message: str = ""
    seed: int = -1
    steps: int = 0
    guarded: list[str] = field(default_factory=list)
    """The messages of guards."""
    residuals: int = 0
    parts: int = 0

    @property
    def right(self) -> bool:
        """Whether the program is exact, or refused as it should be."""
        return self.verdict in RIGHT

    def as_json(self) -> dict[str, Any]:
        """The fields, by name."""
        return asdict(self)


class WrongError(Exception):
    """The program and the model do not agree."""


def load(path: Path) -> ModuleType:
    """Import a program of the fuzzer, whose source stays where tracebacks find it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def judge(path: Path) -> Verdict:
    """Compile a program, compare it, and say what became of it."""
    found = Verdict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = load(path)
        seed(0)
        model = settings.Root().train(settings.TRAINING)
        why = _refused_by_eager(model, settings)
        if why:
            return Verdict("discarded", *why)
        try:
            _Judge(settings, model, found).run()
        except WrongError as error:
            found.verdict = "wrong"
            found.error, _, found.message = str(error).partition(" | ")
    return found


def _inputs(settings: ModuleType, shape: tuple[int, ...] | None = None) -> tuple[Tensor, ...]:
    """What a model is given."""
    generator = torch.Generator().manual_seed(1)
    shape = shape or settings.EXAMPLE
    return tuple(torch.randn(shape, generator=generator) for _ in range(settings.INPUTS))


def _refused_by_eager(model: nn.Module, settings: ModuleType) -> tuple[str, str] | None:
    """Why eager itself cannot run the model, if so."""
    for training in (False, True):
        try:
            duplicate(model).train(training)(*_inputs(settings))
        except Exception as error:  # noqa: BLE001 - a program of the fuzzer may raise anything
            return type(error).__name__, str(error)
    return None


@dataclass
class _Judge:
    settings: ModuleType
    model: nn.Module
    found: Verdict
    eager: nn.Module = field(init=False)
    program: Program = field(init=False)

    def run(self) -> None:
        settings = self.settings
        if settings.WARM:
            self.model(*_inputs(settings))
        self.eager = duplicate(self.model)
        before = process()
        try:
            compiled = self._compiled()
        except FxTransportError as error:
            self.found.verdict = "refused"
            self.found.error, self.found.message = type(error).__name__, str(error)
            compiled = None
        except Exception as error:  # noqa: BLE001 - whatever is not ours is a failure
            self.found.verdict, self.found.error = "foreign", type(error).__name__
            self.found.message = f"{error} | {traceback.format_exc()[-1500:]}"
            return
        changed = difference(before, process())
        self._same("the model after compiling", state(self.eager), state(self.model))
        if _refused_by_eager(duplicate(self.eager), settings):
            raise WrongError("the plain model | raises after compiling, and did not before")
        if compiled is not None:
            self.program = compiled
            self.found.residuals = len(compiled.facts.residuals)
            self.found.parts = len(compiled.parts)
            self._steps()
        # last, so that it hides nothing else
        if changed:
            raise WrongError(f"the process after compiling | {changed}")

    def _compiled(self) -> Program:
        example = _inputs(self.settings)
        verify = self.settings.VERIFY
        if self.settings.MODULES > 1:
            try:
                return transportify(self.model, example, modules=2, head="none", verify=verify)
            except PartitionError:
                pass
        return transportify(self.model, example, verify=verify)

    def _steps(self) -> None:
        settings, example = self.settings, self.settings.EXAMPLE
        first = settings.TRAINING
        self._step("the first step", first, example, guards=False)
        self._step("the other mode", not first, example)
        self._step("the first mode", first, example)
        self._step("the other mode, chained", not first, example, chained=True)
        self._step("the first mode, chained", first, example, chained=True)
        self._step("gradients of the input", True, example, leaf=True)
        for shape in settings.SHAPES:
            self._step(f"another shape {shape}", shape[0] % 2 == 0, shape)
            self._step(f"another shape {shape}", shape[0] % 2 == 1, shape)
        self._step("without gradients", False, example, context=torch.no_grad)
        self._step("under autocast", True, example, context=_autocast)
        for owner, change in settings.CHANGES:
            self._change(owner, change)
            self._step(f"after {change}", True, example)
            self._step(f"after {change}", False, example)

    def _change(self, owner: str, change: str) -> None:
        for model in (self.model, self.eager):
            for module in model.modules():
                if type(module).__name__ == owner:
                    exec(change, vars(self.settings), {"module": module})

    def _step(
        self,
        what: str,
        training: bool,
        shape: tuple[int, ...],
        *,
        guards: bool = True,
        chained: bool = False,
        leaf: bool = False,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """One forward and backward pass of both, from the same state and seed."""
        if chained and len(self.program.parts) == 1:
            return
        inputs = _inputs(self.settings, shape)
        trial = duplicate(self.eager).train(training)
        try:
            expected = _outcome(trial, trial, inputs, leaf, context)
        except Exception:  # noqa: BLE001 - what eager refuses, the program may refuse as it likes
            return
        self.program.train(training)
        call = self._chain if chained else self.program
        try:
            given = _outcome(call, self.model, inputs, leaf, context)
        except GuardError as error:
            if not guards:
                raise WrongError(f"{what}: a guard refuses the example | {error}") from error
            self.found.guarded.append(str(error))
            # what the model was before: the same as eager, which is not run yet
            put_back(self.model, duplicate(self.eager))
            return
        except Exception as error:
            text = traceback.format_exc()[-1200:]
            raise WrongError(f"{what}: raises {type(error).__name__} | {error} {text}") from error
        self.found.steps += 1
        self._same(f"{what}: output", expected.outputs, given.outputs)
        self._same(f"{what}: generators", expected.process, given.process)
        self._same(f"{what}: state", state(trial), state(self.model))
        _same_gradients(f"{what}: gradients", expected.gradients, given.gradients)
        self.eager = trial

    def _chain(self, *inputs: Tensor) -> Any:
        hidden: Any = inputs if len(inputs) > 1 else inputs[0]
        for part in self.program.parts:
            hidden = part(hidden, measure=None).hidden
        return hidden

    def _same(self, what: str, one: dict[str, Any], other: dict[str, Any]) -> None:
        why = difference(one, other)
        if why:
            raise WrongError(f"{what} | {why}")


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@dataclass
class _Outcome:
    outputs: dict[str, Any]
    process: dict[str, Any]
    gradients: dict[str, Tensor | None] | None
    """None where the model overwrites what its own backward pass needs."""


def _outcome(
    call: Callable[..., Any],
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    leaf: bool,
    context: Callable[[], AbstractContextManager[Any]],
) -> _Outcome:
    """What a forward and a backward pass give, from a seed."""
    inputs = tuple(x.detach().requires_grad_(leaf) for x in inputs)
    leaves: dict[str, Tensor] = dict(model.named_parameters())
    leaves |= {f"input {k}": x for k, x in enumerate(inputs) if leaf}
    seed(2)
    with context():
        outputs = dict(flat(call(*(x.clone() for x in inputs))))
    after = process()
    tensors = [t for t in outputs.values() if isinstance(t, Tensor) and t.requires_grad]
    detached = {n: t.detach().clone() if isinstance(t, Tensor) else t for n, t in outputs.items()}
    gradients: dict[str, Tensor | None] = {}
    if tensors:
        weights = [torch.linspace(-1, 1, t.numel()).view(t.shape).to(t) for t in tensors]
        try:
            found = torch.autograd.grad(tensors, list(leaves.values()), weights, allow_unused=True)
        except RuntimeError:
            return _Outcome(detached, after, None)
        gradients = dict(zip(leaves, found, strict=True))
    return _Outcome(detached, after, gradients)


def _same_gradients(
    what: str, one: dict[str, Tensor | None] | None, other: dict[str, Tensor | None] | None
) -> None:
    """Gradients are sums whose order is not fixed; all else is equal bit for bit."""
    if one is None:
        return
    if other is None:
        raise WrongError(f"{what} | the model has some, the program raises")
    # functions compiled by torch.jit are optimized after their first call, which bfloat16 shows
    noise = 2**-5 if what.startswith("under autocast") else 1e-5
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        why = differs(a, b)
        if why and a is not None and b is not None and a.shape == b.shape:
            least = noise * max(1.0, a.abs().max().item())
            why = None if torch.allclose(a, b, noise, least, equal_nan=True) else why
        if why:
            raise WrongError(f"{what} | {name}: {why}")
