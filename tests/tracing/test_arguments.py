"""What traced code hands to calls, and returns: represented, or refused by its kind."""

import dataclasses
import enum
import functools
from collections import OrderedDict, namedtuple
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tracing.blocks import (
    Apart,
    Function,
    assert_equal,
    check,
    net,
    program_of,
    refused,
    remedied,
    x,
)


@dataclasses.dataclass
class Config:
    """A configuration with a container in it."""

    scale: float = 2.0
    rope: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rope.setdefault("theta", 1)


class Mode(enum.Enum):
    """Two modes."""

    HALF = 0.5
    TWICE = 2.0


Pair = namedtuple("Pair", "first second")


class Typed(NamedTuple):
    """A pair with types."""

    first: Any
    second: Any = None


def scaled(config: Config, x: Tensor) -> Tensor:
    return x * config.scale if x.shape[1] > 1 else x


def twice(x: Tensor) -> Tensor:
    return x * 2


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


wrapped = decorated(scaled)


class Takes(nn.Module):
    """A closed module that is given anything."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return sum(self.of(leaf) for leaf in (*args, *kwargs.values()))

    def of(self, value: Any) -> Any:
        match value:
            case dict():
                return sum(self.of(v) for v in value.values())
            case list() | tuple() | set() | frozenset():
                return sum(self.of(v) for v in value)
            case Mode():
                return value.value
            case Output():
                return self.of([value.logits, value.hidden])
            case Config():
                return value.scale
            case slice():
                return (value.start or 1) + (value.stop or 2)
            case type():
                return len(value.__name__)
            case _ if callable(value):
                return value(torch.ones(8))
            case str() | None | torch.dtype() | torch.device():
                return len(str(value))
        return value


GIVEN: dict[str, Any] = {
    "a dict": lambda x, y: {"a": y, "b": [x, (y, 1.0)]},
    "an ordered dict": lambda x, y: OrderedDict(a=y, b=x),
    "a named tuple": lambda x, y: Pair(y, x.shape[0]),
    "a typed tuple": lambda x, y: Typed(first=y),
    "a list that grows": lambda x, y: [y] + [x] * 2,
    "an enum": lambda x, y: [y, Mode.TWICE],
    "a dataclass": lambda x, y: [y, Output(x, hidden=[1, {"a": y}])],
    "a set": lambda x, y: [y, {1, 2}, frozenset((3,))],
    "a slice": lambda x, y: [y, slice(1, 8)],
    "a function": lambda x, y: [y, twice, nn.functional.softplus.__name__],
    "a builtin function": lambda x, y: [y, torch.tanh],
    "a method": lambda x, y: [y, Tensor.sum],
    "a lambda": lambda x, y: [y, lambda z: z * 2],
    "a class": lambda x, y: [y, int],
    "None and names": lambda x, y: [y, None, "name", torch.float32],
    "sizes": lambda x, y: [y, x.shape[0], x.shape, {"n": len(x)}],
    "a device": lambda x, y: [y, x.dtype],
    "numbers of numpy": lambda x, y: [y, np.int64(2), np.float32(0.5), np.bool_(True)],
    "what is made of it": lambda x, y: [y, range(3)[1], 1j.imag, True],
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_modules_are_given(name: str) -> None:
    make = GIVEN[name]
    check(lambda m, x, y: y * m.takes(make(x, y)), takes=Takes())
    check(lambda m, x, y: y * m.takes(first=make(x, y)), takes=Takes())


FAULTS: dict[str, Any] = {
    "a dataclass that changes a dict": lambda x, y: [y, Config(3.0)],
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_modules_are_given_too(name: str) -> None:
    make = FAULTS[name]
    check(lambda m, x, y: y * m.takes(make(x, y)), takes=Takes())


@pytest.mark.parametrize("function", [scaled, wrapped])
def test_functions_are_given_dataclasses(function: Any) -> None:
    """As decorated functions of transformers are, that decide by shapes."""
    model = net(lambda m, x, y: m.function_of(config=m.config, x=y), config=Config())
    for path in ("0", "1"):
        model.get_submodule(path).function_of = function
    assert_equal(program_of(model), model, x(5))


class Net(nn.Module):
    """A decorated function by its name, and a dataclass of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.config = nn.Linear(8, 8), Config()

    def forward(self, x: Tensor) -> Any:
        x = wrapped(config=self.config, x=x)
        return x + self.linear(x).relu()


def test_functions_are_found_by_name() -> None:
    model = Net()
    assert_equal(program_of(model), model, x(5))


# -- what is refused -----------------------------------------------------------------------------


@dataclasses.dataclass
class Output:
    """What models of transformers return."""

    logits: Any
    hidden: Any = None


class Result:
    """An object of a class of its own."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def test_objects_are_not_handed_on() -> None:
    class Reads(nn.Module):
        def forward(self, result: Any) -> Any:
            return result.logits

    def branch(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.reads(Result(y))

    def dataclass(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.reads(Output(y))

    words = "hands on a Result, an object of a class of its own"
    assert "use tensors, tuples, lists, dicts" in refused(branch, words, reads=Reads())
    check(dataclass, reads=Reads())


TABLE = torch.linspace(0, 1, 8)


def test_global_tensors() -> None:
    """The remedies: a buffer, and a closed module."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * TABLE

    remedied(branch, "uses a tensor that no operation of the graph makes", "make it a buffer")
    model = net(lambda m, x, y: y * m.table)
    for path in ("0", "1"):
        model.get_submodule(path).register_buffer("table", TABLE)
    assert_equal(program_of(model), model, x(5))


NUMPY: dict[str, tuple[Function, str]] = {
    "from_numpy": (lambda m, x, y: y * torch.from_numpy(np.ones(8, "float32")), "numpy"),
    "tensor": (lambda m, x, y: y * torch.tensor(np.ones(8, "float32")), "numpy"),
    "as_tensor": (lambda m, x, y: y * torch.as_tensor(np.ones(8, "float32")), "numpy"),
}


@pytest.mark.parametrize("name", NUMPY)
def test_arrays_of_numpy(name: str) -> None:
    """Represented, or refused by their name; a buffer is the remedy, and a closed module."""
    function, words = NUMPY[name]
    message = refused(function, words)
    assert "make it a buffer of a module" in message
    model = net(function, Apart)
    assert_equal(program_of(model), model, x(5))


def test_modules_that_are_not_registered() -> None:
    """The remedy: an nn.ModuleList."""
    layers = [nn.PReLU(), nn.PReLU()]

    class User(nn.Module):
        def forward(self, x: Tensor, layer: nn.Module) -> Any:
            return layer(x)

    def branch(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.user(y, m.held[0])

    words = "uses a PReLU that is not a submodule"
    message = refused(branch, words, user=User(), held=layers)
    assert "register it, for example in an nn.ModuleList" in message
    check(branch, user=User(), held=nn.ModuleList(layers))


def test_functions_that_hold_tensors() -> None:
    """The remedy: arguments."""

    class Calls(nn.Module):
        def forward(self, x: Tensor, function: Any, *args: Any) -> Any:
            return function(x, *args)

    def closure(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.calls(y, lambda z: z * x.mean())

    def times(z: Tensor, by: Tensor) -> Tensor:
        return z * by

    def argument(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.calls(y, times, x.mean())

    words = "a function that holds tensors or modules of the code around it"
    assert "give it what it needs as arguments" in refused(closure, words, calls=Calls())
    check(argument, calls=Calls())
    check(lambda m, x, y: m.calls(y, twice), calls=Calls())
