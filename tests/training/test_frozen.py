"""Frozen parts are frozen."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.training import MultiLap, Sequential, Trainer
from tests.networks import Block
from tests.training.runs import SHAPE, SmallNet, program_of, samples, trainer_of


def second_phase(program: Program, **settings: Any) -> Trainer:
    """A trainer whose second part trains."""
    trainer = trainer_of(Sequential(1), program=program, **settings)
    trainer.end_epoch()
    assert trainer.phase.parts == (1,)
    return trainer


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(module.state_dict()))


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def test_nothing_of_a_frozen_part_changes() -> None:
    program = program_of(modules=3)
    trainer = second_phase(program)
    before = [state(part) for part in program.parts]
    calls = []
    head = program.parts[0].auxiliary_head
    assert head is not None
    head.register_forward_hook(lambda *_: calls.append("head"))
    program.parts[2].register_forward_hook(lambda *_: calls.append("after"))
    trainer.step(*samples(8).batch(range(8)))
    assert changed(before[0], state(program.parts[0])) == set()
    trained = changed(before[1], state(program.parts[1]))
    assert any(name.startswith("blocks.") and name.endswith("running_mean") for name in trained)
    assert changed(before[2], state(program.parts[2])) == set()
    assert calls == []
    assert all(p.grad is None for p in program.parameters())


def test_frozen_parts_are_in_eval_mode() -> None:
    program = program_of()
    trainer = second_phase(program)
    given = []
    program.parts[1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    images, targets = samples(8).batch(range(8))
    trainer.step(images, targets)
    frozen = copy.deepcopy(program).eval()
    assert torch.equal(given[0], frozen.parts[0](images).hidden)
    assert not given[0].requires_grad
    training = {name: m.training for name, m in program.named_modules()}
    assert not training["blocks.0.norm"]
    assert training["blocks.2.norm"]


def test_parts_thaw_in_the_next_lap() -> None:
    program = program_of()
    trainer = trainer_of(MultiLap(1, laps=2), program=program)
    norm = program.get_submodule("blocks.0.norm")
    modes = []
    for _ in range(4):
        trainer.step(*samples(8).batch(range(8)))
        modes.append(norm.training)
        trainer.end_epoch()
    assert modes == [True, False, True, False]


def test_batch_norms_may_go_on_updating() -> None:
    program = program_of()
    trainer = second_phase(program, update_frozen_bn=True)
    before = state(program.parts[0])
    trainer.step(*samples(8).batch(range(8)))
    found = changed(before, state(program.parts[0]))
    assert found == {
        f"blocks.{i}.norm.{name}"
        for i in (0, 1)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }


class SharedDropout(SmallNet):
    """One dropout module for all blocks, and a functional one with the mode of the model."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + F.dropout(self.drop(block.get_submodule("conv")(x)), 0.5, self.training)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def test_what_parts_share_is_in_the_mode_of_the_one_that_runs() -> None:
    program = program_of(SharedDropout)
    trainer = second_phase(program)
    given, flags = [], []
    program.parts[1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    drop = program.get_submodule("drop")
    drop.register_forward_pre_hook(lambda module, _: flags.append(module.training))
    images, targets = samples(8).batch(range(8))
    for _ in range(2):
        trainer.step(images, targets)
    assert flags == 2 * [False, False, True, True]
    frozen = copy.deepcopy(program).eval()
    assert torch.equal(given[1], frozen.parts[0](images).hidden)


def test_blocks_may_be_cut_anywhere() -> None:
    """Several hidden tensors cross, and are frozen all the same."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = Block(2), Block(2), Block(2)
            self.head = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.a(x), self.b(x)
            logits: Tensor = self.head((self.c(left) * right).mean((2, 3)))
            return logits

    program = transportify(Two(), torch.zeros(2, *SHAPE), cuts=["b"], head="token", verify=False)
    hidden = program.parts[0](torch.zeros(2, *SHAPE)).hidden
    assert isinstance(hidden, tuple), "one tensor crosses"
    trainer = second_phase(program)
    before = state(program.parts[0])
    report = trainer.step(*samples(8).batch(range(8)))
    assert [step.part for step in report.parts] == [1]
    assert changed(before, state(program.parts[0])) == set()
