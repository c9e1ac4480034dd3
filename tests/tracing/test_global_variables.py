"""Global variables that traced code reads: guarded, where they are plain."""

import copy
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import GuardError
from tests.tracing import blocks
from tests.tracing.blocks import Apart, Function, assert_equal, guarded, net, program_of, x

HERE = sys.modules[__name__]
FACTOR, COUNT, NAME, FLAG, CHOICES = 2.0, 3, "relu", True, {"relu", "tanh"}
SIZES, POWERS, OPTIONS = (2, 4), [1, 2], {"scale": 0.5, "on": True}
UNUSED = 1


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test finds the variables as they are above."""
    for name, value in vars(HERE).items():
        if name.isupper() and name not in ("HERE", "READ"):
            monkeypatch.setattr(HERE, name, copy.copy(value))


def scaled(y: Tensor) -> Tensor:
    """A function that reads a variable and computes."""
    return y * FACTOR


def is_on() -> bool:
    """A function that reads a variable, and computes nothing."""
    return FLAG


READ: dict[str, tuple[Function, str, Any]] = {
    "a float": (lambda m, x, y: y * FACTOR, "FACTOR", 3.0),
    "a number of another type": (lambda m, x, y: y * FACTOR, "FACTOR", 2),
    "an integer": (lambda m, x, y: sum([y.tanh()] * COUNT), "COUNT", 4),
    "a text": (lambda m, x, y: getattr(y.exp(), NAME)(), "NAME", "tanh"),
    "a flag": (lambda m, x, y: y.exp() if FLAG else y.tanh(), "FLAG", False),
    "a tuple": (lambda m, x, y: y.view(-1, *SIZES).flatten(1), "SIZES", (4, 2)),
    "a list": (lambda m, x, y: y.mul(sum(POWERS)), "POWERS", [1, 3]),
    "a set": (lambda m, x, y: y.relu() if "relu" in CHOICES else y.exp(), "CHOICES", {"tanh"}),
    "a dict": (lambda m, x, y: y * OPTIONS["scale"], "OPTIONS", {"scale": 1.0, "on": True}),
    "in a function": (lambda m, x, y: scaled(y), "FACTOR", 3.0),
    "in a function in a loop": (lambda m, x, y: sum(scaled(y) for _ in range(2)), "FACTOR", 3.0),
}


@pytest.mark.parametrize("name", READ)
def test_what_changes_is_guarded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable; set back, the program runs again."""
    function, variable, value = READ[name]
    model = net(function)
    program = program_of(model)
    assert_equal(program, model, x(5))
    with monkeypatch.context() as changes:
        changes.setattr(HERE, variable, value)
        message = guarded(program, model, x(5))
        assert message.startswith(f"0 (Adds) reads {__name__}.{variable}")
        assert message.endswith("set it back, or compile again")
        assert_equal(program_of(model), model, x(5))
    assert_equal(program, model, x(5))


def test_what_changes_in_a_container_is_named() -> None:
    model = net(lambda m, x, y: y * OPTIONS["scale"])
    program = program_of(model)
    OPTIONS["scale"] = 1.5
    words = "OPTIONS['scale'], which was 0.5 when the program was compiled and is 1.5 now"
    assert words in guarded(program, model, x(5))


def test_what_is_deleted_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(net(lambda m, x, y: y * FACTOR))
    monkeypatch.delattr(HERE, "FACTOR")
    with pytest.raises(GuardError, match=r"FACTOR, which was 2\.0 .* and is missing now"):
        program(x(5))


def test_what_is_not_read_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(lambda m, x, y: y * FACTOR)
    program = program_of(model)
    monkeypatch.setattr(HERE, "UNUSED", 2)
    monkeypatch.setattr(HERE, "COUNT", 4)
    assert_equal(program, model, x(5))


def test_a_closed_module_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy for what must change: its code is not in the graph."""
    model = net(lambda m, x, y: y * FACTOR if is_on() else y, Apart)
    program = program_of(model)
    monkeypatch.setattr(HERE, "FACTOR", 3.0)
    assert_equal(program, model, x(5))
    monkeypatch.setattr(HERE, "FLAG", False)
    assert_equal(program, model, x(5))


def test_a_copy_has_the_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(lambda m, x, y: y * FACTOR)
    program = copy.deepcopy(program_of(model))
    assert_equal(program, model, x(5))
    monkeypatch.setattr(HERE, "FACTOR", 3.0)
    assert "FACTOR" in guarded(program, model, x(5))


def test_a_function_that_only_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(lambda m, x, y: y.exp() if is_on() else y.tanh())
    program = program_of(model)
    monkeypatch.setattr(HERE, "FLAG", False)
    assert "FLAG" in guarded(program, model, x(5))


SOURCE = """
scale = 2.0

def scaled(y):
    return y * scale
"""


@pytest.fixture
def settings() -> Iterator[Any]:
    """A module of Python, of the name ``settings``."""
    made = types.ModuleType("settings")
    exec(compile(SOURCE, "settings.py", "exec"), vars(made))
    with pytest.MonkeyPatch.context() as patches:
        patches.setitem(sys.modules, "settings", made)
        yield made


class Settings(nn.Module):
    """A residual block with a name that decides, and a function of another module of Python."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.linear, self.function, self.scale = nn.Linear(8, 8), function, "exp"

    def forward(self, x: Tensor) -> Any:
        y = self.function(self.linear(x).relu())
        return x + getattr(y, self.scale)()


class Model(nn.Module):
    """Its block has the name of that module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.settings = Settings(function)

    def forward(self, x: Tensor) -> Any:
        return self.settings(x)


def test_variables_of_other_files(settings: Any) -> None:
    model = Model(settings.scaled)
    program = program_of(model)
    assert_equal(program, model, x(5))
    settings.scale = 3.0
    assert "settings (Settings) reads settings.scale" in guarded(program, model, x(5))


def test_where_the_code_is_not_imported_nothing_is_compared(settings: Any) -> None:
    """As in another process, that has loaded the program."""
    program = program_of(Model(settings.scaled))
    expected = program(x(5))
    del sys.modules["settings"]
    assert torch.equal(program(x(5)), expected)


def test_a_variable_and_an_attribute_of_one_name(settings: Any) -> None:
    program = program_of(Model(settings.scaled))
    block: Any = program.get_submodule("settings")
    block.scale = "tanh"
    with pytest.raises(GuardError, match=r"reads self\.scale"):
        program(x(5))


def test_attributes_of_imported_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(lambda m, x, y: y * blocks.WIDTH)
    program = program_of(model)
    monkeypatch.setattr(blocks, "WIDTH", 9)
    assert "WIDTH" in guarded(program, model, x(5, 8))


class Absent:
    """Stands for a package that is not installed: whatever is asked of it raises."""

    def __getattr__(self, name: str) -> Any:
        raise ImportError(f"no module has {name}")

    def __call__(self, *_: Any) -> Any:
        raise ImportError("no module is called")


ABSENT = Absent()


def test_objects_that_raise_for_whatever_they_are_asked() -> None:
    """As libraries leave them where a package that they may use is missing."""
    local = Absent()

    class Block(nn.Module):
        absent = Absent()

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            if ABSENT is None or local is None or self.absent is None:
                ABSENT.use(x)
                local(x)
            return x + self.linear(x)

    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
    assert_equal(program_of(model), model, x())
