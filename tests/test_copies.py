"""Copies of models: exact, also of what Python does not copy, or refused by a path."""

import copy
import io
import math
import sys
import threading
import types
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.copies import copied_wholly, copy_model
from fxtransport.errors import TraceError
from tests.tracing.blocks import Adds, Function, assert_same, net, program_of, x


class Uncopied:
    """Refuses to be copied."""

    def __init__(self, error: type[Exception] = TypeError) -> None:
        self.error = error

    def __deepcopy__(self, memo: object) -> Any:
        raise self.error("not me")


def with_history() -> Tensor:
    return torch.ones(8, requires_grad=True) * 2


HELD: dict[str, Any] = {
    "a lock": threading.Lock,
    "a lock of the thread": threading.RLock,
    "a module": lambda: math,
    "an open file": lambda: sys.__stderr__,
    "a stream": io.StringIO,
    "a generator": torch.Generator,
    "a lambda": lambda: lambda y: y,
    "a weak reference": lambda: weakref.ref(nn.Linear),
    "a tensor with a history": with_history,
    "a stream of bytes": lambda: io.BytesIO(b"0"),
}
PLACES: dict[str, Any] = {
    "attribute": lambda made: made,
    "object": lambda made: types.SimpleNamespace(held=made),
    "list": lambda made: [1, {"held": made}],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HELD)
def test_what_models_hold(name: str, place: str) -> None:
    """It compiles, and is used by nobody."""
    model = net(lambda m, x, y: y.relu())
    model[0].held = PLACES[place](HELD[name]())  # type: ignore[index]
    copied: Any = copy_model(model)
    assert type(copied[0].held) is type(model[0].held)  # type: ignore[index]
    with copied_wholly():
        program = program_of(model)
        copy.deepcopy(program)
        copy.deepcopy(program.parts[0])
    assert torch.equal(program(x(5)), model.train(program.training)(x(5)))


@pytest.mark.parametrize("error", [TypeError, RuntimeError, NotImplementedError])
@pytest.mark.parametrize(
    ("place", "words"),
    [("attribute", "held"), ("object", "held.held"), ("list", "held[1]['held']")],
)
def test_what_cannot_be_copied_is_named(place: str, words: str, error: Any) -> None:
    model: Any = net(lambda m, x, y: y.relu())
    model[1].held = PLACES[place](Uncopied(error))
    with pytest.raises(TraceError) as caught:
        copy_model(model)
    message = str(caught.value)
    assert message.startswith(f"self.{words} of 1 (Adds), a Uncopied, cannot be copied")
    assert f"{error.__name__}: not me" in message
    assert message.endswith("give its class a __deepcopy__ method, or make it outside of the model")


def test_generators_of_python_are_named() -> None:
    """A copy could not run them without taking from the model's."""
    model: Any = net(lambda m, x, y: y.relu())
    model[1].held = (i for i in range(3))
    with pytest.raises(TraceError, match=r"self\.held of 1 \(Adds\), a generator, cannot be cop"):
        copy_model(model)


def test_tensors_keep_what_they_are() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(2))
    model.held = types.SimpleNamespace(tensor=with_history(), weight=model.weight)
    copied: Any = copy_model(model)
    assert copied.held.weight is copied.weight
    assert copied.held.tensor.requires_grad
    assert copied.held.tensor.is_leaf
    assert torch.equal(copied.held.tensor, model.held.tensor)  # type: ignore[union-attr]


def test_a_stashed_tensor_is_read() -> None:
    """As code leaves it in an object of its own."""
    model: Any = net(lambda m, x, y: y * m.held.tensor)
    for block in list(model)[:2]:
        block.held = types.SimpleNamespace(tensor=with_history())
    with copied_wholly():
        program = program_of(model)
    assert torch.equal(program.eval()(x(5)), model.eval()(x(5)))


class Noisy(nn.Module):
    """A residual block that draws from a generator of its own."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(8, 8), function
        self.g = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Any:
        return x + self.function(self, x, self.linear(x))


DRAWS: dict[str, Function] = {
    "rand": lambda m, x, y: y * torch.rand(x.shape[0], 8, generator=m.g),
    "where": lambda m, x, y: torch.where(torch.rand(y.shape, generator=m.g) < 0.5, y, x),
    "in place": lambda m, x, y: y * torch.empty_like(y).bernoulli_(0.5, generator=m.g),
    "in train": lambda m, x, y: y * torch.randn(8, generator=m.g) if m.training else y,
    "twice": lambda m, x, y: torch.normal(y, 1.0, generator=m.g) + torch.randn(8, generator=m.g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_generators_of_modules(name: str) -> None:
    """Numbers are the model's, and so is the state after."""
    model = nn.Sequential(Noisy(DRAWS[name]), Adds(DRAWS["rand"], g=torch.Generator()))
    with copied_wholly():
        other = copy.deepcopy(model)
        program = program_of(model)
        again = copy.deepcopy(program)
    for training in (True, False):
        for each in (other, program, again):
            each.train(training)
        for batch in (3, 5):
            expected = other(x(batch))
            assert torch.equal(program(x(batch)), expected)
            assert torch.equal(again(x(batch)), expected)
        states = [each[0].g.get_state() for each in (other, program._model[0], again._model[0])]
        assert all(torch.equal(states[0], state) for state in states)


@pytest.mark.parametrize("seed", [3, 0x5EED])
def test_a_generator_that_forward_seeds_is_refused(seed: int) -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        m.g.manual_seed(seed)
        return y * torch.rand(8, generator=m.g)

    with pytest.raises(TraceError, match=r"0 \(Noisy\) at .* sets the state of self\.g of 0"):
        program_of_generators(nn.Sequential(Noisy(branch)))


def test_a_generator_elsewhere_is_refused() -> None:
    g = torch.Generator()
    with pytest.raises(TraceError, match=r"draws from a torch\.Generator of its own"):
        program_of_generators(nn.Sequential(Noisy(lambda m, x, y: y * torch.rand(8, generator=g))))


def program_of_generators(model: nn.Module) -> Any:
    with copied_wholly():
        return program_of(model)


def test_compiling_copies_by_itself() -> None:
    """The user does nothing for it."""
    assert_same(net(lambda m, x, y: y.relu()), x(3))
