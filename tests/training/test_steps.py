"""The step of a part: its own loss, its own gradient, and nothing left alive."""

import copy
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import PartOutput, Program
from fxtransport.objectives import Objective, lap, vangl
from fxtransport.training import OptimizerSettings, TrainerSettings
from fxtransport.training.learner import Learner
from fxtransport.training.steps import LossError, detach, drain, split, sweep
from tests.training.runs import SmallNet, calm, program_of, samples

CPU = torch.device("cpu")


def learners_of(program: Program, lr: float = 0.1, **settings: Any) -> list[Learner]:
    optimizer = OptimizerSettings(lr=lr, weight_decay=0.0)
    return [Learner(part, 1, optimizer, TrainerSettings(**settings), CPU) for part in program.parts]


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    return samples(count).batch(range(count))


def objective() -> Objective:
    return lap(lambda0=0.5, lambda_rate=0.1, update_every=2)


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_what_is_handed_on_was_computed_before_the_step() -> None:
    program = program_of(calm)
    before = copy.deepcopy(program)
    images, targets = batch()
    given = [images]
    _, [hidden] = sweep(learners_of(program)[:1], objective(), given, [targets])
    assert torch.equal(hidden, before.parts[0](images).hidden)
    assert not hidden.requires_grad
    assert not torch.equal(hidden, program.parts[0](images).hidden)
    assert given == [images], "the list is the caller's"


def test_a_part_is_changed_by_its_own_loss_alone() -> None:
    """The step of the second part, after the first, is the step that it makes alone."""
    images, targets = batch()
    together, alone = program_of(calm), program_of(calm)
    sweep(learners_of(together), objective(), [images], [targets])
    hidden = alone.parts[0](images).hidden.detach()
    sweep(learners_of(alone)[1:], objective(), [hidden], [targets])
    for name, value in parameters(together.parts[1]).items():
        assert torch.equal(value, parameters(alone.parts[1])[name]), name
    assert all(p.grad is None for p in alone.parts[0].parameters())


def test_losses_are_reported_without_a_graph() -> None:
    images, targets = batch()
    steps, hidden = sweep(learners_of(program_of()), objective(), [images], [targets])
    assert hidden == [None]
    assert [step.part for step in steps] == [0, 1]
    for step in steps:
        assert step.transport is not None
        assert step.multiplier is not None
        for value in (step.loss, step.classification, step.transport, step.multiplier):
            assert value.dim() == 0
            assert not value.requires_grad
        expected = step.classification + step.transport / step.multiplier
        torch.testing.assert_close(step.loss, expected, check_dtype=False)


def test_without_a_cost_nothing_is_measured() -> None:
    images, targets = batch()
    [step, _], _ = sweep(learners_of(program_of()), vangl(), [images], [targets])
    assert step.transport is None
    assert step.multiplier is None
    assert torch.equal(step.loss, step.classification)


class Watched(torch.autograd.Function):
    """The identity, which saves a tensor of its own for backward."""

    saved: "list[weakref.ref[Tensor]]" = []  # noqa: RUF012

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        own = torch.ones_like(x)
        Watched.saved.append(weakref.ref(own))
        ctx.save_for_backward(own)
        return x * own

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0]


