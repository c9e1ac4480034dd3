"""The best exit, and its weights."""

from pathlib import Path

import pytest
import torch

from fxtransport.training import Best, Exit
from fxtransport.training.best import BestExit
from fxtransport.training.checkpoint import RunFolder
from tests.training.runs import program_of


def exits(*accuracies: float) -> list[Exit]:
    return [Exit(part, accuracy, 1.0, 8) for part, accuracy in enumerate(accuracies)]


def test_of_equals_the_first_in_time_of_the_fewest_parts() -> None:
    best, program = BestExit(None), program_of()
    best.offer([], 1, program)
    assert best.record is None
    best.offer(exits(0.5, 0.75, 0.75), 2, program)
    assert best.record == Best(Exit(1, 0.75, 1.0, 8), 2)
    best.offer(exits(0.75, 0.5, 0.5), 3, program)
    assert best.record.epoch == 2
    best.offer(exits(0.5, 0.5, 0.8), 4, program)
    assert (best.record.exit.part, best.record.epoch) == (2, 4)


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_its_weights_are_kept(in_a_folder: bool, tmp_path: Path) -> None:
    best, program = BestExit(RunFolder(tmp_path) if in_a_folder else None), program_of()
    kept = {name: value.clone() for name, value in program.state_dict().items()}
    best.offer(exits(0.5), 1, program)
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(1)
    best.offer(exits(0.25), 2, program)
    best.load_into(program)
    for name, value in program.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert bool(list(tmp_path.glob("best-*.safetensors"))) == in_a_folder
