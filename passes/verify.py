"""Compare the program with the model: outputs, gradients and buffers, in both modes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from fxtransport.analysis.outcomes import Named, Outcome, draw_inputs, outcome_of
from fxtransport.copies import copy_model
from fxtransport.errors import UsageError, VerificationError
from fxtransport.ir import Check, Constructs, VerificationReport
from fxtransport.lowered import Lowered
from fxtransport.part import Part, Place
from fxtransport.passes.base import Pass
from fxtransport.process import device_of
from fxtransport.tracing.checkpoints import without_reentrance
from fxtransport.unit import Unit


@dataclass(frozen=True)
class Verify(Pass):
    """Run the model and the program side by side, in train and eval, and compare numbers.

    Both run on copies of the model, with the same seed, and with reentrant checkpoints as a
    program keeps them. The chain of the parts is compared too, in the
    first mode and batch size that the model accepts. Floating-point inputs are drawn; integers
    and bools have the values that the example gave, repeated to the batch size, or are zeros
    and True.

    Where the code switches autocast, both run under it too; where it chooses by the modes of
    modules, some of them are flipped; where it holds for one number of pieces, inputs have
    other sizes. There the program must be equal, or a guard of it must refuse.
    """

    name: ClassVar[str] = "verify"
    requires: ClassVar[tuple[type, ...]] = (Lowered,)
    provides: ClassVar[tuple[type, ...]] = (VerificationReport,)
    holds_data: ClassVar[bool] = True

    batch_sizes: tuple[int, ...] = (1, 2)
    seed: int = 0
    tolerance: float = 1e-5
    """The largest error, relative to the largest number compared, that is float noise; in low
    precision, 8 units in the last place."""

    def run(self, unit: Unit) -> Unit:
        """Add the report.

        Raises:
            VerificationError: a number differs by more than float noise.
            UsageError: the model is on the meta device.
        """
        if any(p.device.type == "meta" for p in unit.model.parameters()):
            raise UsageError(
                "the model is on the meta device, so there is nothing to verify; build it on a "
                "real device, or skip verification (verify=False)"
            )
        checks: list[Check] = []
        own = unit.example.batch_size
        chain = len(unit.fact(Lowered).parts) > 1
        for mode in ("train", "eval"):
            for batch_size in self.batch_sizes:
                checks.append(self._check(unit, _Setting(mode, batch_size), chain))
                chain = chain and checks[-1].refused is not None
            if all(c.refused for c in checks if c.mode == mode) and own not in self.batch_sizes:
                checks.append(self._check(unit, _Setting(mode, own), chain))
                chain = chain and checks[-1].refused is not None
        if unit.has(Constructs):
            accepted = next((c.batch_size for c in checks if c.refused is None), own)
            parts = len(unit.fact(Lowered).parts) > 1
            checks.extend(self._check(unit, each, parts) for each in _further(unit, accepted))
        return unit.with_facts(VerificationReport(tuple(checks)))

    def _check(self, unit: Unit, setting: "_Setting", chain: bool) -> Check:
        lowered, example = unit.fact(Lowered), unit.example
        shape_of = partial(setting.shape_of, unit)
        inputs = draw_inputs(unit.model, example, self.seed, shape_of)
        is_example = all(tuple(shape_of(x)) == x.shape for x in example.tensors)

        def measured(call: Callable[[nn.Module, Any], Any]) -> Outcome:
            model = copy_model(unit.model)
            setting.set_modes(model)
            within = None
            if setting.autocast:
                within = torch.autocast(device_of(model).type, dtype=torch.bfloat16)
            with without_reentrance():
                return outcome_of(model, call, inputs, self.seed, within)

        def check(what: str, call: Callable[[nn.Module, Any], Any]) -> "_Errors | Outcome":
            found = measured(call)
            if found.guarded and not (is_example and setting.is_usual):
                return found
            try:
                return self._compare(f"{what}, {setting}", expected, found, setting.is_exact)
            except VerificationError:
                self._check_repeatable(f"{setting}", expected, measured(example.call))
                raise

        expected = measured(example.call)
        errors = [_Errors()]
        calls = {"the program": lambda model, x: lowered.forward.call(model, *x)}
        if chain:
            calls["the chain of its parts"] = lambda model, x: run_chain(model, lowered, x)
        for what, call in calls.items():
            found = check(what, call)
            if isinstance(found, Outcome):
                return setting.checked(_Errors(), found.refused)
            errors.append(found)
        worst = _Errors(*map(max, zip(*errors, strict=True)))
        return setting.checked(worst, expected.refused)

    def _compare(self, what: str, expected: Outcome, found: Outcome, exact: bool) -> "_Errors":
        if expected.refused or found.refused:
            if bool(expected.refused) != bool(found.refused):
                raise VerificationError(
                    f"{what}: one raises and the other does not: the model "
                    f"{expected.in_words()}, and the program {found.in_words()}; please report "
                    "this model"
                )
            return _Errors()
        if found.forward_only and not expected.forward_only:
            raise VerificationError(
                f"{what}: has no gradient: {found.forward_only}; the model has one, so please "
                "report this model"
            )
        # a program copies what it taps, so it may have gradients where the model has none
        gradients = {} if expected.forward_only else found.gradients
        tolerance = 0.0 if exact else self.tolerance
        return _Errors(
            self._error(f"{what}: output", expected.outputs, found.outputs, tolerance),
            self._error(f"{what}: gradient", expected.gradients, gradients, self.tolerance),
            self._error(f"{what}: buffer", expected.state, found.state, tolerance),
        )

    def _error(self, what: str, expected: Named, found: Named, tolerance: float) -> float:
        """The largest absolute difference; raises when it is more than float noise."""
        if expected.keys() != found.keys():
            differing = sorted(expected.keys() ^ found.keys())
            raise VerificationError(
                f"{what}: only one of the two has {', '.join(differing[:5])}; please report this "
                "model"
            )
        worst = 0.0
        for name, e in expected.items():
            f = found[name]
            if e.shape != f.shape or e.dtype != f.dtype:
                raise VerificationError(
                    f"{what} {name}: {tuple(e.shape)} {e.dtype} in the model, "
                    f"{tuple(f.shape)} {f.dtype} in the program; please report this model"
                )
            error, scale = _distance(e, f)
            eps = torch.finfo(e.dtype).eps if e.is_floating_point() or e.is_complex() else 0.0
            noise = scale * max(tolerance, 8 * eps) if tolerance else 0.0
            if not error <= noise:
                raise VerificationError(
                    f"{what} {name} differs by {error:.3g} from the model's, where float "
                    f"noise is at most {noise:.3g}; please report this model"
                )
            worst = max(worst, error)
        return worst

    def _check_repeatable(self, where: str, first: Outcome, second: Outcome) -> None:
        """See that the model does the same in two runs, so that a difference is the program's."""
        try:
            self._compare(where, first, second, exact=False)
        except VerificationError:
            raise VerificationError(
                f"the model, {where}: two runs from one seed differ, so that nothing can be "
                "compared: its forward depends on something that lies outside of it, such as a "
                "counter, a cache or a generator of its own, or on an algorithm that is not "
                "deterministic; remove that, or skip verification (verify=False)"
            ) from None


