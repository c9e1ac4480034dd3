"""A copy of a module is the deep copy, down to which objects are shared."""

import copy
from collections import OrderedDict
from types import MethodType
from typing import Any

import pytest
import timm
import torch
from torch import nn

from fxtransport.module_copies import copy_module, is_plain


class Own(nn.Linear):
    """Says itself how it is copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Own":
        made = Own(self.in_features, self.out_features)
        memo[id(self)] = made
        made.load_state_dict(self.state_dict())
        return made


class Restored(nn.Linear):
    """Looks at its submodules when its state is set."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.inner = nn.Linear(3, 4)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.width = self.inner.out_features


class Slotted(nn.Module):
    """Has an attribute outside of its dictionary."""

    __slots__ = ("width",)

    def __init__(self) -> None:
        super().__init__()
        self.width = [3]


class Holder(nn.Module):
    """Holds objects that hold one another, and that others hold."""

    def __init__(self) -> None:
        super().__init__()
        shared: dict[Any, Any] = {}
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        self.again = self.a
        self.b.weight = self.a.weight
        self.a.cache, self.b.cache = shared, shared  # type: ignore[assignment]
        self.shapes = [(1, 2), {"x": (self.a, [self.b])}, {3}]
        self.bound = MethodType(nn.Linear.forward, self.b)
        self.parent = [self]
        self.ordered = OrderedDict([((1, "k"), [4]), ("me", self)])
        self.function, self.kind, self.dtype = torch.relu, int, torch.float32
        self.twin = copy.copy(self.a)


def shape_of(root: Any) -> list[Any]:
    """What can be reached from an object, with a number for each that is met twice."""
    numbers: dict[int, int] = {}
    found: list[Any] = []

    def walk(value: Any) -> None:
        if isinstance(value, int | float | str | type | torch.dtype) or value is None:
            found.append(value)
            return
        is_new = id(value) not in numbers
        found.append((type(value), numbers.setdefault(id(value), len(numbers))))
        if isinstance(value, torch.Tensor):
            found.append((value.shape, value.requires_grad, value.sum().item()))
        elif is_new:
            for inner in inside(value):
                walk(inner)

    walk(root)
    return found


def inside(value: Any) -> list[Any]:
    """What an object holds."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set):
        return list(value)
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, nn.Module):
        return [vars(value), getattr(value, "width", None)]
    return []


MODULES = {
    "holder": Holder,
    "own": lambda: nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.ReLU()),
    "restored": lambda: nn.Sequential(Restored(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
    "slotted": lambda: nn.Sequential(Slotted(), Slotted()),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2),
    "recurrent": lambda: nn.LSTM(4, 4),
    "vit": lambda: timm.create_model("test_vit"),
    "resnet": lambda: timm.create_model("test_resnet"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_copy_is_the_deep_copy(name: str) -> None:
    module = MODULES[name]()
    made = copy_module(module, {})
    assert shape_of(made) == shape_of(copy.deepcopy(module))
    inside = {id(m) for m in module.modules()}
    assert not any(id(m) in inside for m in made.modules())
    held = {id(t) for t in module.parameters()}
    assert not any(id(t) in held for t in made.parameters())


def test_what_is_copied_already_is_taken() -> None:
    module, other = nn.Linear(2, 2), nn.Parameter(torch.zeros(2, 2, device="meta"))
    assert copy_module(module, {id(module.weight): other}).weight is other


def test_which_classes_are_plain() -> None:
    assert all(map(is_plain, (nn.Linear, nn.Conv2d, nn.MultiheadAttention, Holder)))
    assert not any(map(is_plain, (Own, Restored, Slotted)))
