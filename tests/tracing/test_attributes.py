"""What code reads and writes on modules: read again, guarded, written through, or refused."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import GuardError, TraceError
from tests.compiling import assert_identical
from tests.tracing.blocks import (
    Apart,
    Function,
    assert_equal,
    check,
    guarded,
    net,
    program_of,
    refused,
    remedied,
    x,
)


@dataclasses.dataclass
class Config:
    """Numbers that blocks share."""

    scale: float = 0.5
    sizes: list[int] = dataclasses.field(default_factory=lambda: [1, 2])


READ: dict[str, tuple[Function, Any, Any]] = {
    "a float": (lambda m, x, y: m.value * y.relu(), 0.1, 0.9),
    "an integer": (lambda m, x, y: y * m.value, 2, 3),
    "in arithmetic": (lambda m, x, y: y * min(1.0, m.value / 10) + 2**m.value, 4, 20),
    "by a method": (lambda m, x, y: y.clamp(max=m.value), 0.1, 0.3),
    "by a function": (lambda m, x, y: nn.functional.dropout(y, m.value, m.training), 0.1, 0.7),
    "in a comparison of tensors": (lambda m, x, y: torch.where(y > m.value, y, 0), 0.0, 0.5),
    "by getattr": (lambda m, x, y: y * getattr(m, "value", 1), 0.5, 0.7),
    "a tensor": (lambda m, x, y: y * m.value, torch.linspace(0, 1, 8), torch.ones(8)),
    "a tensor of another size": (lambda m, x, y: y * m.value, torch.ones(8), torch.ones(1)),
    "a list of tensors": (lambda m, x, y: y * m.value[1], [torch.ones(1), 2 * torch.ones(8)], None),
    "a dict of tensors": (lambda m, x, y: y * m.value["a"], {"a": torch.rand(8)}, None),
}


@pytest.mark.parametrize("name", READ)
def test_numbers_and_tensors_are_read_again(name: str) -> None:
    function, before, after = READ[name]
    model = net(function, value=before)
    program = program_of(model)
    assert_equal(program, model, x(5))
    if after is not None:
        for owner in (model, program):
            for path in ("0", "1"):
                owner.get_submodule(path).value = copy.deepcopy(after)
        assert_equal(program, model, x(5))


DECIDES: dict[str, tuple[Function, Any, Any]] = {
    "a flag": (lambda m, x, y: y.relu() if m.value else y, True, False),
    "a name": (lambda m, x, y: getattr(y, m.value)(), "relu", "tanh"),
    "a number": (lambda m, x, y: y.relu() if m.value > 1 else y, 2, 1),
    "a count": (lambda m, x, y: sum([y] * m.value, torch.zeros(())), 2, 3),
    "range": (lambda m, x, y: sum((y * i for i in range(m.value)), torch.zeros(())), 3, 4),
    "None": (lambda m, x, y: y if m.value is None else y * m.value, None, 2.0),
    "a tuple": (lambda m, x, y: y.reshape(-1, *m.value).reshape(len(y), -1), (2, 4), (4, 2)),
    "a list": (lambda m, x, y: y * sum(m.value), [1, 2], [1, 3]),
    "a dict": (lambda m, x, y: y * m.value["scale"], {"scale": 2}, {"scale": 3}),
    "a dataclass": (lambda m, x, y: y * m.value.scale, Config(), Config(scale=2.0)),
    "inside": (lambda m, x, y: y * m.value.sizes[1], Config(), Config(sizes=[1, 3])),
    "a function": (lambda m, x, y: m.value(y), torch.relu, torch.tanh),
}


@pytest.mark.parametrize("name", DECIDES)
def test_what_decides_is_guarded(name: str) -> None:
    function, before, after = DECIDES[name]
    model = net(function, value=before)
    program = program_of(model)
    assert_equal(program, model, x(5))
    program.get_submodule("0").value = after
    with pytest.raises(GuardError, match=r"0 \(Adds\)"):
        program(x(5))
    program.get_submodule("0").value = before
    assert_equal(program, model, x(5))


class Warm(nn.Module):
    """Counts its steps in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.step = 0

    def forward(self, x: Tensor) -> Any:
        if self.training:
            self.step += 1
        return x + self.linear(x) * min(1.0, self.step / 10)


def test_a_counter_counts() -> None:
    model = nn.Sequential(Warm(), Warm(), nn.Linear(8, 3))
    program = program_of(model)
    assert model[0].step == program.get_submodule("0").step == 0
    for mode in (True, False, True):
        model.train(mode), program.train(mode)
        outputs = set()
        for _ in range(4):
            expected = model(x(3))
            assert torch.equal(program(x(3)), expected)
            outputs.add(tuple(expected.flatten().tolist()))
        assert len(outputs) == (4 if mode else 1)
    assert model[0].step == program.get_submodule("0").step == 8


def buffered(function: Function) -> nn.Module:
    """A net whose blocks have a buffer."""
    model = net(function)
    for path in ("0", "1"):
        model.get_submodule(path).register_buffer("ema", torch.zeros(8))
    return model


def reassign(m: Any, x: Tensor, y: Tensor) -> Tensor:
    if m.training:
        m.ema = m.ema * 0.9 + y.detach().mean(0) * 0.1
    return y - m.ema


def reassign_twice(m: Any, x: Tensor, y: Tensor) -> Tensor:
    m.ema = m.ema + 1
    y = y * m.ema
    m.ema = m.ema * 0.5
    return y - m.ema


def write_in_place(m: Any, x: Tensor, y: Tensor) -> Tensor:
    m.ema.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)
    m.ema[0] = 1
    return y - m.ema.clone()


