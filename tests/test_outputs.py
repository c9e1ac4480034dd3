"""Logits are read from where models say they are, while compiling and while training."""

import dataclasses
from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.objectives import logits_of
from fxtransport.outputs import find_logits

Named = namedtuple("Named", ["hidden", "logits"])


@dataclasses.dataclass
class Plain:
    """A dataclass."""

    loss: Any = None
    logits: Any = None
    hidden: Any = None


@dataclasses.dataclass
class Both(OrderedDict):  # type: ignore[type-arg]
    """A dataclass that is a dict, as the outputs of transformers are."""

    loss: Any = None
    logits: Any = None
    hidden: Any = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


OUTPUTS = {
    "tensor": lambda z, _: z,
    "dict": lambda z, y: {"hidden": y, "logits": z},
    "out": lambda z, y: OrderedDict(aux=y, out=z),
    "namedtuple": lambda z, y: Named(y, z),
    "dataclass": lambda z, y: Plain(logits=z, hidden=y),
    "dataclass that is a dict": lambda z, y: Both(logits=z, hidden=y),
    "tuple of one": lambda z, _: (z,),
    "list of one": lambda z, _: [z],
}
UNCLEAR = {"tuple": lambda z, y: (z, y), "dict": lambda z, y: {"a": y, "b": z}}


class Returns(nn.Module):
    """Returns logits and a hidden state in some way."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.output = output

    def forward(self, x: Tensor) -> Any:
        y = x + self.first(x).relu()
        y = y + self.second(y).relu()
        return self.output(self.head(y), y)


@pytest.mark.parametrize("how", OUTPUTS)
def test_heads_and_losses_find_the_logits(how: str) -> None:
    model = Returns(OUTPUTS[how])
    program = transportify(model, torch.zeros(2, 6), modules=2)
    assert program.facts.heads.heads[0].num_classes == 3
    x = torch.randn(4, 6)
    output = program.parts[1](program.parts[0](x).hidden)
    returned = model(x)
    assert type(output.hidden) is type(returned)
    expected = find_logits(returned, lambda value: isinstance(value, Tensor))
    assert expected.shape == (4, 3)
    assert torch.equal(logits_of(output.logits), expected)


@pytest.mark.parametrize("how", UNCLEAR)
def test_unclear_outputs_are_refused(how: str) -> None:
    model = Returns(UNCLEAR[how])
    with pytest.raises(UsageError, match="no tensor named logits or out"):
        transportify(model, torch.zeros(2, 6), modules=2)
    program = transportify(model, torch.zeros(2, 6), modules=2, num_classes=3)
    with pytest.raises(UsageError, match="no tensor named logits or out"):
        logits_of(program.whole(torch.zeros(2, 6)).logits)


def test_attributes_of_other_objects() -> None:
    value = torch.zeros(2, 3)
    assert logits_of(SimpleNamespace(logits=value)) is value
    with pytest.raises(UsageError, match="no logits: it has no auxiliary head"):
        logits_of(None)
