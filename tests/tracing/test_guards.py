"""Guards: what code decides by is guarded where it decides, once, and nothing else is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program
from fxtransport.errors import GuardError
from fxtransport.runtime import guard, guard_rank
from tests.tracing.blocks import Apart, Function, assert_equal, check, guarded, net, program_of, x


def guards(program: Program) -> int:
    """The number of guards in a program's graph."""
    return sum(node.target in (guard, guard_rank) for node in program.facts.graph.nodes)


DECIDES: dict[str, Function] = {
    "if": lambda m, x, y: y.exp() if x.shape[0] > 2 else y,
    "an equation": lambda m, x, y: y.exp() if x.shape[0] == 2 else y,
    "and": lambda m, x, y: y.exp() if x.shape[1] == 8 and len(x) < 3 else y,
    "a loop": lambda m, x, y: sum((y * i for i in range(x.size(0))), torch.zeros(())),
    "a count": lambda m, x, y: sum([y] * len(x), torch.zeros(())),
    "a key": lambda m, x, y: y * {2: 2.0}.get(x.shape[0], 1.0),
    "in": lambda m, x, y: y.exp() if x.shape[0] in (1, 2) else y,
    "what is computed": lambda m, x, y: y.exp() if x.numel() // 8 % 3 == 2 else y,
    "the largest": lambda m, x, y: y.exp() if max(x.shape) == 8 and min(x.shape) < 3 else y,
    "values of sizes": lambda m, x, y: y.exp() if torch.arange(len(x)).sum() < 2 else y,
    "pieces": lambda m, x, y: y * len(x.split(2)),
}


@pytest.mark.parametrize("name", DECIDES)
def test_what_decides_is_guarded(name: str) -> None:
    """Right, or refused by the module and line, at every size."""
    model = net(DECIDES[name])
    program = program_of(model, x(2))
    assert_equal(program, model, x(2))
    for batch in (1, 3, 9):
        try:
            assert_equal(program, model, x(batch))
        except GuardError as error:
            assert "(Adds) at test_guards.py:" in str(error)
            assert "compile again" in str(error)
    with pytest.raises(GuardError):
        program(x(9))


COMPUTES: dict[str, Function] = {
    "arithmetic": lambda m, x, y: y * x.shape[0] / len(x) + x.numel(),
    "shapes": lambda m, x, y: y.view(x.shape[0], -1) + torch.zeros(x.shape),
    "keywords": lambda m, x, y: torch.full(fill_value=1.0, size=(len(x), 8)) * y,
    "a slice": lambda m, x, y: y[: len(x)] * torch.arange(x.shape[0])[:, None],
    "min": lambda m, x, y: y * min(x.shape[0], 4),
}


@pytest.mark.parametrize("name", COMPUTES)
def test_what_only_computes_is_not_guarded(name: str) -> None:
    program = check(COMPUTES[name])
    assert guards(program) == 0


def test_one_number_is_guarded_once() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        wide = x.shape[1] == 8
        for _ in range(4):
            y = y * 2 if wide else y
        return y

    program = check(branch)
    assert guards(program) == 2  # one in each block


def test_a_closed_module_decides_by_itself() -> None:
    """The remedy."""
    model = net(DECIDES["if"], Apart)
    program = program_of(model, x(2))
    assert guards(program) == 0
    assert_equal(program, model, x(5))


class Ranks(nn.Module):
    """Decides by the rank of one of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, bias: Tensor) -> Any:
        y = self.linear(x)
        return x + (y * bias if bias.dim() > 1 else y + bias)


def test_ranks_of_several_inputs() -> None:
    model = Ranks()
    program = program_of(model, x(2), x(2))
    assert_equal(program, model, x(5), x(5))
    message = guarded(program, model, x(5), torch.ones(8))
    assert "1 dimension" in message or "2 dimensions" in message
    assert "the model (Ranks)" in message


def test_ranks_that_nobody_asks_for_are_free() -> None:
    program = check(lambda m, x, y: y.relu())
    assert guards(program) == 0
    assert program(x(2, 4, 8)).shape == (2, 4, 3)


DECIDED: dict[str, tuple[Any, Any, Any, str]] = {
    "number": (lambda m, x, y: y * 2 if m.scale > 0 else y, 1.0, -1.0, "self.scale: "),
    "truth": (lambda m, x, y: y * 2 if m.scale else y, 1, 0, "self.scale: "),
    "loop": (lambda m, x, y: sum(y for _ in range(m.scale)), 2, 3, "self.scale: "),
    "computed": (lambda m, x, y: y if int(m.scale * 2) == 4 else x, 2.0, 3.0, "self.scale: "),
    "with a size": (lambda m, x, y: y if m.scale < x.shape[1] else x * y, 2, 9, "self.scale: "),
}


@pytest.mark.parametrize("name", DECIDED)
def test_attributes_that_decide_are_named(name: str) -> None:
    """The remedy that is told works: compile again after changing it."""
    function, before, after, words = DECIDED[name]
    model = net(function, scale=before)
    program = program_of(model)
    assert_equal(program, model, x(5))
    for block in (*model.children(), *program.children()):
        if hasattr(block, "scale"):
            block.scale = after
    message = guarded(program, model, x(5))
    assert f"decides by {words}" in message
    assert "0 (Adds) at test_guards.py:" in message
    assert "compile again after changing self.scale" in message
    assert ("with an example of this shape" in message) == (name == "with a size")
    assert_equal(program_of(model), model, x(5))
