"""The trainer makes the steps of the methods as they are written out in ``plain.py``."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fxtransport import Program, transportify
from fxtransport.objectives import Objective, lap, trgl, trgl_multipliers, vangl
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    Observer,
    OptimizerSettings,
    Parallel,
    Position,
    Schedule,
    Sequential,
    StepReport,
    Trainer,
    TrainerSettings,
)
from tests.end_to_end.plain import (
    Block,
    Net,
    Plain,
    PlainHead,
    PostActivation,
    PreActivation,
    Record,
    Rule,
    batches_of,
)

STEPS = 20
OPTIMIZER = OptimizerSettings(
    lr=0.05, momentum=0.9, weight_decay=1e-3, options={"filter_bias_and_bn": False}
)


class Case(NamedTuple):
    """A schedule and an objective, and how many batches make 20 steps of them."""

    schedule: Schedule
    objective: Callable[[], Objective]
    rule: Rule
    batches: int
    run: Callable[[Plain, Any], Any]


CASES = {
    "LAP end to end": Case(
        EndToEnd(2),
        lambda: lap(lambda0=0.5, lambda_rate=0.1, update_every=3),
        Rule("lap", 0.5, 0.1, 3),
        10,
        lambda plain, batches: plain.parallel(batches + batches),
    ),
    "LAP parallel": Case(
        Parallel(2),
        lambda: lap(lambda0=0.5, lambda_rate=0.1, update_every=3, order="text"),
        Rule("lap", 0.5, 0.1, 3, "text"),
        5,
        lambda plain, batches: plain.parallel(batches + batches),
    ),
    "TRGL sequential": Case(
        Sequential(1),
        lambda: trgl(tau=0.2),
        Rule("trgl", 0.2),
        10,
        lambda plain, batches: plain.sequential(batches),
    ),
    "multipliers, multi-lap": Case(
        MultiLap(1, laps=2),
        lambda: trgl_multipliers(lambda0=0.5, lambda_rate=0.1, update_every=3),
        Rule("trgl-multipliers", 0.5, 0.1, 3),
        5,
        lambda plain, batches: plain.sequential(batches, laps=2),
    ),
    "VanGL parallel": Case(
        Parallel(1),
        vangl,
        Rule("vangl"),
        10,
        lambda plain, batches: plain.parallel(batches),
    ),
}


class Recorder(Observer):
    """What the trainer reports of each part's step, with the gradients of the step."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.gradients: list[dict[str, Tensor]] = []

    def watch(self, trainer: Trainer) -> None:
        for learner in trainer._engine.state.learners.values():

            def note(*_: Any, part: Any = learner.part) -> None:
                named = part.named_parameters()
                self.gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})

            learner.optimizer.register_step_pre_hook(note)

    def on_step(self, step: StepReport, position: Position) -> None:
        new = self.gradients[len(self.records) :]
        for part, gradients in zip(step.parts, new, strict=True):
            value = 1.0 if part.multiplier is None else part.multiplier.item()
            self.records.append(
                Record(part.part, part.classification, part.transport, value, gradients)
            )


def programs(block: type[Block], downsampling: bool, modules: int) -> tuple[Net, Program]:
    torch.manual_seed(0)
    net = Net(block, downsampling).double()
    example = torch.zeros(2, 2, 6, 6, dtype=torch.float64)
    return net, transportify(copy.deepcopy(net), example, modules=modules, verify=False)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("downsampling", [False, True], ids=["", "downsampling"])
@pytest.mark.parametrize("block", [PreActivation, PostActivation])
def test_twenty_steps(name: str, downsampling: bool, block: type[Block]) -> None:
    case = CASES[name]
    modules = 1 if isinstance(case.schedule, EndToEnd) else 2
    net, program = programs(block, downsampling, modules)
    plain = Plain(
        net,
        [
            PlainHead(part.auxiliary_head.state_dict())
            for part in program.parts
            if part.auxiliary_head is not None
        ],
        [copy.copy(case.rule) for _ in range(modules)],
        cuts=(0, 4) if modules == 1 else (0, 2, 4),
    )
    batches, recorder = batches_of(case.batches), Recorder()
    trainer = Trainer(
        program,
        case.objective(),
        case.schedule,
        optimizer=OPTIMIZER,
        settings=TrainerSettings(),
        observers=[recorder],
    )
    recorder.watch(trainer)
    trainer.fit(batches)
    expected = list(case.run(plain, batches))
    assert len(recorder.records) == len(expected) == STEPS
    for found, wanted in zip(recorder.records, expected, strict=True):
        assert found.part == wanted.part
        assert found.gradients.keys() == wanted.gradients.keys()
        assert found.value == pytest.approx(wanted.value, rel=1e-10)
        torch.testing.assert_close(
            [found.loss, *found.gradients.values()],
            [wanted.loss, *(wanted.gradients[key] for key in found.gradients)],
            rtol=1e-8,
            atol=1e-11,
        )
        assert (found.cost is None) == (name == "VanGL parallel")
        if found.cost is not None:
            torch.testing.assert_close(found.cost, wanted.cost, rtol=1e-8, atol=1e-11)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(program.state_dict()[key], value, rtol=1e-8, atol=1e-11, msg=key)
