"""What code of a part sets on modules: seen by the program, by its parts and by the model."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program
from fxtransport.lowered import Function, Lowered
from tests.compiling import cut
from tests.networks import IMAGES, Block


class Counting(nn.Module):
    """Has averages and counts, on the root and in a block; :func:`counting` lets code set them."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(4) for _ in range(4)))
        self.head = nn.Linear(4, 5)
        self.register_buffer("total", torch.zeros(()))
        self.step = 0
        self.blocks[0].register_buffer("ema", torch.zeros(()))
        self.blocks[0].step = 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3))) + self.total
        return logits + self.blocks[0].ema


def counts(function: Function, lines: str) -> Function:
    """A function that sets attributes before it does anything else."""
    head, _, body = function.source.lstrip().partition("\n")
    name = f"{function.name} that counts"
    source = f"{head}\n{lines}{body}\n"
    return Function.compile(name, source, function.inputs, function.globals)


def counting(net: Counting) -> Program:
    """A program of two parts; the first, and the whole, count their calls."""
    program = cut(net, modules=2)
    root = "    setattr(self, 'step', self.step + 1)\n    setattr(self, 'total', self.total + 1)\n"
    block = root.replace("self", "self.blocks.__getattr__('0')").replace("total", "ema")
    lines = root + block
    whole, (first, last) = program.lowered.whole, program.lowered.parts
    owned = (*first.owned, "total", "blocks.0.ema")
    lowered = Lowered(
        counts(program.lowered.forward, lines),
        (replace(first, function=counts(first.function, lines), owned=owned), last),
        replace(whole, function=counts(whole.function, lines)),
    )
    return Program(net, lowered, program.facts, {})


def state(net: Any) -> list[float]:
    """What was counted."""
    block = net.get_submodule("blocks.0")
    return [net.step if hasattr(net, "step") else block.step, block.step, net.total, block.ema]


@pytest.fixture
def program() -> Program:
    """Made of what counts."""
    return counting(Counting())


@pytest.mark.parametrize("kind", ["program", "whole", "part"])
def test_everyone_sees_what_a_call_sets(program: Program, kind: str) -> None:
    net = program._model[0]
    call = {"program": program, "whole": program.whole, "part": program.parts[0]}[kind]
    for step in (1, 2, 3):
        call(IMAGES)
        for each in (net, program, program.whole, program.parts[0]):
            assert state(each) == [step] * 4
    assert torch.equal(program.eval()(IMAGES), net.eval()(IMAGES))
    hidden = program.parts[0](IMAGES).hidden
    assert torch.equal(program.parts[1](hidden).hidden, net(IMAGES))


def test_a_step_holds_nothing_again(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that is another tensor after each call is taken, not all that there is."""
    monkeypatch.setattr(type(program.whole), "_hold", None)
    for _ in range(2):
        program(IMAGES)
        program.parts[0](IMAGES)
    assert state(program) == [4] * 4


def test_copies_count_on_their_own(program: Program) -> None:
    twin, part = copy.deepcopy(program), copy.deepcopy(program.parts[0])
    twin(IMAGES)
    part(IMAGES)
    part(IMAGES)
    assert state(program) == state(program._model[0]) == [0] * 4
    assert state(twin) == state(twin._model[0]) == [1] * 4
    assert state(part)[1:] == [2] * 3


def test_functional_call_leaves_what_it_replaced(program: Program) -> None:
    """As it does of a module whose code sets a buffer."""
    given = {"total": torch.tensor(5.0), "blocks.0.ema": torch.tensor(7.0)}
    for call in (program, program.parts[0]):
        torch.func.functional_call(call, dict(given), (IMAGES,))
    assert state(program) == [2, 2, 0, 0]


def test_what_the_model_sets_shows_in_the_program(program: Program) -> None:
    """Also on the root."""
    net = program._model[0]
    net.total, net.blocks[0].ema = torch.ones(()), torch.ones(())
    assert torch.equal(program.state_dict()["total"], net.total)
    assert program.parts[0].state_dict()["total"] is not program.parts[0].total.data
    assert state(program.parts[0])[2:] == [1, 1]


@pytest.mark.parametrize("kind", ["program", "part"])
@torch._dynamo.config.patch(allow_unspec_int_on_nn_module=True)
def test_what_is_set_is_set_in_compiled_code(program: Program, kind: str) -> None:
    torch.compiler.reset()
    call = program if kind == "program" else program.parts[0]
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    for step in range(1, 8):
        # an integer that counts is a symbol from the second step on
        with torch.compiler.set_stance("default" if step < 5 else "fail_on_recompile"):
            compiled(IMAGES)
        assert state(program) == [step] * 4
    call(IMAGES)
    assert state(program) == state(program._model[0]) == [8] * 4
