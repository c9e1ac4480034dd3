"""The names of what was recorded: the nodes of layers."""

from typing import Any

import pytest
import torch
from torch import nn

from fxtransport import transportify


class Structured(nn.Module):
    """Layers of equal dimension, whose results closed modules hand on in structures."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.linear, self.inside = nn.Linear(8, 8), inside

    def forward(self, x: torch.Tensor) -> Any:
        x = self.linear(x + torch.vmap(torch.tanh)(x)) if self.inside else self.linear(x).tanh()
        return {"hidden": x}


class InRow(nn.Module):
    """Such modules one after the other."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Structured(inside) for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)["hidden"]
        y: torch.Tensor = self.head(x)
        return y


@pytest.mark.parametrize("inside", [False, True])
def test_layers_that_no_node_computes_are_left_out(inside: bool) -> None:
    model, x = InRow(inside), torch.randn(4, 8)
    program = transportify(model, x)
    assert torch.equal(program(x), model(x))
    assert all(r.shape == x.shape for r in program.transport(x).residues)
