"""Modules whose code is in the graph: replaced, hooked, and their attributes changed."""

import pytest
from torch import nn

from fxtransport.errors import GuardError, UsageError
from fxtransport.opened import opened_modules
from fxtransport.watched import Camera, Watched


class Outer(nn.Module):
    """A module in a list, and flags."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU(), nn.ReLU())
        self.flag = True


KINDS = {"inner": nn.Sequential, "inner.1": nn.ReLU}


def test_opened_modules_keep_their_class() -> None:
    model = Outer()
    root, inner, last = opened_modules(model, model, KINDS)
    assert [root.path, inner.path, last.path] == ["", "inner", "inner.1"]
    model.inner = nn.Sequential(nn.ReLU(), nn.ReLU())
    assert [entry.is_current for entry in (root, inner, last)] == [True, False, True]
    model.inner[1] = nn.GELU()
    with pytest.raises(UsageError, match=r"inner\.1 is now of class GELU"):
        opened_modules(model, model, KINDS)
    model.inner = nn.Sequential(nn.ReLU())
    with pytest.raises(UsageError, match=r"inner\.1 is now of class NoneType"):
        opened_modules(model, model, KINDS)


def test_a_hook_is_refused() -> None:
    """Of the model itself, and deeper down."""
    model = Outer()
    root, _, last = opened_modules(model, model, KINDS)
    root.check(Camera())
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(GuardError, match=r"the model \(Outer\) has a forward hook"):
        root.check(Camera())
    model.inner[1].register_forward_pre_hook(lambda *_: None)
    with pytest.raises(GuardError, match=r"inner\.1 \(ReLU\) has a forward pre-hook"):
        last.check(Camera())


def test_attributes_are_checked_where_they_were_read() -> None:
    model = Outer()
    watched = (Watched("", "flag", True), Watched("inner.1", "inplace", False))
    root, _, last = opened_modules(model, model, KINDS, watched)
    root.check(Camera())
    last.check(Camera())
    model.flag = model.inner[1].inplace = 2  # type: ignore[assignment]
    with pytest.raises(GuardError, match=r"the model \(Outer\) reads self\.flag, which was True"):
        root.check(Camera())
    with pytest.raises(GuardError, match=r"inner\.1 \(ReLU\) reads self\.inplace"):
        last.check(Camera())


def test_another_forward_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the module, and of its class; the one that was compiled is no other."""
    model = Outer()
    model.inner[1].forward = nn.GELU().forward  # type: ignore[method-assign]
    _, inner, last = opened_modules(model, model, KINDS)
    inner.check(Camera())
    last.check(Camera())
    model.inner.forward = nn.GELU().forward  # type: ignore[method-assign]
    with pytest.raises(GuardError, match=r"inner \(Sequential\) has another forward"):
        inner.check(Camera())
    del model.inner.forward
    inner.check(Camera())
    monkeypatch.setattr(nn.ReLU, "forward", nn.GELU.forward)
    with pytest.raises(GuardError, match=r"inner\.1 \(ReLU\) has another forward"):
        last.check(Camera())