class Watcher(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = Watched.apply(x)
        return result


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What dies, dies by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("pieces", [1, 2])
def test_one_graph_at_a_time(pieces: int) -> None:
    """When a part runs, no tensor of the parts before it is alive but what they hand on."""

    def watched() -> SmallNet:
        net = SmallNet()
        for block in net.blocks:
            block.add_module("drop", Watcher())
        return net

    program = program_of(watched, modules=4)
    images, targets = batch()
    returned: list[weakref.ref[Tensor]] = []
    alive: list[tuple[int, int]] = []

    def before(*_: Any) -> None:
        counts = [sum(r() is not None for r in refs) for refs in (Watched.saved, returned)]
        alive.append((counts[0], counts[1]))

    def after(_: nn.Module, inputs: Any, output: PartOutput) -> None:
        returned.extend(map(weakref.ref, output))

    for part in program.parts:
        part.register_forward_pre_hook(before)
        part.register_forward_hook(after)
    Watched.saved.clear()
    with no_garbage_collection():
        inputs, goals = split(images, pieces), split(targets, pieces)
        sweep(learners_of(program), objective(), inputs, goals)
        before()
    assert (len(Watched.saved), len(returned)) == (4 * pieces, 12 * pieces)
    assert alive == [(0, 0)] * (4 * pieces + 1)


class Stem(nn.Module):
    """Saves nothing of its input, unlike a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 2, -1, -1) + 1


@pytest.mark.parametrize("pieces", [1, 2])
def test_what_a_part_has_read_is_freed(pieces: int) -> None:
    """Before its backward, if its graph does not need it; no list keeps it."""

    def first_reads_only() -> SmallNet:
        net = calm()
        net.stem = nn.Sequential(Stem(), net.stem)
        return net

    program = program_of(first_reads_only)
    images, targets = batch()
    inputs = [piece.clone() for piece in split(images, pieces)]
    read = [weakref.ref(piece) for piece in inputs]
    alive: list[int] = []
    parameter = program.get_parameter("head.bias")
    parameter.register_hook(lambda _: alive.append(sum(r() is not None for r in read)))
    first = program.get_parameter("auxiliary_heads.0.linear.bias")
    first.register_hook(lambda _: alive.append(sum(r() is not None for r in read)))
    with no_garbage_collection():
        sweep(learners_of(program), objective(), drain(inputs), split(targets, pieces))
    left = list(range(pieces))[::-1]
    assert alive == left + [0] * pieces


def test_gradients_die_with_the_step() -> None:
    program = program_of()
    images, targets = batch()
    sweep(learners_of(program), objective(), [images], [targets])
    assert all(p.grad is None for p in program.parameters())


def test_pieces_add_up_to_the_batch() -> None:
    """Without batch norm, a batch in pieces makes the step of the batch."""
    images, targets = batch(7)
    results, reports = [], []

    def without_batch_norm() -> SmallNet:
        net = calm()
        for block in net.blocks:
            block.add_module("norm", nn.GroupNorm(1, 4))
        return net

    for count in (1, 3):
        program = program_of(without_batch_norm, head="token").double()
        goal = objective()
        pieces = split(images.double(), count)
        steps, _ = sweep(learners_of(program), goal, pieces, split(targets, count))
        reports.append(steps)
        results.append(parameters(program))
        assert len(pieces) == count
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-9, atol=1e-12, msg=name)
    for one, many in zip(*reports, strict=True):
        torch.testing.assert_close(many.loss, one.loss)
        torch.testing.assert_close(many.transport, one.transport)


def test_multipliers_advance_once_for_a_batch_in_pieces() -> None:
    images, targets = batch()
    goal = lap(lambda0=0.5, lambda_rate=0.1, update_every=1)
    sweep(learners_of(program_of()), goal, split(images, 3), split(targets, 3))
    assert goal.state_dict()["multipliers.steps"].tolist() == [1, 1]


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_gradients_are_clipped_per_part(clip: float) -> None:
    images, targets = batch()
    moved = []
    for grad_clip in (None, clip):
        program = program_of(calm)
        before = [parameters(part) for part in program.parts]
        sweep(learners_of(program, lr=1.0, grad_clip=grad_clip), objective(), [images], [targets])
        after = [parameters(part) for part in program.parts]
        norms = [
            torch.stack([(b[n] - a[n]).norm() for n in a]).norm().item()
            for a, b in zip(after, before, strict=True)
        ]
        moved.append(norms)
    if clip < 1:
        assert moved[1] == pytest.approx([clip, clip], rel=1e-3)
    else:
        assert moved[1] == pytest.approx(moved[0], rel=1e-5)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_autocast(amp: str) -> None:
    program = program_of(calm)
    images, targets = batch()
    dtypes = []
    program.parts[1].register_forward_pre_hook(lambda _, inputs: dtypes.append(inputs[0].dtype))
    learners = learners_of(program, amp=amp)
    before = parameters(program)
    steps, _ = sweep(learners, objective(), [images], [targets], amp)
    assert dtypes == [torch.bfloat16 if amp == "bf16" else torch.float16]
    # the scalers begin with factors that overflow
    for _ in range(12 if amp == "fp16" else 0):
        sweep(learners, objective(), [images], [targets], amp)
    assert [learner.scaler.is_enabled() for learner in learners] == [amp == "fp16"] * 2
    assert all(step.loss.dtype == torch.float32 for step in steps)
    changed = {name for name, value in parameters(program).items() if value.ne(before[name]).any()}
    assert changed >= {"stem.weight", "head.weight", "auxiliary_heads.0.linear.weight"}


def test_a_scaler_skips_a_step_that_overflows() -> None:
    program = program_of(calm)
    images, targets = batch()
    learners = learners_of(program, amp="fp16")
    learners[0].scaler._scale = torch.tensor(3e38)
    learners[0].scaler._growth_tracker = torch.tensor(0, dtype=torch.int32)
    before = [parameters(part) for part in program.parts]
    sweep(learners, objective(), [images], [targets], "fp16")
    after = [parameters(part) for part in program.parts]
    assert all(torch.equal(after[0][name], before[0][name]) for name in before[0])
    assert any(not torch.equal(after[1][name], before[1][name]) for name in before[1])
    assert learners[0].scaler.get_scale() == pytest.approx(1.5e38)


def test_a_loss_that_is_not_finite_harms_nothing() -> None:
    program = program_of(calm)
    with torch.no_grad():
        program.get_parameter("head.weight")[0, 0] = float("nan")
    before = parameters(program.parts[1])
    images, targets = batch()
    goal = objective()
    with pytest.raises(LossError) as error:
        sweep(learners_of(program), goal, [images], [targets])
    assert goal.state_dict()["multipliers.steps"].tolist() == [1], "the first part's step alone"
    assert error.value.part == 1
    for name, value in parameters(program.parts[1]).items():
        # the head holds what is not a number
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_batches_of_several_tensors() -> None:
    one, two = torch.arange(5), torch.arange(10).view(5, 2)
    pieces = split((one, two), 2)
    assert [tuple(map(len, piece)) for piece in pieces] == [(3, 3), (2, 2)]
    assert torch.equal(torch.cat([piece[1] for piece in pieces]), two)
    assert len(split(one, 8)) == 5


def test_detach() -> None:
    x = torch.ones(2, requires_grad=True) * 2
    found = detach((x, (x, 3)))
    assert found[1][1] == 3
    assert not found[0].requires_grad
    assert not found[1][0].requires_grad