class _Errors(NamedTuple):
    """The largest absolute differences."""

    output: float = 0.0
    gradient: float = 0.0
    buffer: float = 0.0


@dataclass(frozen=True)
class _Setting:
    """In what way the model and the program are run."""

    mode: str
    batch_size: int
    autocast: bool = False
    flipped: str = ""
    """Which modules are in the other mode: ``leaves``, or ``every second module``."""
    doubled: int = 0
    """A dimension of the inputs that is twice as long, if it is not the batch."""

    @property
    def is_usual(self) -> bool:
        """Whether a guard must hold: it may refuse modes that disagree, or dtypes of autocast."""
        return not self.autocast and not self.flipped

    @property
    def is_exact(self) -> bool:
        """Whether float noise is a difference: it would hide what is compared here."""
        return not self.is_usual

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.mode, f"batch {self.batch_size}", self.extra)))

    @property
    def extra(self) -> str:
        """What is different from the usual comparison, in words."""
        words = ["under autocast"] * self.autocast
        words += [f"{self.flipped} in the other mode"] * bool(self.flipped)
        words += [f"dimension {self.doubled} twice as long"] * bool(self.doubled)
        return ", ".join(words)

    def shape_of(self, unit: Unit, tensor: torch.Tensor) -> Sequence[int]:
        """The shape of an input."""
        shape = list(tensor.shape)
        if unit.example.is_batch(tensor):
            shape[0] = self.batch_size
        first = next(x for x in unit.example.tensors if x.dim())
        k = self.doubled
        if k and k < min(tensor.dim(), first.dim()) and tensor.shape[k] == first.shape[k]:
            shape[k] *= 2
        return shape

    def set_modes(self, model: nn.Module) -> None:
        """Set the mode of each module."""
        model.train(self.mode == "train")
        for i, module in enumerate(model.modules()):
            is_leaf = not any(True for _ in module.children())
            if self.flipped and (is_leaf if self.flipped == "leaves" else i % 2):
                module.training = not module.training

    def checked(self, errors: _Errors, refused: str | None) -> Check:
        """The check that was made."""
        return Check(self.mode, self.batch_size, *errors, refused, self.extra)


def _further(unit: Unit, batch_size: int) -> Iterator[_Setting]:
    """The settings that show what a model's constructs do in their other ways."""
    constructs = unit.fact(Constructs)
    train, evaluate = _Setting("train", batch_size), _Setting("eval", batch_size)
    if constructs.autocast:
        yield from (replace(each, autocast=True) for each in (train, evaluate))
    if constructs.modes:
        yield from (replace(each, flipped="leaves") for each in (train, evaluate))
        yield replace(train, flipped="every second module")
    if constructs.pieces:
        yield from (replace(evaluate, batch_size=size) for size in (3, 4))
        dims = next(x.dim() for x in unit.example.tensors if x.dim())
        yield from (replace(evaluate, doubled=dim) for dim in range(1, dims))


def run_chain(model: nn.Module, lowered: Lowered, inputs: tuple[Any, ...]) -> Any:
    """What the parts return, one after the other, on a model's parameters."""
    hidden: Any = inputs if len(inputs) > 1 else inputs[0]
    last = len(lowered.parts) - 1
    for k, each in enumerate(lowered.parts):
        part = Part(model, model, each, Place(k, k, k == last, (), frozenset()), None)
        part.take_modes()
        hidden = part(hidden).hidden
    return hidden


def _distance(expected: torch.Tensor, found: torch.Tensor) -> tuple[float, float]:
    """The largest absolute difference, and the largest number, at least 1."""
    if expected.layout is not torch.strided:
        return _distance(expected.to_dense(), found.to_dense())
    if torch.equal(expected, found):
        return 0.0, 1.0
    same = (expected == found) | (expected.isnan() & found.isnan())
    if same.all():
        return 0.0, 1.0
    wide = torch.complex128 if expected.is_complex() else torch.float64
    e, f = expected.to(wide), found.to(wide)
    error = (e - f).abs()[~same].max().item()
    finite = e.abs()[e.isfinite()]
    return error, max(finite.max().item() if finite.numel() else 0.0, 1.0)
