"""Compare the program with the model: outputs, gradients and buffers, in both modes."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from fxtransport.errors import MODEL_ERRORS, GuardError, UsageError, VerificationError, first_line
from fxtransport.ir import Check, VerificationReport
from fxtransport.lowered import Lowered
from fxtransport.passes.base import Pass
from fxtransport.process import device_of, devices_of, seed_generators
from fxtransport.residue import mean_square_branch
from fxtransport.tracing.recorder import tensors_in
from fxtransport.tracing.shadow import without_checkpoints
from fxtransport.unit import Example, Unit


@dataclass(frozen=True)
class Verify(Pass):
    """Run the model and the program side by side, in train and eval, and compare numbers.

    Both run on copies of the model, with the same seed, and without checkpoints, which update
    batch norms once more in the backward pass. Floating-point inputs are drawn; integers and
    bools have the values that the example gave, repeated to the batch size, or are zeros and
    True. The chain of the parts is compared too, in the first mode and batch size that the
    model accepts.
    """

    name: ClassVar[str] = "verify"
    requires: ClassVar[tuple[type, ...]] = (Lowered,)
    provides: ClassVar[tuple[type, ...]] = (VerificationReport,)

    batch_sizes: tuple[int, ...] = (1, 2)
    seed: int = 0
    tolerance: float = 1e-5
    """The largest error, relative to the largest number compared, that is float noise."""

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
        chain = len(unit.fact(Lowered).parts) > 1
        for mode in ("train", "eval"):
            for batch_size in self.batch_sizes:
                checks.append(self._check(unit, mode, batch_size, chain))
                chain = chain and checks[-1].refused is not None
            if all(c.refused for c in checks if c.mode == mode):
                checks.append(self._check(unit, mode, unit.example.batch_size, chain))
                chain = chain and checks[-1].refused is not None
        return unit.with_facts(VerificationReport(tuple(checks)))

    def _check(self, unit: Unit, mode: str, batch_size: int, chain: bool) -> Check:
        lowered = unit.fact(Lowered)
        inputs = self._inputs(unit.model, unit.example, batch_size)

        def measured(call: Callable[..., Any]) -> "_Outcome":
            model = copy.deepcopy(unit.model).train(mode == "train")
            with without_checkpoints():
                return _outcome(model, call, inputs, self.seed)

        where = f"{mode}, batch {batch_size}"
        expected = measured(unit.example.call)
        found = measured(lambda model, x: lowered.forward.call(model, *x))
        if found.guarded and batch_size != unit.example.batch_size:
            return Check(mode, batch_size, 0.0, 0.0, 0.0, found.refused)
        errors = [self._compare(f"the program, {where}", expected, found)]
        if chain:
            found = measured(lambda model, x: run_chain(model, lowered, x))
            errors.append(self._compare(f"the chain of its parts, {where}", expected, found))
        worst = [max(e) for e in zip(*errors, strict=True)]
        return Check(mode, batch_size, worst[0], worst[1], worst[2], expected.refused)

    def _inputs(self, model: nn.Module, example: Example, batch_size: int) -> tuple[Any, ...]:
        generator = torch.Generator("cpu").manual_seed(self.seed)
        device = device_of(model)

        def made(x: torch.Tensor, values: torch.Tensor | None) -> torch.Tensor:
            shape = (batch_size, *x.shape[1:]) if example.is_batch(x) else x.shape
            if x.is_floating_point() or x.is_complex():
                like = torch.empty(shape, dtype=x.dtype, device=device)
                return _drawn(like, generator).requires_grad_()
            if values is not None:
                return _repeated(values, shape).to(device)
            # an index that every table has, and a mask that hides nothing
            return torch.full(shape, x.dtype == torch.bool, dtype=x.dtype, device=device)

        return example.map(made)

    def _compare(
        self, what: str, expected: "_Outcome", found: "_Outcome"
    ) -> tuple[float, float, float]:
        if expected.refused or found.refused:
            if bool(expected.refused) != bool(found.refused):
                raise VerificationError(
                    f"{what}: one raises and the other does not: the model "
                    f"{expected.refused or 'returns'}, the program {found.refused or 'returns'}"
                )
            return 0.0, 0.0, 0.0
        if found.forward_only and not expected.forward_only:
            raise VerificationError(f"{what}: has no gradient: {found.forward_only}")
        # a program copies what it taps, so it may have gradients where the model has none
        gradients = {} if expected.forward_only else found.gradients
        return (
            self._error(f"{what}: output", expected.outputs, found.outputs),
            self._error(f"{what}: gradient", expected.gradients, gradients),
            self._error(f"{what}: buffer", expected.buffers, found.buffers),
        )

    def _error(self, what: str, expected: "_Named", found: "_Named") -> float:
        """The largest absolute difference; raises when it is more than float noise."""
        if expected.keys() != found.keys():
            differing = sorted(expected.keys() ^ found.keys())
            raise VerificationError(f"{what}: only one of the two has {', '.join(differing[:5])}")
        worst = 0.0
        for name, e in expected.items():
            f = found[name]
            if e.shape != f.shape or e.dtype != f.dtype:
                raise VerificationError(
                    f"{what} {name}: {tuple(e.shape)} {e.dtype} in the model, "
                    f"{tuple(f.shape)} {f.dtype} in the program"
                )
            if torch.equal(e, f) or (e.isnan() & f.isnan() | (e == f)).all():
                continue
            error = (e.double() - f.double()).abs().max().item()
            scale = max(e.double().abs().max().item(), 1.0)
            noise = self.tolerance * scale * max(1.0, torch.finfo(e.dtype).eps / 1.2e-7)
            if not error <= noise:
                raise VerificationError(
                    f"{what} {name} differs by {error:.3g} from the model's, where float "
                    f"noise is at most {noise:.3g}; please report this model"
                )
            worst = max(worst, error)
        return worst


_Named = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Outcome:
    """What one forward and backward pass left."""

    outputs: _Named
    gradients: _Named
    buffers: _Named
    refused: str | None = None
    guarded: bool = False
    """Whether a guard refused the input."""
    forward_only: str | None = None
    """Why it cannot be differentiated: it overwrites what its gradient needs."""


def run_chain(model: nn.Module, lowered: Lowered, inputs: Sequence[torch.Tensor]) -> Any:
    """What the parts compute, one after the other, on a model's parameters."""
    state: Any = tuple(inputs)
    for part in lowered.parts:
        state, _ = part.function.call(model, *state, mean_square_branch)
    return state


