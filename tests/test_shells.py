"""Modules that a part holds in part."""

import copy

import pytest
import torch
from torch import nn

from fxtransport.lowered import Function, LoweredPart
from fxtransport.shells import (
    Root,
    Shell,
    detach,
    mount,
    placeholder,
    placeholders,
    shells_in,
)


class Inner(nn.Module):
    """Two layers, a buffer and a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.two = nn.Linear(2, 2)
        self.register_buffer("table", torch.zeros(3))
        self.alpha = 0.5


class Outer(nn.Module):
    """A module around it, with a parameter of its own, named as a method of modules is."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.last = nn.Linear(2, 1)
        self.scale = nn.Parameter(torch.ones(2))
        self.count = 3


def lowered(*owned: str, opened: tuple[str, ...] = ()) -> LoweredPart:
    """A part's needs, without a function."""
    return LoweredPart(Function(lambda: None, "", ()), owned, opened)


def held(model: nn.Module, *owned: str, opened: tuple[str, ...] = ()) -> nn.Module:
    """What holds some of a model."""
    part = nn.Module()
    mount(part, model, lowered(*owned, opened=opened))
    return part


def test_only_what_is_owned_is_held() -> None:
    model = Outer()
    part = held(model, "inner.one", "inner.table", "scale")
    assert {name for name, _ in part.named_parameters()} == {
        "inner.one.weight",
        "inner.one.bias",
        "scale",
    }
    assert [name for name, _ in part.named_buffers()] == ["inner.table"]
    assert part.get_submodule("inner.one") is model.inner.one
    shell = part.get_submodule("inner")
    assert isinstance(shell, Shell)
    assert shell.table is model.inner.table
    assert list(shells_in(part)) == [shell]


def test_plain_attributes_are_the_modules() -> None:
    model = Outer()
    shell = held(model, "inner.one").get_submodule("inner")
    model.inner.alpha = 2.0
    assert shell.alpha == 2.0
    with pytest.raises(AttributeError, match=r"Inner\.two belongs to another part"):
        _ = shell.two
    with pytest.raises(AttributeError, match="nothing"):
        _ = shell.nothing


def test_a_module_of_which_only_code_is_used_has_a_shell() -> None:
    """Its flag may be read, although nothing in it is owned."""
    part = held(Outer(), "last", opened=("inner",))
    assert isinstance(part.get_submodule("inner"), Shell)
    assert not list(part.get_submodule("inner").parameters())


def test_a_root_shares_what_its_holder_holds() -> None:
    model, holder = Outer(), nn.Module()
    root = Root(model, holder)
    holder.last = model.last
    assert root.last is model.last
    holder.eval()
    assert not root.training
    root.training = True
    assert holder.training
    assert root.count == 3


def test_mounts_notice_what_is_replaced() -> None:
    model = Outer()
    entries = mount(nn.Module(), model, lowered("inner.one", "scale"))
    assert all(entry.is_current for entry in entries)
    model.inner.one = nn.Linear(2, 2)
    (stale,) = [entry for entry in entries if not entry.is_current]
    assert stale.name == "one"
    stale.take()
    assert stale.is_current
    assert stale.shell.one is model.inner.one
    del model.inner.one
    stale.take()
    assert not hasattr(stale.shell, "one")


def test_a_detached_copy_is_empty_where_nothing_is_held() -> None:
    """It has the model's classes, structure and plain attributes, and shares nothing."""
    model = Outer().eval()
    part = held(model, "inner.one", "scale")
    alone = detach(part, model, placeholders(model, set(part.modules())))
    assert type(alone) is Outer
    assert type(alone.inner) is Inner
    assert alone.count == 3
    assert alone.inner.alpha == 0.5
    assert set(alone.state_dict()) == {"inner.one.weight", "inner.one.bias", "scale"}
    assert torch.equal(alone.inner.one.weight, model.inner.one.weight)
    assert alone.inner.one.weight is not model.inner.one.weight
    assert [name for name, _ in alone.named_modules()] == [n for n, _ in model.named_modules()]
    assert not list(alone.last.parameters())
    assert copy.deepcopy(alone).inner.alpha == 0.5


def test_placeholders_have_the_structure() -> None:
    made = placeholder(nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.ReLU()])))
    assert isinstance(made, nn.Sequential)
    assert len(made) == 2
    assert not list(made.parameters())
    assert made[1][0].eval().training is False


class Counts(nn.Module):
    """A buffer and a count in a module that is held in part, and the same on the root."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.inner.step = 0
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("nothing", None)
        self.step = 0


def test_what_code_sets_is_set_on_the_module() -> None:
    """Plain attributes, buffers, and parameters, also those that are elsewhere."""
    model = Counts()
    shell = held(model, "inner.one", "inner.table").get_submodule("inner")
    shell.step = 3
    assert model.inner.step == 3
    shell.table = new = torch.ones(3)
    assert model.inner.table is shell.table is new
    shell.fresh = "set"
    assert model.inner.fresh == "set"
    shell.two = other = nn.Linear(2, 2)
    assert model.inner.two is other
    assert not hasattr(shell, "two")
    with pytest.raises(TypeError, match="cannot assign"):
        shell.table = 3
    shell.training = False
    assert model.inner.training


def test_what_code_sets_on_a_root() -> None:
    model, holder = Counts(), nn.Module()
    holder._buffers.update(model._buffers)
    root = Root(model, holder)
    root.step += 1
    root.mean = new = torch.ones(2)
    assert model.step == 1
    assert model.mean is holder.mean is new
    root.nothing = new
    assert model.nothing is holder.nothing is new


def test_what_functional_call_put_there_is_not_set_on_the_module() -> None:
    model, holder = Counts(), nn.Module()
    holder._buffers.update(model._buffers)
    root, before = Root(model, holder), model.mean
    holder._buffers["mean"] = torch.ones(2)
    root.mean = new = 2 * root.mean
    assert holder.mean is new
    assert model.mean is before
