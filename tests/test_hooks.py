"""Hooks that a program does not run."""

from typing import Any

import pytest
from torch import nn

from fxtransport.hooks import hook_error, hook_of


def nothing(*_: Any) -> None:
    """A hook."""


@pytest.mark.parametrize(
    ("register", "kind"),
    [
        ("register_forward_hook", "a forward hook"),
        ("register_forward_pre_hook", "a forward pre-hook"),
        ("register_full_backward_hook", "a backward hook"),
        ("register_full_backward_pre_hook", "a full backward pre-hook"),
    ],
)
def test_each_kind_is_named(register: str, kind: str) -> None:
    module = nn.Linear(2, 2)
    assert hook_of(module) is None
    handle = getattr(module, register)(nothing)
    assert hook_of(module) == kind
    handle.remove()
    assert hook_of(module) is None


def test_the_error_names_the_module() -> None:
    assert hook_error("a.0", nn.ReLU(), "a forward hook").startswith("a.0 (ReLU) has a forward")
    assert hook_error("", nn.ReLU(), "a forward hook").startswith("the model (ReLU) has a forward")
