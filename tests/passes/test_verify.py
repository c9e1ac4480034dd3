"""Verification notices every kind of difference, and says which."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport.compiler import compile_passes
from fxtransport.errors import GuardError, UsageError, VerificationError
from fxtransport.example_inputs import example_of
from fxtransport.ir import Constructs, HeadKind, VerificationReport
from fxtransport.lowered import Function, Lowered
from fxtransport.passes.pipeline import run_passes
from fxtransport.passes.verify import Verify
from fxtransport.residue import Measure
from fxtransport.unit import Unit


class Block(nn.Module):
    """Two convolutions with batch norm, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.norm(self.conv(x)).relu())


def lowered(model: nn.Module, *shape: int, modules: int = 1) -> Unit:
    """A unit that is ready to be verified."""
    passes = compile_passes(modules=modules, head=HeadKind.NONE, verify=False)
    return run_passes(Unit(model, example_of(model, torch.empty(2, *shape, device="meta"))), passes)


def with_forward(unit: Unit, call: Callable[..., Any]) -> Unit:
    """The unit with another forward."""
    good = unit.fact(Lowered)
    return unit.with_facts(replace(good, forward=Function(call, "", ("x",))))


@pytest.fixture
def unit() -> Unit:
    """Three blocks, cut into two."""
    return lowered(nn.Sequential(Block(), Block(), Block()), 4, 8, 8, modules=2)


def test_equal_programs_pass(unit: Unit) -> None:
    """Both modes, two batch sizes; nothing differs."""
    checks = Verify(batch_sizes=(1, 3)).run(unit).facts
    report = next(f for f in checks.values() if type(f).__name__ == "VerificationReport")
    found = [(c.mode, c.batch_size) for c in report.checks]
    assert found == [("train", 1), ("train", 3), ("eval", 1), ("eval", 3)]
    assert report.max_error == 0.0


