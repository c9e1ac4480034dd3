"""Few digits: splits, training of parts, and tiny runs of both benchmarks."""

import copy

import click
import pytest
import small_data
import stagnation
import torch
from click.testing import CliRunner
from digits import Learners, Recipe, digits, exits, hand_on

from fxtransport.objectives import trgl, vangl


def test_splits_follow_the_seed_and_are_disjoint() -> None:
    given, again, other = digits(100, 1), digits(100, 1), digits(100, 2)
    assert len(given.train.classes) == 100
    assert torch.bincount(given.train.classes).min() >= 9
    assert torch.equal(given.train.images, again.train.images)
    assert not torch.equal(given.train.images, other.train.images)
    assert torch.equal(given.test.classes, digits(500, 1).test.classes)
    images = [part.images.flatten(1) for part in (given.train, given.validation, given.test)]
    assert torch.cdist(images[0], torch.cat(images[1:])).min() > 0
    assert torch.cdist(images[1], images[2]).min() > 0


def test_parallel_parts_all_train_and_a_cost_changes_how() -> None:
    program = copy.deepcopy(stagnation.compile_network("10-1", "cpu"))
    torch.manual_seed(0)
    stagnation.initialize(program, "orthogonal", 0.05)
    costly = copy.deepcopy(program)
    before = copy.deepcopy(program.state_dict())
    split = digits(100, 0).train
    for net, objective in ((program, vangl()), (costly, trgl(0.01))):
        Learners(net.parts, objective, Recipe(0.03, 64), seed=0).epoch(split)
    assert all(not torch.equal(p, before[name]) for name, p in program.named_parameters())
    weight = "blocks.0.branch.0.weight"
    assert not torch.equal(program.state_dict()[weight], costly.state_dict()[weight])


def test_parts_in_turn_leave_those_before_them_alone() -> None:
    program = copy.deepcopy(stagnation.compile_network("10-1", "cpu"))
    split = digits(100, 0).train
    first = copy.deepcopy(program.parts[0].state_dict())
    handed_on = hand_on(program.parts[0], split)
    learner = Learners(program.parts[1:2], vangl(), Recipe(0.03, 64), seed=0)
    second = copy.deepcopy(program.parts[1].state_dict())
    learner.epoch(handed_on)
    torch.testing.assert_close(program.parts[0].state_dict(), first, rtol=0, atol=0)
    changed = program.parts[1].state_dict()
    assert all(not torch.equal(changed[name], second[name]) for name in second)


@pytest.mark.parametrize("schedule", ["parallel", "sequential", "end to end"])
def test_every_schedule_gives_its_exits(schedule: str) -> None:
    job = stagnation.Job("10-1", schedule, None, 0.03, 150, 0, "test", 1, "cpu")
    found = stagnation.train(job)
    assert len(found) == (1 if schedule == "end to end" else 10)
    assert found == stagnation.train(job)


def test_exits_are_accuracies() -> None:
    program = stagnation.compile_network("10-1", "cpu")
    split = digits(100, 0).test
    with torch.no_grad():
        right = program.eval()(split.images).argmax(-1) == split.classes
    assert exits(program.parts, split)[-1] == pytest.approx(100 * right.float().mean().item())


@pytest.mark.parametrize("method", small_data.METHODS)
def test_every_method_trains_on_few_digits(method: str) -> None:
    choice = small_data.METHODS[method].choices[0]
    job = small_data.Job(method, choice, 100, 0, "validation", 2, "cpu")
    found = small_data.train(job)
    assert len(found) == 2
    assert found == small_data.train(job)


def test_verdicts_follow_the_intervals() -> None:
    mean = stagnation.Mean
    assert stagnation.verdict(mean(-3, 1), mean(2, 1)) == "VanGL falls with depth; TRGL repairs it"
    assert stagnation.verdict(mean(1, 1), mean(0.5, 1)).endswith("TRGL changes nothing")
    assert stagnation.verdict(mean(0, 1), mean(2, 1)) == "VanGL does not fall; TRGL is better"
    assert small_data.verdict(mean(-2, 1)) == "worse"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "only"),
    [(small_data.main, ["--images", "100"]), (stagnation.main, ["--net", "10-1"])],
    ids=["small_data", "stagnation"],
)
def test_the_programs_print_their_tables(
    main: click.Command, only: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stagnation, "EPOCHS", {150: 1})
    options = ["--quick", "--processes", "0", *only]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    assert "published" in result.output
