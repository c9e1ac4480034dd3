"""The best exit, that of the whole model, and their weights."""

from pathlib import Path

import pytest
import torch

from fxtransport.program import Program
from fxtransport.training import Best, Exit
from fxtransport.training.best import BestExit
from fxtransport.training.checkpoint import RunFolder
from tests.training.runs import program_of


def exits(*accuracies: float) -> list[Exit]:
    return [Exit(part, accuracy, 1.0, 8) for part, accuracy in enumerate(accuracies)]


def change(program: Program) -> None:
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.add_(1)


def test_of_equals_the_one_after_the_most_parts_and_then_the_first_in_time() -> None:
    best, program = BestExit(None), program_of()
    best.offer([], 1, program)
    assert best.record is None
    first = exits(0.5, 0.75, 0.75)
    best.offer(first, 2, program)
    assert best.record == Best(Exit(2, 0.75, 1.0, 8), 2, tuple(first))
    best.offer(exits(0.75, 0.75, 0.5), 3, program)
    assert best.record.epoch == 2
    best.offer(exits(0.5, 0.8, 0.5), 4, program)
    assert (best.record.exit.part, best.record.epoch) == (1, 4)
    best.offer(exits(0.5, 0.5, 0.8), 5, program)
    assert (best.record.exit.part, best.record.epoch) == (2, 5)


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_its_weights_are_kept(in_a_folder: bool, tmp_path: Path) -> None:
    best, program = BestExit(RunFolder(tmp_path) if in_a_folder else None), program_of()
    kept = {name: value.clone() for name, value in program.state_dict().items()}
    best.offer(exits(0.5), 1, program)
    change(program)
    best.offer(exits(0.25), 2, program)
    best.load_into(program)
    for name, value in program.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert bool(list(tmp_path.glob("best-*.safetensors"))) == in_a_folder


def test_the_weights_with_which_the_last_exit_was_best_are_kept_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    best, program = BestExit(folder), program_of()
    assert len(program.parts) == 2
    # the last exit is not there before it has been trained
    best.offer(exits(0.9), 1, program)
    assert best.whole is None
    best.offer(exits(0.5, 0.6), 2, program)
    then = program.state_dict()["stem.weight"].clone()
    change(program)
    best.offer(exits(0.8, 0.6), 3, program)
    assert (best.record, best.whole) == (
        Best(Exit(0, 0.9, 1.0, 8), 1, tuple(exits(0.9))),
        Best(Exit(1, 0.6, 1.0, 8), 2, tuple(exits(0.5, 0.6))),
    )
    assert best.whole_weights is not None
    assert torch.equal(folder.read_tensors(best.whole_weights)["stem.weight"], then)


def test_weights_that_are_best_for_both_are_written_once(tmp_path: Path) -> None:
    best = BestExit(RunFolder(tmp_path))
    best.offer(exits(0.5, 0.6), 1, program_of())
    assert best.weights == best.whole_weights is not None
    assert len(list(tmp_path.glob("best-*.safetensors"))) == 1
