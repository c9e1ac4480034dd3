"""Values that code reads of no module: of closures, classes, objects, the environment."""

import copy
import functools
import itertools
import os
import types
from array import array
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from os import environ
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport.errors import TraceError
from fxtransport.tracing.code_reads import Read, Root, reads_of
from fxtransport.watched import ATTRIBUTE, ITEM
from tests.tracing import blocks
from tests.tracing.blocks import Apart, Function, assert_equal, guarded, net, program_of, x


class Config:
    """Numbers on an object and on its class."""

    alpha: Any = 2.0

    def __init__(self) -> None:
        self.beta = 2.0
        self.inner = types.SimpleNamespace(gamma=[1.0, 2.0])

    @property
    def half(self) -> Any:
        return self.beta / 2

    def of_both(self) -> Any:
        return self.alpha * self.beta

    @classmethod
    def of_class(cls) -> Any:
        return cls.alpha

    @staticmethod
    def static() -> Any:
        return Config.alpha


class Easy(dict[str, Any]):
    """A dict whose entries are attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


CONFIG = Config()
EASY = Easy(scale=2.0)
TREE: dict[str, Any] = {"a": {"scale": [2.0, 3.0]}, "act": torch.tanh}
LARGE: dict[str, Any] = {str(i): float(i) for i in range(1000)}
ACT = torch.tanh
PARTIAL = functools.partial(F.leaky_relu, negative_slope=2.0)
QUEUE = deque([1, 2])
BYTES = bytearray(b"ab")
ARRAY = array("d", [2.0])
DECIMAL = Decimal(2)
TREE_OF_DEFAULT = {"a": 2.0}
SWITCH = types.SimpleNamespace(on=True)


MORE = ("QUEUE", "BYTES", "ARRAY", "DECIMAL")


class Described:
    """An attribute that a descriptor computes."""

    class Reads:
        """The descriptor."""

        def __get__(self, owner: Any, kind: Any = None) -> Any:
            return CONFIG.beta

    beta = Reads()


class Scales:
    """An object that is called."""

    def __init__(self) -> None:
        self.by = 2.0

    def __call__(self, y: Tensor) -> Tensor:
        return y * self.by


DESCRIBED = Described()
SCALES = Scales()


def aliased() -> Any:
    kind = Config
    return kind.alpha


def with_default(tree: Any = TREE_OF_DEFAULT) -> Any:
    return tree["a"]


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test finds the values as they are above."""
    for name in ("CONFIG", "EASY", "TREE", "LARGE", "ACT", "PARTIAL", "SWITCH", *MORE):
        monkeypatch.setitem(globals(), name, copy.deepcopy(globals()[name]))
    monkeypatch.setattr(Config, "alpha", 2.0)
    monkeypatch.setattr(blocks, "GAIN", 2.0, raising=False)
    monkeypatch.setitem(TREE_OF_DEFAULT, "a", 2.0)
    monkeypatch.setattr(SCALES, "by", 2.0)
    monkeypatch.setenv("SCALE", "2.0")


def helper() -> Any:
    return CONFIG.beta


def _set(owner: Callable[[], Any], name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner(), name, value)


def _put(owner: Callable[[], Any], key: Any, value: Any) -> Callable[[], None]:
    return lambda: owner().__setitem__(key, value)