def wrong_output(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A little more than the model."""
    return model(x) + 1e-3


def wrong_in_train(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Forgets dropout."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model(x)


def wrong_gradient(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The model's output, half of it cut off from its parameters."""
    y = model(x)
    return (y + y.detach()) / 2


def wrong_buffers(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Updates running means twice."""
    with torch.no_grad(), torch.random.fork_rng():
        model(x)
    return model(x)


def refuses(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Raises where the model does not."""
    raise ValueError("no batch of this size")


def wrong_shape(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Adds a dimension."""
    return model(x)[None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (wrong_output, "output 0 differs by 0.001"),
        (wrong_in_train, "train, batch 1: output"),
        (wrong_gradient, "gradient .* differs"),
        (wrong_buffers, "buffer .*running_mean differs"),
        (refuses, "one raises and the other does not.*no batch of this size"),
        (wrong_shape, r"output 0: \(1, 4, 8, 8\).*\(1, 1, 4, 8, 8\)"),
    ],
)
def test_differences_are_found(unit: Unit, call: Callable[..., Any], message: str) -> None:
    """Outputs, gradients and buffers each are compared."""
    with pytest.raises(VerificationError, match=message):
        Verify().run(with_forward(unit, call))


def test_wrong_chain_is_found(unit: Unit) -> None:
    """The chain of the parts is compared too."""
    good = unit.fact(Lowered)
    first = good.parts[0]

    def doubled(model: nn.Module, x: torch.Tensor, cost: Measure | None) -> Any:
        state, energies = first.function.call(model, x, cost)
        return tuple(2 * t for t in state), energies

    bad = replace(first, function=Function(doubled, "", ("x", "measure")))
    with pytest.raises(VerificationError, match="chain of its parts"):
        Verify().run(unit.with_facts(replace(good, parts=(bad, *good.parts[1:]))))


def test_float_noise_passes_and_is_reported(unit: Unit) -> None:
    """An error of rounding is no failure, and is said."""
    noisy = with_forward(unit, lambda model, x: model(x) * (1 + 2e-7))
    found = Verify(batch_sizes=(2,)).run(noisy).facts
    report = next(f for f in found.values() if type(f).__name__ == "VerificationReport")
    assert 0.0 < report.max_error < 1e-4


def test_refusals_of_the_model_are_shared() -> None:
    """A batch norm over one value refuses a batch of one; so must the program."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.block(x).mean((2, 3)))

    found = Verify().run(lowered(Pooled(), 4, 8, 8)).facts
    report = next(f for f in found.values() if type(f).__name__ == "VerificationReport")
    assert "more than 1 value per channel" in str(report.checks[0].refused)
    assert report.checks[1].gradient_error == 0.0


class ForwardOnly(nn.Module):
    """Overwrites what its own gradient needs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x).exp()
        return x.mul_(2) + self.linear(x).relu()


def test_models_without_gradients_have_equal_outputs() -> None:
    unit = lowered(ForwardOnly(), 4)
    report = Verify().run(unit).fact(VerificationReport)
    assert report.max_error == 0.0
    wrong = with_forward(unit, lambda model, x: model(x) + 1)
    with pytest.raises(VerificationError, match="output 0"):
        Verify().run(wrong)


def test_programs_without_gradients_are_found() -> None:
    """Where the model has them."""

    def overwriting(model: Any, x: torch.Tensor) -> torch.Tensor:
        y = model(x).exp()
        return y.log_().exp_().log_()

    with pytest.raises(VerificationError, match=r"has no gradient: .* modified by an inplace"):
        Verify().run(with_forward(lowered(Block(), 4, 5, 5), overwriting))


def test_models_on_the_meta_device_are_refused() -> None:
    """There is nothing to verify on the meta device."""
    with pytest.raises(UsageError, match="on the meta device"):
        Verify().run(lowered(nn.Sequential(Block(), Block()).to("meta"), 4, 8, 8))


def test_parameters_are_not_changed(unit: Unit) -> None:
    """Neither values, nor gradients, nor buffers of the user's model."""
    before = {k: v.clone() for k, v in unit.model.state_dict().items()}
    Verify().run(unit)
    assert all(torch.equal(before[k], v) for k, v in unit.model.state_dict().items())
    assert all(p.grad is None for p in unit.model.parameters())


def report_of(unit: Unit, **constructs: bool) -> VerificationReport:
    """What verification finds where tracing met these constructs."""
    return Verify().run(unit.with_facts(Constructs(**constructs))).fact(VerificationReport)


def test_further_settings_are_compared_where_the_code_has_what_they_are_for(unit: Unit) -> None:
    usual = len(Verify().run(unit).fact(VerificationReport).checks)
    assert len(report_of(unit).checks) == usual
    found = report_of(unit, autocast=True, modes=True, pieces=True).checks[usual:]
    assert [(c.mode, c.batch_size, c.setting) for c in found] == [
        ("train", 1, "under autocast"),
        ("eval", 1, "under autocast"),
        ("train", 1, "leaves in the other mode"),
        ("eval", 1, "leaves in the other mode"),
        ("train", 1, "every second module in the other mode"),
        ("eval", 3, ""),
        ("eval", 4, ""),
        ("eval", 1, "dimension 1 twice as long"),
        ("eval", 1, "dimension 2 twice as long"),
        ("eval", 1, "dimension 3 twice as long"),
    ]
    assert {c.error for c in found} == {0.0}


def wrong_under_autocast(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = model(x)
    return y.bfloat16().to(y.dtype) if torch.is_autocast_enabled("cpu") else y


def wrong_in_mixed_modes(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    first = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    return model.train(first.training)(x)


def wrong_at_other_sizes(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x) + (x.shape[-1] != 8)


def refuses_other_sizes(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if x.shape[-1] != 8 or x.shape[0] > 2:
        raise GuardError("another size")
    return model(x)


@pytest.mark.parametrize(
    ("call", "construct", "message"),
    [
        (wrong_under_autocast, "autocast", "program, train, batch 1, under autocast: output 0"),
        (wrong_in_mixed_modes, "modes", "batch 1, every second module in the other mode: "),
        (wrong_at_other_sizes, "pieces", "program, eval, batch 1, dimension 3 twice as long: out"),
    ],
)
def test_what_only_shows_in_further_settings(
    unit: Unit, call: Callable[..., Any], construct: str, message: str
) -> None:
    wrong = with_forward(unit, call)
    assert report_of(wrong).max_error == 0.0
    with pytest.raises(VerificationError, match=f"{message}.*please report this model"):
        report_of(wrong, **{construct: True})


def test_guards_may_refuse_other_sizes(unit: Unit) -> None:
    found = report_of(with_forward(unit, refuses_other_sizes), pieces=True).checks
    refused = [c.setting or c.batch_size for c in found if c.refused == "GuardError: another size"]
    assert refused == [3, 4, "dimension 3 twice as long"]


def test_guards_may_not_refuse_the_example(unit: Unit) -> None:
    def refuses(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        raise GuardError("x must not be")

    with pytest.raises(VerificationError, match="program raises GuardError: x must not be"):
        Verify(batch_sizes=(2,)).run(with_forward(unit, refuses))


def test_it_is_said_where_a_model_raises() -> None:
    class Raises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not x.is_meta and x.shape[0] == 1:
                raise ValueError("never one")
            return x + self.linear(x)

    message = r"the model raises ValueError: never one \(at .*test_verify.py:\d+\), and the program"
    with pytest.raises(VerificationError, match=message):
        Verify().run(with_forward(lowered(Raises(), 4), lambda _, x: x))


COUNTER = [0]
"""Reached by way of sys.modules, where no compiler looks."""


def test_models_that_do_not_repeat_themselves_are_named_so() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            counter = sys.modules[__name__].COUNTER
            counter[0] += not x.is_meta
            return x + self.linear(x) * counter[0]

    with pytest.raises(VerificationError, match=r"two runs from one seed differ.*counter") as found:
        Verify().run(lowered(nn.Sequential(Counts(), Counts()), 4))
    assert "report this model" not in str(found.value)


def test_low_precision_is_no_excuse() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).bfloat16()
    passes = compile_passes(head=HeadKind.NONE, verify=False)
    example = example_of(model, torch.empty(2, 4, dtype=torch.bfloat16, device="meta"))
    unit = run_passes(Unit(model, example), passes)
    assert Verify().run(unit).fact(VerificationReport).max_error == 0.0
    with pytest.raises(VerificationError, match="output 0 differs"):
        Verify().run(with_forward(unit, lambda model, x: model(x) + 0.2))


def test_forwards_that_write_parameters_write_copies() -> None:
    class Clamps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.linear.weight.add_(1)
            return self.linear(x)

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Clamps(), Clamps()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    model = Around()
    before = model.first.linear.weight.clone()
    unit = lowered(model, 4)
    assert Verify().run(unit).fact(VerificationReport).max_error == 0.0
    assert torch.equal(model.first.linear.weight, before)


def test_models_may_refuse_by_an_error_of_their_own() -> None:
    class TooFewError(Exception):
        pass

    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[0] == 1:
                raise TooFewError("two at least")
            return x + self.linear(x)

    unit = lowered(Refuses(), 4)
    checks = Verify().run(unit).fact(VerificationReport).checks
    assert [bool(c.refused) for c in checks] == [True, False, True, False]
    with pytest.raises(VerificationError, match="model raises TooFewError: two at least"):
        Verify().run(with_forward(unit, lambda _, x: x))


def test_sparse_buffers_are_compared() -> None:
    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("mixes", torch.eye(4).to_sparse())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.sparse.mm(self.mixes, self.linear(x).T).T

    unit = lowered(nn.Sequential(Mixes(), Mixes()), 4)
    assert Verify().run(unit).fact(VerificationReport).max_error == 0.0
