"""Pictures of attributes, and what is said of those that changed."""

import copy
import dataclasses
import enum
import functools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fxtransport.errors import GuardError
from fxtransport.watched import MISSING, SIZE, Camera, Watched, check_watched, snapshot


class Mode(enum.Enum):
    """Two modes."""

    FAST = "fast"
    SLOW = "slow"


@dataclasses.dataclass
class Config:
    """A configuration with containers inside."""

    norm_first: bool = True
    scale: float = 0.5
    mode: Mode = Mode.FAST
    rope: dict[str, Any] = dataclasses.field(default_factory=lambda: {"theta": [1, 2]})
    act: Any = torch.relu


class Slots:
    """Keeps its attributes in slots."""

    __slots__ = ("one", "two")

    def __init__(self, one: int) -> None:
        self.one = one


class Bound(nn.Module):
    """Hands out a method."""

    def method(self) -> None:
        """Does nothing."""


def cyclic(value: int) -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = [value]
    found.append(found)
    return found


PAIRS: list[tuple[Any, Any]] = [
    (1, 2),
    (1, 1.0),
    (True, 1),
    (None, 0),
    ("a", "b"),
    (Mode.FAST, Mode.SLOW),
    (torch.float32, torch.float64),
    (torch.device("cpu"), torch.device("meta")),
    (torch.Size([1, 2]), torch.Size([1, 3])),
    (torch.Size([1, 2]), (1, 2)),
    ((1, 2), (1, 2.0)),
    ([1, 2], [1, 2, 3]),
    ({"a": 1}, {"a": 2}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1, 2}, {1, 3}),
    ({(1, "a")}, {(1, "b")}),
    (math.nan, 1.0),
    (Config(), Config(scale=0.6)),
    (Config(), Config(rope={"theta": [1, 3]})),
    (Config(), Config(act=torch.sigmoid)),
    (Slots(1), Slots(2)),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (np.arange(3), np.arange(1, 4)),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    (nn.ReLU(), nn.GELU()),
    (Bound().method, nn.ReLU().forward),
    (torch.relu, torch.sigmoid),
    (nn.ReLU, nn.GELU),
    (cyclic(1), cyclic(2)),
    (slice(1, 2), slice(1, 3)),
]


@pytest.mark.parametrize(("value", "other"), PAIRS, ids=range(len(PAIRS)))
def test_a_picture_is_that_of_a_copy_and_not_of_another(value: Any, other: Any) -> None:
    """Also after the picture itself was copied and pickled."""
    taken = snapshot(value)
    assert snapshot(copy.deepcopy(value)) == taken
    assert copy.deepcopy(taken) == pickle.loads(pickle.dumps(taken)) == taken
    found = snapshot(other)
    assert type(found) is not type(taken) or found != taken


def test_tensors_and_modules_may_change() -> None:
    """What they are is guarded elsewhere, and what they hold is not frozen."""
    assert snapshot([torch.zeros(2), nn.Linear(2, 2)]) == snapshot([torch.ones(3), nn.Linear(3, 3)])


def test_large_and_deep_values_are_looked_at_in_part() -> None:
    """Not for ever."""
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep, deep]
    assert snapshot(deep) == snapshot(copy.copy(deep))
    large = list(range(2 * SIZE))
    assert snapshot(large) != snapshot(large[1:])
    assert len(snapshot(large).items) == SIZE


class Block(nn.Module):
    """Reads flags and a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_first = True
        self.config = Config()
        self.sizes = (1, 2)


def watch(block: nn.Module, *names: str) -> list[Watched]:
    """What was read of a block."""
    live = [getattr(block, name, MISSING) for name in names]
    return [Watched("b.0", n, snapshot(x)) for n, x in zip(names, live, strict=True)]


def test_what_changed_is_named() -> None:
    block = Block()
    watched = watch(block, "norm_first", "config", "sizes", "extra")
    check_watched(watched, block, Camera())
    changes: list[tuple[str, Any, str]] = [
        ("norm_first", False, r"self\.norm_first, which was True .* and is False now"),
        ("norm_first", 1, r"self\.norm_first, which was True .* and is 1 now"),
        ("config", Config(scale=2.0), r"self\.config\.scale, which was 0\.5 .* and is 2\.0"),
        (
            "config",
            Config(rope={"theta": [1, 5]}),
            r"self\.config\.rope\['theta'\]\[1\], which was 2 .* and is 5 now",
        ),
        (
            "config",
            Config(rope={}),
            r"self\.config\.rope, which was \{'theta': .* is \{\} now",
        ),
        ("config", None, r"self\.config, which was a Config .* is None now"),
        ("sizes", [1, 2], r"self\.sizes, which was \(1, 2\) .* is \[1, 2\] now"),
        ("extra", 3, r"self\.extra, which was missing .* is 3 now"),
    ]
    for name, value, words in changes:
        changed = copy.deepcopy(block)
        setattr(changed, name, value)
        with pytest.raises(GuardError, match=rf"^b\.0 \(Block\) reads {words}"):
            check_watched(watched, changed, Camera())
    del block.norm_first
    with pytest.raises(GuardError, match=r"is missing now; set it back, or compile again"):
        check_watched(watched, block, Camera())


def test_values_of_one_spelling_are_told_apart() -> None:
    """Two classes of one name, and objects that do not say what they hold."""
    block = Block()
    block.config = type("Config", (), {})()
    watched = watch(block, "config")
    block.config = type("Config", (), {})()
    with pytest.raises(GuardError, match=r"which was a Config of Config .* is one of Config now"):
        check_watched(watched, block, Camera())


def test_a_shared_object_is_looked_at_once() -> None:
    """However many blocks read one configuration."""
    looked: list[int] = []

    class Counting:
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            looked.append(1)
            return {"a": 1}

    blocks = [Block() for _ in range(5)]
    shared = Counting()
    for block in blocks:
        block.config = shared  # type: ignore[assignment]
    watched = [watch(block, "config") for block in blocks]
    looked.clear()
    camera = Camera()
    for entries, block in zip(watched, blocks, strict=True):
        check_watched(entries, block, camera)
    assert len(looked) == 1
