"""Operations that a graph does not see, and modules that are opened with those around them."""

from typing import Any

import torch
from torch import Tensor, nn

from fxtransport.tracing.graph import with_parents
from tests.tracing.blocks import check, remedied


def test_operations_out_of_sight_are_refused() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return y.exp()

    remedied(branch, "runs exp in a way that a graph does not see")
    check(lambda m, x, y: y.exp())


def test_a_module_is_opened_under_each_of_its_names() -> None:
    inner = nn.Sequential(nn.Linear(2, 2))
    model = nn.ModuleDict({"a": nn.Sequential(inner), "b": inner})
    assert with_parents(["b.0"], model) == {"", "a", "a.0", "a.0.0", "b", "b.0"}
