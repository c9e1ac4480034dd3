"""What a forward decides: right in both modes, guarded, or refused with a place."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport.errors import GuardError, TraceError
from fxtransport.models import build, resolve
from fxtransport.runtime import Conditional, guard
from tests.compiling import assert_identical, compiled, forward
from tests.passes.tracing import BranchesOnMode, Dropping, Wrapped, assert_same, line_of, traced


@pytest.mark.parametrize("evaluated", [(), ("0",), ("1",), ("0", "1"), ("",)])
def test_dropout_follows_the_flag_of_its_owner(evaluated: tuple[str, ...]) -> None:
    model = nn.Sequential(Dropping(), Dropping())
    unit = compiled(model, 8)
    for path in evaluated:
        model.get_submodule(path).eval()
    x = torch.randn(4, 8)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    assert_identical(forward(unit)(model, x), expected)


@pytest.mark.parametrize("training", [True, False])
def test_constants_that_differ_between_modes_are_chosen_at_run_time(training: bool) -> None:
    model = Wrapped(BranchesOnMode(0.25, 4.0))
    assert_same(model, torch.randn(3, 8), training=training)
    # and a submodule keeps a mode of its own
    unit = compiled(model, 8)
    model.train(training).stage.train(not training)
    x = torch.randn(3, 8)
    assert_identical(forward(unit)(model, x), model(x))


class MoreInTraining(BranchesOnMode):
    """Has a further classifier, a further function, and another kind of output in training."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.auxiliary = nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Any:
        x = x + self.linear(x).relu()
        if self.training:
            return x, self.auxiliary(x).tanh().mul(2.0)
        return x


@pytest.mark.parametrize("training", [True, False])
def test_what_runs_in_training_only_is_conditional(training: bool) -> None:
    model = nn.Sequential(MoreInTraining())
    assert_same(model, torch.randn(3, 8), training=training)
    unit = compiled(model, 8)
    assert (len(forward(unit)(model.train(training), torch.randn(3, 8))) == 2) == training


class MoreInEval(BranchesOnMode):
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.linear(x).relu()
        return x if self.training else x.tanh()


@pytest.mark.parametrize("training", [True, False])
def test_what_runs_in_eval_only_is_conditional(training: bool) -> None:
    model = Wrapped(MoreInEval(0, 0))
    assert_same(model, torch.randn(3, 8), training=training)
    assert sum(isinstance(n.target, Conditional) for n in traced(model, 8).nodes) == 1
    # and a submodule keeps a mode of its own
    unit = compiled(model, 8)
    model.train(training).stage.train(not training)
    x = torch.randn(3, 8)
    assert_identical(forward(unit)(model, x), model(x))


class Moody(nn.Module):
    """Decides by shape and mode."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] % 2:
            x = x.flip(0)
        return x * 2 if self.training else x.tanh()


class AroundMoody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.moody = nn.Linear(8, 8), Moody()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.moody(self.linear(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [2, 3])
def test_a_closed_module_keeps_its_control_flow(training: bool, batch: int) -> None:
    assert_same(AroundMoody(), torch.randn(batch, 8), training=training)


class DecidesOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = -x
        return x + self.linear(x)


class TakesItem(DecidesOnData):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x) * x.mean().item()


class TakesFloat(DecidesOnData):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x) * float(x.mean())


class TakesWhere(DecidesOnData):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x)[:, (x.sum(0) > 0).nonzero().flatten()].sum()


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (DecidesOnData, "if x.sum() > 0"),
        (TakesItem, ".item()"),
        (TakesFloat, "float("),
        (TakesWhere, "nonzero()"),
    ],
)
def test_decisions_on_data_are_refused_with_the_place(cls: type[nn.Module], text: str) -> None:
    with pytest.raises(TraceError) as caught:
        traced(Wrapped(cls()), 8)
    message = str(caught.value)
    assert f"stage.0 ({cls.__name__})" in message
    assert line_of(cls, text) in message
    assert "data-dependent control flow" in message
    assert "torch.where" in message  # the way out
    assert caught.value.exit_code == 3


class DecidesOnShape(nn.Module):
    """Pads to an even size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            x = F.pad(x, (0, 1))
        return x + self.conv(x).relu()


def test_decisions_on_shapes_are_guarded() -> None:
    model = Wrapped(DecidesOnShape())
    unit = compiled(model, 4, 8, 8)
    assert sum(n.target is guard for n in unit.traced().nodes) == 1
    assert_same(model, torch.randn(3, 4, 8, 8))
    for size in (8, 10):  # both even
        x = torch.randn(1, 4, size, size)
        assert_identical(forward(unit)(model, x), model(x))
    with pytest.raises(GuardError, match=r"a number in stage\.0 .* makes it .*compile again"):
        forward(unit)(model, torch.randn(1, 4, 9, 9))


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such luck\nand more")


def test_a_forward_that_raises_is_named_with_the_place() -> None:
    with pytest.raises(TraceError) as caught:
        traced(Wrapped(Raises()), 8)
    message = str(caught.value)
    assert "stage.0 (Raises) raised ValueError" in message
    assert line_of(Raises, "raise ValueError") in message
    assert ": no such luck. " in message
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_input_that_does_not_fit_is_named_with_the_place() -> None:
    model = build(resolve("timm:vit_tiny_patch16_224"), device="meta")
    with pytest.raises(TraceError, match=r"patch_embed \(PatchEmbed\) raised AssertionError at"):
        traced(model, 3, 100, 100)
