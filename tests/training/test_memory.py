"""Predicted peaks against torch's own trackers, and what they consist of."""

import copy
from typing import Any
from unittest import mock

import pytest
import torch
from timm import create_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from benchmarks.allocated import allocated_peak
from fxtransport import Program, transportify
from fxtransport.nets import resnet_m
from fxtransport.objectives import plain, trgl
from fxtransport.pairing.pairs import pair
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    OptimizerSettings,
    Parallel,
    Sequential,
    Trainer,
    TrainerSettings,
    steps,
)
from fxtransport.training.learner import Learner
from fxtransport.training.memory import MemoryKind, step_memory
from tests.networks import DigitsNet, Net


def program_of(model: nn.Module, size: int, modules: int) -> Program:
    example = torch.empty(2, 3, size, size, device="meta")
    return transportify(model, example, modules=modules, verify=False)


def small() -> Program:
    return transportify(DigitsNet(), torch.empty(2, 1, 8, 8), modules=2, verify=False)


def tracked(program: Program, size: int, batch_size: int) -> int:
    """The peak of the second step of all parts, by torch's tracker, without kernels' workspaces."""
    with FakeTensorMode() as mode:
        memo: dict[int, Any] = {}
        for tensor in (*program.parameters(), *program.buffers()):
            memo[id(tensor)] = mode.from_tensor(tensor)
        fake, objective = copy.deepcopy(program, memo).train(), trgl(0.5)
        settings = TrainerSettings(), torch.device("cpu")
        learners = [Learner(part, 1, OptimizerSettings(), *settings) for part in fake.parts]
        images = torch.empty(batch_size, 3, size, size)
        targets = torch.zeros(batch_size, dtype=torch.int64)
        tracker = MemTracker()
        tracker.track_external(fake, images, targets, *(each.optimizer for each in learners))
        with tracker, mock.patch.object(steps, "require_finite"):
            for _ in range(2):
                hidden = [images]
                for learner in learners:
                    _, hidden = steps.train_part(learner, objective, steps.drain(hidden), [targets])
                    tracker.reset_mod_stats()
        found = tracker.get_tracker_snapshot("peak")
    return int(sum(device["Total"] for device in found.values()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10t", {"num_classes": 10}),
        ("vit_tiny_patch16_224", {"num_classes": 10, "depth": 3, "img_size": 32}),
    ],
)
def test_the_peak_is_that_of_the_tracker(name: str, options: dict[str, Any]) -> None:
    program = program_of(create_model(name, **options), 32, 2)
    with mock.patch("fxtransport.peaks.kernel_workspace", lambda *_: 0):
        found = step_memory(program, trgl(0.5), Parallel(1), batch_size=32)
    assert found.peak_bytes == pytest.approx(tracked(program, 32, 32), rel=0.03)
    assert found.peak_bytes == max(found.parts)