def write_by_function(m: Any, x: Tensor, y: Tensor) -> Tensor:
    setattr(m, "ema", torch.lerp(m.ema, y.detach().mean(0), 0.1))  # noqa: B010
    return y - m.ema


WRITES = [reassign, reassign_twice, write_in_place, write_by_function]


@pytest.mark.parametrize("function", WRITES, ids=lambda f: f.__name__)
def test_buffers_move_as_in_the_model(function: Any) -> None:
    model = buffered(function)
    program = program_of(model)
    assert_equal(program, model, x(5))
    assert_equal(program, model, x(5))
    moved = program.state_dict()["0.ema"]
    assert moved.any()
    assert torch.equal(moved, model.state_dict()["0.ema"])
    unverified = program_of(buffered(function), verify=False).train()
    unverified(x(4))
    assert unverified.state_dict()["0.ema"].any()


def test_what_is_written_can_be_read_by_the_user() -> None:
    """Such as a loss that a block keeps."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.loss = y.square().mean()
        m.seen = x.shape[0]
        return y

    model = net(branch, loss=None, seen=0)
    program = program_of(model)
    program(x(5)), model(x(5))
    block = program.get_submodule("0")
    assert torch.equal(block.loss, model[0].loss)
    assert block.seen == 5
    block.loss.backward()
    assert program.get_parameter("0.linear.weight").grad is not None


def test_a_parameter_may_be_a_buffer() -> None:
    model = net(lambda m, x, y: y * m.scale)
    for path in ("0", "1"):
        model.get_submodule(path).register_buffer("scale", nn.Parameter(torch.randn(8)))
    assert_equal(program_of(model), model, x(5))


def test_modules_are_given_to_modules() -> None:
    class User(nn.Module):
        def forward(self, x: Tensor, activation: nn.Module) -> Any:
            return activation(x)

    check(lambda m, x, y: m.user(y, m.act), user=User(), act=nn.PReLU())
    check(lambda m, x, y: m.user(y, activation=m.act) + m.act(y), user=User(), act=nn.PReLU())


# -- what is refused -----------------------------------------------------------------------------


def deletes(m: Any, x: Tensor, y: Tensor) -> Tensor:
    m.seen = y
    del m.seen
    return y


def test_deleting_is_refused() -> None:
    def assigns(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.seen = None
        return y

    assert "assign None instead" in refused(deletes, "deletes self.seen")
    model = net(assigns, seen=1)
    assert_equal(program_of(model), model, x(5))


def test_assigning_parameters_and_modules_is_refused() -> None:
    def parameter(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.made = nn.Parameter(torch.ones(8))
        return y * m.made

    def module(m: Any, x: Tensor, y: Tensor) -> Any:
        m.made = nn.GELU()
        return m.made(y)

    assert "make it in __init__" in refused(parameter, "assigns self.made, a Parameter")
    assert "make it in __init__" in refused(module, "assigns self.made, a GELU")
    check(lambda m, x, y: m.made(y), made=nn.GELU())


def refused_as_a_whole(function: Function, words: str, **attributes: Any) -> None:
    """What only the whole forward shows: the module's path, and a remedy that works."""
    model = net(function, **attributes)
    with pytest.raises(TraceError, match=r"^0 \(Adds\) ") as caught:
        program_of(model)
    assert words in str(caught.value)
    assert "move this code to a module without a residual addition" in str(caught.value)
    apart = net(function, Apart, **attributes)
    assert_equal(program_of(apart), apart, x(5))


def test_code_that_decides_by_what_it_writes() -> None:
    def toggles(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.on = not m.on
        return y * 2 if m.on else y

    def counts(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.step += 1
        return y * 2 if m.step > 3 else y

    refused_as_a_whole(toggles, "decides by self.on and assigns it", on=False)
    refused_as_a_whole(counts, "decides by self.step and assigns it", step=0)


def test_code_that_changes_containers() -> None:
    def appends(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.log.append(1)
        return y * len(m.log)

    def fills(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.log["n"] = m.log.get("n", 0) + 1
        return y * m.log["n"]

    refused_as_a_whole(appends, "changes self.log, a list, in forward", log=[])
    refused_as_a_whole(fills, "changes self.log, a dict, in forward", log={})


def test_settings_of_modules_are_not_made_in_forward() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.linear.weight.requires_grad = False
        return y

    remedied(branch, "assigns to .requires_grad of a tensor")


class Optional(nn.Module):
    """A residual block with a parameter and a buffer that may be missing."""

    def __init__(self, *, scale: bool, mean: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_parameter("scale", nn.Parameter(torch.full((8,), 0.5)) if scale else None)
        self.register_buffer("mean", torch.ones(8) if mean else None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        y = y if self.scale is None else y * self.scale
        return x + (y if self.mean is None else y - self.mean)


@pytest.mark.parametrize("has", [False, True])
@pytest.mark.parametrize("name", ["scale", "mean"])
def test_tensors_that_come_or_go_are_guarded(name: str, has: bool) -> None:
    model = nn.Sequential(Optional(scale=has, mean=has), nn.Linear(8, 3))
    program = transportify(model, x())
    assert_identical(program(x()), model(x()))
    tensor = nn.Parameter(torch.ones(8)) if name == "scale" else torch.ones(8)
    setattr(model[0], name, None if has else tensor)
    said = guarded(program, model, x())
    was, now = ("a tensor", "None") if has else ("None", f"a {type(tensor).__name__}")
    assert f"0 (Optional) reads self.{name}, which was {was} when" in said
    assert f"is {now} now" in said
    setattr(model[0], name, tensor if has else None)
    assert_identical(program(x()), model(x()))
