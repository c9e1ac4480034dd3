"""Both modes, with and without gradients; hooks; and code that changes from call to call."""

import dataclasses
import sys
import types
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import GuardError, TraceError
from tests.tracing.blocks import Adds, Apart, Function, assert_equal, net, program_of, x

Pair = namedtuple("Pair", "first second")
HOOKS = [
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
]


@pytest.mark.parametrize("path", ["", "0"])
@pytest.mark.parametrize("register", HOOKS)
def test_hooks_of_opened_modules_are_refused(register: str, path: str) -> None:
    """The remedy: on a closed submodule, and on the program."""
    model = net(lambda m, x, y: y.relu())
    handle = getattr(model.get_submodule(path), register)(lambda *_: None)
    words = rf"^{path or 'the model'} \((Adds|Sequential)\) has a .*hook, which a program does not"
    with pytest.raises(TraceError, match=words):
        program_of(model)
    handle.remove()
    seen: list[str] = []
    getattr(model[0].linear, register)(lambda *_: seen.append("inside"))
    program = program_of(model)
    getattr(program, register)(lambda *_: seen.append("program"))
    seen.clear()
    program(x(3).requires_grad_()).sum().backward()
    assert sorted(set(seen)) == ["inside", "program"]


def test_a_hook_of_the_root_that_returns_something_else() -> None:
    model = net(lambda m, x, y: y.relu())
    model.register_forward_hook(lambda m, i, o: o + 1)
    with pytest.raises(TraceError, match=r"the model \(Sequential\) has a forward hook"):
        program_of(model)


def test_a_hook_of_a_closed_module_runs() -> None:
    model = net(lambda m, x, y: y.relu())
    model[0].linear.register_forward_hook(lambda m, i, o: o * 2)
    assert_equal(program_of(model), model, x(5))


def other_with_gradients(m: Any, x: Tensor, y: Tensor) -> Tensor:
    return y.exp() if y.requires_grad else y.exp() * 1.0


def test_other_operations_with_gradients_are_refused() -> None:
    """By the line that asks; a closed module asks again at each call."""
    model = net(other_with_gradients)
    with pytest.raises(TraceError) as caught:
        program_of(model)
    message = str(caught.value)
    line = other_with_gradients.__code__.co_firstlineno + 1
    assert f"asks for .requires_grad in 0 (Adds) at test_traced.py:{line}" in message
    assert "move this code to a module without a residual addition" in message
    apart = net(other_with_gradients, Apart)
    program = program_of(apart)
    assert_equal(program, apart, x(5))
    with torch.no_grad():
        assert torch.equal(program(x(5)), apart(x(5)))


def _calls() -> int:
    """How often it was called, which is kept where nothing looks."""
    found = vars(sys.modules[__name__])
    found["_count"] = found.get("_count", 0) + 1
    return int(found["_count"])


class Flips(nn.Module):
    """Runs another operation at every other call, by what Python keeps outside of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        y = self.linear(x)
        return x + (y.relu() if _calls() % 2 else y.tanh())


def test_code_that_changes_from_call_to_call() -> None:
    with pytest.raises(TraceError, match=r"0 \(Flips\) runs (relu|tanh) in one forward pass and"):
        program_of(nn.Sequential(Flips(), nn.Linear(8, 3)))


class Returns(nn.Module):
    """Returns what a function makes."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.block, self.make = Adds(lambda m, x, y: y.relu()), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.block(x))


@dataclasses.dataclass
class Output:
    """What models of transformers return."""

    logits: Any
    hidden: Any = None


RETURNED: dict[str, Any] = {
    "a tuple": lambda y: (y, y.sum()),
    "a list": lambda y: [y, [y * 2]],
    "a dict": lambda y: {"logits": y, "n": 1},
    "a named tuple": lambda y: Pair(y, 2),
    "a dataclass": Output,
    "a dataclass in a tuple": lambda y: (Output(y, hidden=(y, None)), 1),
    "an ordered dict": lambda y: OrderedDict(out=y),
}


@pytest.mark.parametrize("name", RETURNED)
def test_what_models_return(name: str) -> None:
    model = Returns(RETURNED[name])
    program = program_of(model, x(2))
    found, expected = program(x(3)), model(x(3))
    assert type(found) is type(expected)
    torch.testing.assert_close(flat(found), flat(expected), rtol=0, atol=0)


def flat(value: Any) -> list[Any]:
    """The tensors and numbers in a structure."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, f.name) for f in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for v in value for leaf in flat(v)]
    return [] if value is None else [value]


class Result:
    """An object of a class of its own."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def test_objects_are_not_returned() -> None:
    """The remedy: a dataclass."""
    with pytest.raises(TraceError) as caught:
        program_of(Returns(Result))
    message = str(caught.value)
    assert message.startswith("the model (Returns)")
    assert "returns a Result, an object of a class of its own" in message
    assert message.endswith("return tensors, tuples, lists, dicts or dataclasses")


HELD = types.SimpleNamespace(scale=2.0)


class Settings:
    """Numbers on a class."""

    scale = 2.0

    @classmethod
    def of_class(cls) -> float:
        return cls.scale


ELSEWHERE: dict[str, tuple[Function, Any, tuple[Any, ...]]] = {
    "an object": (lambda m, x, y: y * HELD.scale, setattr, (HELD, "scale", 3.0)),
    "a class": (lambda m, x, y: y * Settings.scale, setattr, (Settings, "scale", 3.0)),
    "a method": (lambda m, x, y: y * Settings.of_class(), setattr, (Settings, "scale", 3.0)),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_read_elsewhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again, or guarded."""
    monkeypatch.setattr(Settings, "scale", 2.0)
    monkeypatch.setattr(HELD, "scale", 2.0)
    function, change, arguments = ELSEWHERE[name]
    model = net(function)
    program = program_of(model)
    change(*arguments)
    expected = model(x(5))
    try:
        found = program(x(5))
    except GuardError:
        return
    assert torch.equal(found, expected)