def _repeated(values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The user's values for a batch of another size."""
    if values.shape == shape:
        return values.clone()
    rows = torch.arange(shape[0], device="cpu") % max(1, values.shape[0])
    return values[rows]


def _drawn(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal numbers of the shape, dtype and device of a tensor."""
    dtype = torch.complex64 if like.is_complex() else torch.float32
    return torch.randn(like.shape, generator=generator, dtype=dtype, device="cpu").to(like)


def _outcome(
    model: nn.Module, call: Callable[..., Any], inputs: tuple[Any, ...], seed: int
) -> _Outcome:
    """Run forward and backward, from a seed."""
    leaves = {f"input {i}": x for i, x in enumerate(tensors_in(inputs)) if x.requires_grad}
    leaves |= {name: p for name, p in model.named_parameters() if p.requires_grad}
    seed_generators(seed, devices_of(model))
    versions = {name: p._version for name, p in model.named_parameters()}
    # a clone, because models may write their input
    given = tree_map_only(torch.Tensor, torch.clone, inputs)
    try:
        returned = call(model, given)
    except MODEL_ERRORS as error:
        refused = f"raises {type(error).__name__}: {first_line(error)}"
        return _Outcome({}, {}, {}, refused, isinstance(error, GuardError))
    outputs = {str(i): t for i, t in enumerate(tensors_in(returned))}
    if not outputs:
        raise VerificationError("the model returns no tensors, so nothing can be compared")
    differentiable = [t for t in outputs.values() if t.requires_grad]
    gradients: _Named = {}
    forward_only = None
    if differentiable:
        generator = torch.Generator("cpu").manual_seed(seed)
        weights = [_drawn(t, generator) for t in differentiable]
        found: tuple[torch.Tensor | None, ...] = ()
        try:
            found = torch.autograd.grad(
                differentiable, list(leaves.values()), weights, allow_unused=True
            )
        except MODEL_ERRORS as error:
            forward_only = first_line(error)
        named = zip(leaves, found or (None,) * len(leaves), strict=True)
        gradients = {name: g for name, g in named if g is not None}
    written = [(k, p) for k, p in model.named_parameters() if p._version != versions.get(k)]
    return _Outcome(
        {name: t.detach() for name, t in outputs.items()},
        gradients,
        {name: b.detach().clone() for name, b in (*model.named_buffers(), *written)},
        forward_only=forward_only,
    )
