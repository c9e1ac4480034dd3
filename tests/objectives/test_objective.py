"""An objective's forward is pure, compiles with a part, and says what it misses."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.objectives import (
    Loss,
    Objective,
    fixed,
    lap,
    logits_of,
    trgl,
    trgl_multipliers,
    vangl,
)
from tests.training.runs import SHAPE, calm, samples

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "lap": lambda: lap(0.5, 0.3, 2),
    "lap, text": lambda: lap(0.5, 0.3, 2, order="text"),
    "trgl": lambda: trgl([0.5, 1.0]),
    "trgl_multipliers": lambda: trgl_multipliers(0.5, 0.3, 1),
    "fixed": lambda: fixed(0.5),
    "vangl": vangl,
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def tensors_of(loss: Loss) -> list[Tensor]:
    return [t for t in (*loss[:-1], *(loss.next or ())) if t is not None]


def output_of(seed: int, scale: float) -> tuple[Any, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, 3, generator=generator)
    costs = torch.rand(2, generator=generator)
    return SimpleNamespace(logits=logits, costs=costs), torch.tensor([0, 1, 2, 1])


@every_objective
@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(0, 5),
    part=st.integers(0, 1),
    scale=st.sampled_from([0.1, 1.0, 100.0, float("nan"), float("inf")]),
    advance=st.booleans(),
    training=st.booleans(),
)
def test_forward_is_pure(
    name: str, steps: int, part: int, scale: float, advance: bool, training: bool
) -> None:
    """It changes neither the objective nor its arguments, and depends on these alone."""
    objective = OBJECTIVES[name]()
    for step in range(steps):
        loss = objective(*output_of(step, 1.0), objective.state(part))
        objective.commit(part, loss.next)
    objective.train(training)
    output, targets = output_of(9, scale)
    state = objective.state(part)
    arguments = copy.deepcopy((output, targets, state))
    stored = copy.deepcopy(dict(objective.named_buffers()))

    once = objective(output, targets, state, advance=advance)
    assert_identical((output, targets, state), arguments)
    assert_identical(dict(objective.named_buffers()), stored)
    assert_identical(objective.state(part), arguments[2])
    again = objective(output, targets, state, advance=advance)
    elsewhere = OBJECTIVES[name]().train(training)(output, targets, state, advance=advance)
    assert_identical(tensors_of(again), tensors_of(once))
    assert_identical(tensors_of(elsewhere), tensors_of(once))
    if not (advance and training):
        assert_identical(once.next, state)


def assert_identical(found: Any, expected: Any) -> None:
    """Tensors are equal bit for bit, NaN included, wherever they are."""
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    elif isinstance(expected, SimpleNamespace):
        assert_identical(vars(found), vars(expected))
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert_identical(list(found.values()), list(expected.values()))
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_identical(one, other)
    else:
        assert found is expected is None


@every_objective
def test_commit_is_what_changes_the_multiplier(name: str) -> None:
    objective = OBJECTIVES[name]()
    for step in range(4):
        state = objective.state(1)
        loss = objective(*output_of(step, 1.0), state)
        assert_identical(objective.state(1), state)
        objective.commit(1, loss.next)
        assert_identical(objective.state(1), loss.next)
    is_adaptive = name in ("lap", "lap, text", "trgl_multipliers")
    assert is_adaptive == bool(objective.state_dict())


def test_gradients_flow_through_the_total_alone() -> None:
    logits, costs = torch.randn(4, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    objective, targets = lap(4, 1, 1, order="text"), torch.tensor([0, 1, 2, 1])
    loss = objective(SimpleNamespace(logits=logits, costs=costs), targets, objective.state())
    assert [t.requires_grad for t in tensors_of(loss)] == [True, False, False, False, False, False]
    loss.total.backward()
    assert logits.grad is not None
    assert costs.grad is not None
    assert costs.grad.tolist() == [0.25] * 3


def test_pieces_of_a_batch_use_the_multiplier_of_the_first() -> None:
    objective = lap(1, 1, 1)
    first = objective(*output_of(0, 1.0), objective.state())
    second = objective(*output_of(1, 1.0), first.next, advance=False)
    assert first.multiplier is not None
    assert first.multiplier > 1
    assert_identical(second.multiplier, first.multiplier)
    assert_identical(second.next, first.next)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@every_objective
def test_a_part_and_its_loss_are_one_graph(name: str, backend: str) -> None:
    """Which is not compiled again when the multiplier changes, and gives the same numbers."""
    torch.manual_seed(0)
    program = transportify(calm(), torch.zeros(2, *SHAPE), modules=2, verify=False)
    objective, part = OBJECTIVES[name](), program.parts[0].eval()
    images, targets = samples(6).batch(range(6))

    def run(state: Any) -> Loss:
        output = part(images, measure=objective.cost)
        loss: Loss = objective(output, targets, state)
        return loss

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend=backend)
    multipliers = set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(4):
            state = objective.state()
            found, expected = compiled(state), run(state)
            torch.testing.assert_close(tensors_of(found), tensors_of(expected))
            gradients = [
                torch.autograd.grad(loss.total, list(part.parameters()))
                for loss in (found, expected)
            ]
            torch.testing.assert_close(*gradients)
            objective.commit(0, found.next)
            multipliers.add(None if found.multiplier is None else found.multiplier.item())
    assert (len(multipliers) > 1) == bool(objective.state_dict())


def test_a_state_that_is_missing() -> None:
    with pytest.raises(UsageError, match=r"give it objective\.state\(part\.index\)"):
        lap(1, 1, 1)(*output_of(0, 1.0), None)


def test_logits_that_are_missing() -> None:
    with pytest.raises(UsageError, match="the part returned no logits"):
        logits_of(None)
    with pytest.raises(UsageError, match="returns list, which has no tensor named logits or out"):
        logits_of([torch.zeros(2, 3), torch.zeros(2, 3)])


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@every_objective
def test_no_step_waits_for_the_device(name: str) -> None:
    objective = OBJECTIVES[name]().cuda()
    output, targets = output_of(0, 1.0)
    output = SimpleNamespace(logits=output.logits.cuda(), costs=output.costs.cuda())
    targets = targets.cuda()
    objective.commit(1, objective(output, targets, objective.state(1)).next)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            objective.commit(1, objective(output, targets, objective.state(1)).next)
    finally:
        torch.cuda.set_sync_debug_mode("default")