@pytest.mark.parametrize("cut", ["1", "2"])
def test_the_peak_in_batch_norm_of_a_stem_is_that_of_the_allocator(cut: str) -> None:
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
    model = nn.Sequential(*stem, nn.AvgPool2d(4), *Net(2, width=32, input_size=(32, 8, 8)).blocks)
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)])
    program = transportify(model, torch.empty(2, 3, 32, 32), cuts=[cut], verify=False)
    predicted = step_memory(program, trgl(0.5), Parallel(1), batch_size=32)
    trainer = Trainer(program, trgl(0.5), Parallel(1))
    images, targets = torch.rand(32, 3, 32, 32), torch.arange(32) % 5
    trainer.step(images, targets)
    real = allocated_peak(program, trainer, images, targets)
    assert predicted.peak_bytes == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize(
    ("terms", "pool", "width"),
    [
        ("kd:1", "mean", 24),
        ("ot:0.1,kd:0.5", "none", 24),
        ("ot:1", "none", 16),
        ("identity:1,l2-sp:1", "none", 16),
        ("partial:1", 4, 16),
        ("sinkhorn:1", "none", 24),
        ("uniform:1", "mean", 24),
        ("feature:1", "none", 24),
        ("l2:1", "mean", 24),
    ],
)
def test_a_teacher_and_what_its_terms_hold_are_those_of_the_allocator(
    terms: str, pool: str | int, width: int
) -> None:
    student, teacher = (resnet_m(3, channels=c, image_size=8) for c in (16, width))
    found = pair(student, teacher, "auto", pool=pool, modules=2, verify=False)
    program, transfer = found.student, found.transfer(terms)
    predicted = step_memory(program, trgl(0.5), Parallel(1), batch_size=128, transfer=transfer)
    trainer = Trainer(program, trgl(0.5), Parallel(1), transfer=transfer)
    images, targets = torch.rand(128, 1, 8, 8), torch.arange(128) % 10
    trainer.step(images, targets)
    real = allocated_peak(program, trainer, images, targets)
    assert predicted.peak_bytes == pytest.approx(real, rel=0.03)
    plain = step_memory(program, trgl(0.5), Parallel(1), batch_size=128)
    assert plain.peak_bytes < predicted.peak_bytes


def test_the_kinds_add_up() -> None:
    program = small()
    found = step_memory(program, trgl(0.5), Parallel(1), batch_size=64)
    assert sum(found.kinds.values()) == found.peak_bytes
    owned = [t for t in program.model_state_dict().values() if t.is_floating_point()]
    assert found.kinds[MemoryKind.PARAMETERS] >= sum(t.nbytes for t in owned)
    assert min(found.kinds[kind] for kind in (MemoryKind.HEADS, MemoryKind.ACTIVATIONS)) > 0


@pytest.mark.parametrize("name", ["momentum", "adamw", "lamb", "adafactor"])
def test_optimizers_hold_what_they_hold(name: str) -> None:
    program = small()
    found = step_memory(
        program, plain(), EndToEnd(1), batch_size=4, optimizer=OptimizerSettings(name=name)
    )
    real = Learner(
        copy.deepcopy(program.whole),
        1,
        OptimizerSettings(name=name),
        TrainerSettings(),
        torch.device("cpu"),
    )
    for parameter in real.part.parameters():
        parameter.grad = torch.zeros_like(parameter)
    real.optimizer.step()
    state = [v for each in real.optimizer.state.values() for v in each.values()]
    held = sum(v.nbytes for v in state if isinstance(v, torch.Tensor))
    assert found.kinds[MemoryKind.OPTIMIZER] == held


def test_half_precision_saves_activations() -> None:
    program = small()
    full, half = (
        step_memory(
            program, plain(), EndToEnd(1), batch_size=256, settings=TrainerSettings(amp=amp)
        )
        for amp in (None, "bf16")
    )
    assert half.kinds[MemoryKind.ACTIVATIONS] < 0.8 * full.kinds[MemoryKind.ACTIVATIONS]


def test_pieces_of_a_batch_save_activations() -> None:
    program = small()
    whole, pieces = (
        step_memory(
            program, plain(), EndToEnd(1), batch_size=256, settings=TrainerSettings(accumulate=n)
        )
        for n in (1, 4)
    )
    assert pieces.peak_bytes < 0.6 * whole.peak_bytes


def test_parts_in_turn_hold_one_optimizer() -> None:
    program = small()
    parallel, sequential, laps = (
        step_memory(program, trgl(0.5), schedule, batch_size=4)
        for schedule in (Parallel(1), Sequential(1), MultiLap(1, laps=2))
    )
    state = {k: each.kinds for k, each in enumerate((parallel, sequential, laps))}
    assert state[1][MemoryKind.OPTIMIZER] < state[0][MemoryKind.OPTIMIZER]
    assert state[2][MemoryKind.OPTIMIZER] == state[0][MemoryKind.OPTIMIZER]
