"""Code that decides by training flags: right in train, eval and mixed modes."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport.errors import GuardError
from tests.tracing.blocks import Adds, Function, assert_equal, check, net, program_of, x

MODES: dict[str, Function] = {
    "a number": lambda m, x, y: y * (0.5 if m.training else 2.0),
    "a function": lambda m, x, y: (y.relu() if m.training else y.tanh()) * 2,
    "train only": lambda m, x, y: y + torch.randn_like(y) if m.training else y,
    "eval only": lambda m, x, y: y if m.training else y.tanh().mul(2.0),
    "several, eval only": lambda m, x, y: y if m.training else (y.exp() + x.mean()).sigmoid(),
    "a module, train only": lambda m, x, y: m.drop(y) if m.training else y,
    "a module, eval only": lambda m, x, y: y if m.training else m.other(y),
    "other modules": lambda m, x, y: m.other(y) if m.training else m.drop(y),
    "dropout": lambda m, x, y: F.dropout(y, 0.5, m.training),
    "dropout by keyword": lambda m, x, y: F.dropout(y, p=0.5, training=m.training),
    "not": lambda m, x, y: y.relu() if not m.training else y,
    "and": lambda m, x, y: y.relu() if m.training and x.shape[1] == 8 else y,
    "of a submodule": lambda m, x, y: y.relu() if m.drop.training else y,
    "arithmetic": lambda m, x, y: y * (1 + m.training) + int(m.training),
    "a list": lambda m, x, y: torch.stack([y, x][: 1 + m.training]).sum(0),
    "a count": lambda m, x, y: y * len([y] * (2 if m.training else 1)),
    "no_grad": lambda m, x, y: _without_gradient(m, y),
    "noise": lambda m, x, y: y * (torch.rand(8) > 0.5 if m.training else 1.0),
    "batch norm": lambda m, x, y: F.batch_norm(
        y, m.norm.running_mean, m.norm.running_var, training=m.training
    ),
}


def _without_gradient(m: Any, y: Tensor) -> Tensor:
    with torch.set_grad_enabled(not m.training):
        return y * m.linear.weight.mean()


PARTS = {"drop": nn.Dropout(0.5), "other": nn.Linear(8, 8), "norm": nn.BatchNorm1d(8)}


def drop_path(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """As timm has it."""
    if not m.training:
        return y
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    mask = x.new_empty(shape).bernoulli_(0.9)
    if m.scale > 0:
        mask.div_(0.9)
    return y * mask


def test_a_rank_in_one_mode_only() -> None:
    check(drop_path, scale=1.0)


@pytest.mark.parametrize("name", MODES)
def test_both_modes(name: str) -> None:
    check(MODES[name], **PARTS)


@pytest.mark.parametrize("name", MODES)
def test_mixed_modes(name: str) -> None:
    """Each block decides by its own flag, whatever the others do."""
    model = net(MODES[name], **PARTS)
    program = program_of(model)
    for modes in itertools.product([True, False], repeat=3):
        for owner in (model, program):
            owner.train(modes[0])
            owner.get_submodule("0").train(modes[1])
            owner.get_submodule("1").train(modes[2])
        torch.manual_seed(1)
        expected = model(x(5))
        torch.manual_seed(1)
        assert torch.equal(program(x(5)), expected)


class Both(nn.Module):
    """Decides by the flags of two modules together."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        y = self.linear(x)
        if self.training and self.drop.training:
            y = y.relu() * 2
        return x + y


def test_flags_that_decide_together() -> None:
    """Right, or refused where they differ."""
    model = nn.Sequential(Both(), nn.Linear(8, 3))
    program = program_of(model)
    assert_equal(program, model, x(5))
    for owner in (model, program):
        owner.train()
        owner.get_submodule("0.drop").eval()
    expected = model(x(5))
    try:
        found = program(x(5))
    except GuardError as error:
        assert "modes of several modules together" in str(error)
    else:
        assert torch.equal(found, expected)


class Auxiliary(nn.Module):
    """Returns more in training."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Adds(lambda m, x, y: y.relu())
        self.auxiliary = nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.block(x)
        if self.training:
            return self.head(x), self.auxiliary(x).tanh()
        return self.head(x)


def test_what_is_returned_depends_on_the_mode() -> None:
    model = Auxiliary()
    program = program_of(model)
    assert_equal(program, model, x(5))


def test_an_override_of_train_is_followed() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(mode)
            self[1].eval()
            return self

    blocks = [Adds(MODES["batch norm"], **PARTS) for _ in range(2)]
    model = Frozen(*blocks, nn.Linear(8, 3))
    program = program_of(model)
    assert_equal(program, model, x(5))
    assert not program.train().get_submodule("1").training


class Chooses(nn.Module):
    """Asks for its own flag before it uses what it is given, and perhaps returns either of two."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind = nn.Linear(8, 8), kind

    def forward(self, x: Tensor, aside: Any = None) -> Any:
        y = self.linear(x.tanh()) if self.training else self.linear(x)
        if self.kind == "adds":
            return x + y
        z = torch.stack((x, y)).sum(0)
        return z.relu() if self.training else z


class Around(nn.Module):
    """Chooses by its own flag what its blocks are given."""

    def __init__(self, kind: str, given: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Chooses(kind) for _ in range(2))
        self.head, self.given = nn.Linear(8, 3), given

    def forward(self, x: Tensor) -> Any:
        first, second = self.blocks
        x = x.exp().mul(0.5) if self.training else x.sin()
        match self.given:
            case "a tensor":
                return self.head(second(first(x)))
            case "a keyword":
                return self.head(second(first(x, aside={"of": [x]}), aside=x))
            case "through another":
                return self.head(second(nn.Identity()(first(x))) + x)
        x = first(x)
        return self.head(second(x) if self.training else second(x).sigmoid() * x)


GIVEN = ["a tensor", "a keyword", "through another", "what is returned"]


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("kind", ["adds", "stacks"])
def test_modules_are_given_what_others_chose(given: str, kind: str) -> None:
    """Each choice is by the flag of the module that made it, or the program refuses."""
    model = Around(kind, given)
    program = program_of(model)
    model.load_state_dict(program.model_state_dict())
    for modes in itertools.product([True, False], repeat=3):
        for owner in (model, program):
            owner.train(modes[0])
            owner.get_submodule("blocks.0").train(modes[1])
            owner.get_submodule("blocks.1").train(modes[2])
        try:
            found = program(x(5))
        except GuardError as error:
            assert "of several modules together" in str(error)
            assert len(set(modes)) > 1
        else:
            assert torch.equal(found, model(x(5))), modes


class CallsInOneMode(nn.Module):
    """Calls its second block in one mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Chooses("adds") for _ in range(2))
        self.extra, self.head = Chooses("stacks"), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        for block in self.blocks:
            x = block(x)
        if self.training:
            x = self.extra(x)
        return self.head(x)


def test_a_module_that_runs_in_one_mode_only() -> None:
    """Where its own mode is another, the program is the model, or refuses."""
    model = CallsInOneMode()
    program = program_of(model)
    assert_equal(program, model, x(5))
    for modes in itertools.product([True, False], repeat=2):
        for owner in (model, program):
            owner.train(modes[0])
            owner.get_submodule("extra").train(modes[1])
        try:
            found = program(x(5))
        except GuardError as error:
            assert "of several modules together" in str(error)
            assert modes[0] != modes[1]
        else:
            assert torch.equal(found, model(x(5))), modes