ALPHA = _set(lambda: Config, "alpha", 3.0)
BETA = _set(lambda: CONFIG, "beta", 3.0)
READ: dict[str, tuple[Function, Callable[[], None], str]] = {
    "object": (lambda m, x, y: y * CONFIG.beta, BETA, "CONFIG.beta"),
    "inside": (
        lambda m, x, y: y * CONFIG.inner.gamma[1],
        _put(lambda: CONFIG.inner.gamma, 1, 3.0),
        "CONFIG.inner.gamma[1]",
    ),
    "property": (lambda m, x, y: y * CONFIG.half, BETA, "CONFIG.beta"),
    "method": (lambda m, x, y: y * CONFIG.of_both(), BETA, "CONFIG.beta"),
    "class by a method": (lambda m, x, y: y * CONFIG.of_both(), ALPHA, "alpha"),
    "class by an object": (lambda m, x, y: y * CONFIG.alpha, ALPHA, "CONFIG.alpha"),
    "class": (lambda m, x, y: y * Config.alpha, ALPHA, "Config.alpha"),
    "class method": (lambda m, x, y: y * Config.of_class(), ALPHA, "Config.alpha"),
    "static method": (lambda m, x, y: y * Config.static(), ALPHA, "Config.alpha"),
    "getattr": (lambda m, x, y: y * getattr(CONFIG, "be" + "ta"), BETA, "CONFIG.beta"),
    "dict": (
        lambda m, x, y: y * TREE["a"]["scale"][0],
        _put(lambda: TREE["a"]["scale"], 0, 3.0),
        "TREE['a']['scale'][0]",
    ),
    "dict by get": (
        lambda m, x, y: y * TREE.get("a", {})["scale"][0],
        _put(lambda: TREE["a"]["scale"], 0, 3.0),
        "TREE['a']['scale'][0]",
    ),
    "large dict": (lambda m, x, y: y * LARGE["7"], _put(lambda: LARGE, "7", 3.0), "LARGE['7']"),
    "large dict by a name": (
        lambda m, x, y: y * LARGE[str(x.dim() + 5)],
        _put(lambda: LARGE, "7", 3.0),
        "LARGE['7']",
    ),
    "easy dict": (lambda m, x, y: y * EASY.scale, _put(lambda: EASY, "scale", 3.0), "EASY"),
    "function in a dict": (
        lambda m, x, y: TREE["act"](y),
        _put(lambda: TREE, "act", torch.relu),
        "TREE['act']",
    ),
    "function by another name": (
        lambda m, x, y: ACT(y),
        lambda: globals().__setitem__("ACT", torch.relu),
        "ACT",
    ),
    "partial": (
        lambda m, x, y: PARTIAL(y),
        lambda: globals().__setitem__(
            "PARTIAL", functools.partial(F.leaky_relu, negative_slope=3.0)
        ),
        "PARTIAL",
    ),
    "flag": (lambda m, x, y: y.exp() if SWITCH.on else y, _set(lambda: SWITCH, "on", False), "on"),
    "in a function": (lambda m, x, y: y * helper(), BETA, "CONFIG.beta"),
    "in a lambda": (lambda m, x, y: (lambda z: z * CONFIG.beta)(y), BETA, "CONFIG.beta"),
    "in a loop": (lambda m, x, y: sum(y * CONFIG.beta for _ in range(2)), BETA, "CONFIG.beta"),
    "class by another name": (lambda m, x, y: y * aliased(), ALPHA, "Config.alpha"),
    "descriptor": (lambda m, x, y: y * DESCRIBED.beta, BETA, "CONFIG.beta"),
    "object that is called": (
        lambda m, x, y: SCALES(y),
        _set(lambda: SCALES, "by", 3.0),
        "SCALES.by",
    ),
    "default of an argument": (
        lambda m, x, y: y * with_default(),
        lambda: TREE_OF_DEFAULT.__setitem__("a", 3.0),
        "tree of with_default['a']",
    ),
    "module by a name": (
        lambda m, x, y: y * getattr(blocks, "gain".upper()),
        lambda: setattr(blocks, "GAIN", 3.0),
        "blocks.GAIN",
    ),
    "deque": (lambda m, x, y: y * sum(QUEUE), lambda: QUEUE.append(3), "QUEUE"),
    "bytes": (lambda m, x, y: y * BYTES[0], lambda: BYTES.__setitem__(0, 9), "BYTES"),
    "array": (lambda m, x, y: y * ARRAY[0], lambda: ARRAY.__setitem__(0, 9.0), "ARRAY"),
    "decimal": (
        lambda m, x, y: y * float(DECIMAL),
        lambda: globals().__setitem__("DECIMAL", Decimal(3)),
        "DECIMAL",
    ),
    "all of the environment": (
        lambda m, x, y: y.exp() if any(k == "NOT_SET" for k in os.environ) else y,
        _put(lambda: os.environ, "NOT_SET", "3.0"),
        "os.environ",
    ),
    "environ": (
        lambda m, x, y: y * float(os.environ["SCALE"]),
        _put(lambda: os.environ, "SCALE", "3.0"),
        "os.environ['SCALE']",
    ),
    "environ.get": (
        lambda m, x, y: y * float(environ.get("SCALE", "1")),
        _put(lambda: os.environ, "SCALE", "3.0"),
        "os.environ['SCALE']",
    ),
    "getenv": (
        lambda m, x, y: y * float(os.getenv("NOT_SET", "1")),
        _put(lambda: os.environ, "NOT_SET", "3.0"),
        "os.environ['NOT_SET']",
    ),
    "in environ": (
        lambda m, x, y: y.exp() if "NOT_SET" in os.environ else y,
        _put(lambda: os.environ, "NOT_SET", "3.0"),
        "os.environ['NOT_SET']",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_changes_is_guarded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it; the remedy is to compile again."""
    function, change, text = READ[name]
    model = net(function)
    program = program_of(model)
    assert_equal(program, model, x(5))
    monkeypatch.delenv("NOT_SET", raising=False)
    change()
    try:
        message = guarded(program, model, x(5))
        assert message.startswith("0 (Adds) reads ")
        assert text in message
        assert message.endswith("set it back, or compile again")
        assert_equal(program_of(model), model, x(5))
    finally:
        os.environ.pop("NOT_SET", None)


@pytest.mark.parametrize("name", READ)
def test_closed_modules_read_again(name: str) -> None:
    function, change, _ = READ[name]
    model = net(function, Apart)
    program = program_of(model)
    change()
    try:
        assert_equal(program, model, x(5))
    finally:
        os.environ.pop("NOT_SET", None)


def test_what_is_not_read_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(lambda m, x, y: y * CONFIG.inner.gamma[0] * LARGE["7"] + TREE["a"]["scale"][1])
    program = program_of(model)
    CONFIG.beta, CONFIG.inner.gamma[1], LARGE["8"], TREE["a"]["scale"][0] = 3.0, 3.0, 3.0, 3.0
    monkeypatch.setenv("SCALE", "4")
    assert_equal(program, model, x(5))


def closed_over(scale: Any) -> tuple[Function, Callable[[Any], None]]:
    """A function with a variable around it, and what sets that."""

    def function(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * scale

    def change(value: Any) -> None:
        nonlocal scale
        scale = value

    return function, change


def test_variables_of_closures() -> None:
    function, change = closed_over(2.0)
    _, other = closed_over(2.0)
    model = net(function)
    program = program_of(model)
    other(4.0)
    assert_equal(program, model, x(5))
    change(3.0)
    assert "scale of closed_over.<locals>.function" in guarded(program, model, x(5))
    assert "scale" in guarded(copy.deepcopy(program), model, x(5))
    assert_equal(program_of(model), model, x(5))


def test_variables_of_closures_that_are_called() -> None:
    function, change = closed_over(2.0)
    model = net(lambda m, x, y: function(m, x, y) * 2)
    program = program_of(model)
    assert_equal(program, model, x(5))
    change(3.0)
    assert "scale" in guarded(program, model, x(5))


class Block(nn.Module):
    """A residual block with a number on its class."""

    alpha: ClassVar[Any] = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return x + self.linear(x) * self.scale()

    def scale(self) -> Any:
        return type(self).alpha


class ByName(Block):
    """It is read by the name of a class."""

    def scale(self) -> Any:
        return Block.alpha


class ByClass(Block):
    """It is read of the class that the module says."""

    def scale(self) -> Any:
        return self.__class__.alpha


class ByCell(Block):
    """It is read of the class around the code."""

    def scale(self) -> Any:
        return __class__.alpha  # type: ignore[name-defined]


class ByClassMethod(Block):
    """It is read by a method of the class."""

    @classmethod
    def scale(cls) -> Any:
        return cls.alpha


class BySuper(ByCell):
    """It is read by the method of a base class."""

    def scale(self) -> Any:
        return super().scale()


class ByItself(Block):
    """It is read as an attribute."""

    def scale(self) -> Any:
        return self.alpha


class ByProperty(Block):
    """It is read by a property."""

    @property
    def kind(self) -> Any:
        return type(self).alpha

    def scale(self) -> Any:
        return self.kind


@pytest.mark.parametrize(
    "kind", [Block, ByName, ByClass, ByCell, ByClassMethod, BySuper, ByItself, ByProperty]
)
def test_attributes_of_classes_of_modules(
    kind: type[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(kind(), kind(), nn.Linear(8, 3))
    program = program_of(model)
    assert_equal(program, model, x(5))
    monkeypatch.setattr(Block, "alpha", 3.0)
    if kind in (ByItself, ByProperty):
        assert_equal(program, model, x(5))  # read again
        return
    assert "alpha" in guarded(program, model, x(5))
    assert_equal(program_of(model), model, x(5))


def test_each_part_has_the_guards() -> None:
    """Also of what only another part's module read first."""
    model = net(lambda m, x, y: y * CONFIG.beta)
    program = program_of(model, modules=2)
    alone = copy.deepcopy(program.parts[1])
    hidden = program.parts[0](x(5)).hidden
    expected = alone(hidden).hidden
    assert torch.equal(program.parts[1](hidden).hidden, expected)
    CONFIG.beta = 3.0
    for part in (program.parts[1], alone):
        with pytest.raises(ValueError, match=r"CONFIG\.beta"):
            part(hidden)


@functools.lru_cache(maxsize=4)
def _table(n: int) -> Tensor:
    return torch.arange(n).float()


TABLE = _table


def test_a_cached_function_by_another_name() -> None:
    model = net(lambda m, x, y: y * TABLE(8))
    assert_equal(program_of(model), model, x(5))


COUNTER = types.SimpleNamespace(calls=0)


def count(m: Any, x: Tensor, y: Tensor) -> Tensor:
    COUNTER.calls += 1
    return y * COUNTER.calls


def test_what_forward_changes_is_refused() -> None:
    before = COUNTER.calls
    with pytest.raises(TraceError, match=r"0 \(Adds\) changes .*COUNTER\.calls in forward"):
        program_of(net(count), verify=False)
    COUNTER.calls = before


COUNTS = itertools.count()


def test_iterators_are_refused() -> None:
    """They go on from call to call."""
    with pytest.raises(TraceError, match=r"reads an iterator, .*COUNTS in forward"):
        program_of(net(lambda m, x, y: y * next(COUNTS)))
    with pytest.raises(TraceError, match=r"0 \(Adds\) at .* reads self\.counts, a count"):
        program_of(net(lambda m, x, y: y * next(m.counts), counts=COUNTS))


def test_globals_by_globals_are_refused() -> None:
    words = r"0 \(Adds\) at .* looks up global variables by globals\(\)"
    with pytest.raises(TraceError, match=words):
        program_of(net(lambda m, x, y: y * globals()["TREE"]["a"]["scale"][0]))


def reading(self: Any, key: Any, other: Any = None) -> Any:
    CONFIG = other  # noqa: N806
    return type(self).a, self.__class__.b, TREE["a"][key], TREE["b"], blocks.WIDTH, CONFIG.c


def test_what_is_read() -> None:
    found = reads_of(reading.__code__)
    assert Read(Root.TYPE, "self", ((ATTRIBUTE, "a"),)) in found
    assert Read(Root.FIRST, "self", ((ATTRIBUTE, "__class__"), (ATTRIBUTE, "b"))) in found
    assert Read(Root.GLOBAL, "TREE", ((ITEM, "a"),)) in found
    assert Read(Root.GLOBAL, "TREE", ((ITEM, "b"),)) in found
    assert Read(Root.GLOBAL, "blocks", ((ATTRIBUTE, "WIDTH"),)) in found
    assert not any(read.name == "CONFIG" for read in found)
