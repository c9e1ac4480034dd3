"""What is shown of training on a terminal."""

import torch
from rich.console import Console

from fxtransport.cli.progress import Panel
from fxtransport.training import (
    EpochReport,
    Exit,
    PartEpoch,
    PartStep,
    Phase,
    Plan,
    Position,
    StepReport,
)

PHASES = (Phase((0,), 2), Phase((1,), 2))


def shown(panel: Panel) -> str:
    """The panel as text."""
    console = Console(width=100, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(panel.draw())
    return " ".join(capture.get().split())


def step(module: int, loss: float) -> StepReport:
    """A step of one module."""
    number = torch.tensor(loss)
    return StepReport((PartStep(module, number, number, number / 10, torch.tensor(3.0)),), 8)


def test_numbers_come_and_go() -> None:
    panel = Panel("λ", "cpu")
    panel.on_start(Plan(PHASES, 5, Position()))
    panel.on_phase(PHASES[0], Position())
    panel.on_step(step(0, 0.5), Position(batch=1, steps=1))
    assert "epoch 1/4" in shown(panel)
    assert "0 0.5 0.05 3 –" in shown(panel)
    # the next step comes too soon to be read
    panel.on_step(step(0, 0.25), Position(batch=2, steps=2))
    assert "0 0.5 0.05 3 –" in shown(panel)
    epoch = EpochReport(
        position=Position(epoch=1, steps=5, epochs=1),
        phase=PHASES[0],
        parts=(PartEpoch(0, 0.1, 0.5, 0.4, 0.02, 4.0),),
        exits=(Exit(0, 0.75, 0.6, 16),),
        best=None,
        seconds=1.0,
        samples_per_second=40.0,
        peak_memory=1,
    )
    panel.on_epoch(epoch)
    assert "0 0.4 0.02 4 75.00%" in shown(panel)
    panel.on_phase(PHASES[1], Position(phase=1, epochs=2, steps=10))
    panel.on_step(step(1, 0.125), Position(phase=1, epochs=2, batch=1, steps=11))
    assert "1 0.125 0.0125 3 –" in shown(panel)
    assert "0 0.4 0.02 4 75.00%" in shown(panel)
    assert "epoch 3/4" in shown(panel)
    assert "55%" in shown(panel)


def test_a_run_without_a_cost_has_dashes() -> None:
    panel = Panel("λ", "cpu")
    panel.on_start(Plan((Phase((0,), 1),), 5, Position(steps=2)))
    panel.on_phase(Phase((0,), 1), Position())
    assert "0 – – – –" in shown(panel)
    number = torch.tensor(2.0)
    panel.on_step(StepReport((PartStep(0, number, number, None, None),), 8), Position(steps=3))
    assert "0 2 – – –" in shown(panel)
    assert "60%" in shown(panel)
