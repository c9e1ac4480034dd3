"""Steps of every method, precision and schedule on a CUDA device, and where their tensors are.

Where the CPU computes what the device would, they are the CPU's steps bit for bit.
"""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from fxtransport import Program, transportify
from fxtransport.objectives import Objective, fixed, lap, plain, rce, trgl, trgl_multipliers
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    OptimizerSettings,
    Parallel,
    Schedule,
    Sequential,
    Trainer,
    TrainerSettings,
)
from tests.training.runs import calm, program_of, samples

pytestmark = pytest.mark.cuda

METHODS: dict[str, Objective] = {
    "plain": plain(),
    "rce": rce(),
    "lap": lap(lambda0=0.5, lambda_rate=0.1, update_every=1),
    "fixed": fixed(lambda0=0.5),
    "trgl": trgl(tau=(0.5, 1.0)),
    "trgl-multipliers": trgl_multipliers(lambda0=0.5, lambda_rate=0.1, update_every=1),
}
SCHEDULES: dict[str, Schedule] = {
    "end-to-end": EndToEnd(1),
    "parallel": Parallel(1),
    "sequential": Sequential(1),
    "multi-lap": MultiLap(1, laps=2),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "checkpointed": {"checkpoint_activations": True},
    "norms again": {"recompute_norms": True},
    "channels last": {"channels_last": True},
    "in pieces": {"accumulate": 2, "grad_clip": 0.1},
    "averaged": {"ema": 0.9},
    "frozen batch norms": {"update_frozen_bn": True},
    "offloaded": {"offload": "frozen"},
    "offloaded to the disk": {"offload": "frozen", "offload_to": "disk"},
    "checkpointed and offloaded": {"checkpoint_activations": True, "offload": "frozen"},
}
IN_TURN = ("sequential", "multi-lap")


@functools.cache
def program() -> Program:
    return program_of(calm, 2)


def trainer_of(
    method: str,
    schedule: str,
    run: Path | None = None,
    optimizer: OptimizerSettings | None = None,
    **settings: Any,
) -> Trainer:
    return Trainer(
        copy.deepcopy(program()),
        copy.deepcopy(METHODS[method]),
        SCHEDULES[schedule],
        optimizer=optimizer or OptimizerSettings(lr=0.05),
        settings=TrainerSettings(seed=0, **settings),
        run=run,
    )


def train(trainer: Trainer) -> list[float]:
    """Two steps in every phase; the losses."""
    batches = samples(8)
    losses = []
    last = len(trainer._engine.phases) - 1
    for i, phase in enumerate(trainer._engine.phases):
        for _ in range(2):
            for part in trainer.step(batches.inputs, batches.targets).parts:
                assert part.loss.device.type == part.classification.device.type
                losses.append(part.loss.item())
        # after the last one, the optimizers would have no state
        for _ in range(phase.epochs if i < last else 0):
            trainer.end_epoch()
    return losses


def state(trainer: Trainer) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights, multipliers, and the state of optimizers."""
    yield from trainer.program.state_dict().items()
    yield from trainer._engine.state.objective.state_dict().items()
    for k, learner in trainer._engine.state.learners.items():
        for i, values in learner.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    yield f"{k}.{i}.{name}", value


def places(trainer: Trainer) -> set[str]:
    return {value.device.type for name, value in state(trainer) if not name.endswith(".step")}


def assert_same(found: Trainer, expected: Trainer, rounding: float = 0.0) -> None:
    """Bit for bit where the CPU computes, but for rounding; else as sums on a device allow."""
    is_emulated = torch.cuda.get_device_name() == "no device"
    bounds = {"rtol": rounding, "atol": rounding} if is_emulated else {"rtol": 1e-2, "atol": 1e-3}
    others = dict(state(expected))
    assert len(others) == len(list(state(found)))
    for name, value in state(found):
        torch.testing.assert_close(value.cpu(), others[name].cpu(), msg=name, **bounds)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
@pytest.mark.parametrize("method", METHODS)
def test_steps(method: str, amp: str | None, schedule: str) -> None:
    on_device = trainer_of(method, schedule, device="cuda", amp=amp)
    losses = train(on_device)
    assert len(losses) == {"end-to-end": 2, "multi-lap": 8}.get(schedule, 4)
    assert places(on_device) == {"cuda"}
    assert all(torch.isfinite(value).all() for _, value in state(on_device))
    if amp is None:
        on_cpu = trainer_of(method, schedule)
        train(on_cpu)
        assert_same(on_device, on_cpu)


CASES = [
    (name, schedule)
    for name, options in OPTIONS.items()
    for schedule in (IN_TURN if "offload" in options else SCHEDULES)
]
"""Parts rest only where they train in turn."""


@pytest.mark.parametrize(("name", "schedule"), CASES)
def test_options(name: str, schedule: str, tmp_path: Path) -> None:
    """Beside memory, they change nothing but what they do on the CPU too."""
    options = dict(OPTIONS[name])
    offloaded = "offload" in options
    on_device = trainer_of("trgl", schedule, tmp_path, device="cuda", amp=None, **options)
    train(on_device)
    assert places(on_device) == ({"cpu", "cuda"} if offloaded else {"cuda"})
    for key in ("offload", "offload_to"):
        options.pop(key, None)
    on_cpu = trainer_of("trgl", schedule, **options)
    train(on_cpu)
    # cuDNN's batch norm lays out gradients as its input, in which order they are added
    assert_same(on_device, on_cpu, rounding=1e-6 if name == "channels last" else 0.0)


@pytest.mark.parametrize("schedule", ["parallel", "multi-lap"])
@pytest.mark.parametrize("name", ["momentum", "sgd", "adam", "adamw"])
def test_fused_optimizers(name: str, schedule: str, tmp_path: Path) -> None:
    """All state is on the device, and follows a part that is moved away from it."""
    optimizer = OptimizerSettings(name, lr=0.05, options={"fused": True})
    offload = "frozen" if schedule in IN_TURN else None
    on_device = trainer_of("trgl", schedule, tmp_path, optimizer, device="cuda", offload=offload)
    train(on_device)
    trained = on_device._engine.state.learners[1].optimizer
    values = [value for state in trained.state.values() for value in state.values()]
    assert {value.device.type for value in values} == {"cuda"}
    on_cpu = trainer_of("trgl", schedule, optimizer=optimizer)
    train(on_cpu)
    assert_same(on_device, on_cpu)


def test_fused_optimizers_unscale_gradients_themselves() -> None:
    optimizer = OptimizerSettings("adamw", options={"fused": True})
    trainer = trainer_of("trgl", "parallel", optimizer=optimizer, device="cuda", amp="fp16")
    before = {name: value.clone() for name, value in trainer.program.named_parameters()}
    train(trainer)
    after = dict(trainer.program.named_parameters())
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(method: str, schedule: str) -> None:
    trainer = trainer_of(method, schedule, device="cuda", amp="bf16", grad_clip=1.0)
    batches = samples(8)
    for phase in trainer._engine.phases:
        trainer.step(batches.inputs, batches.targets)
        torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.step(batches.inputs, batches.targets)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for _ in range(phase.epochs):
            trainer.end_epoch()


SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    "resnet18": (32, {}),
    "vit_tiny_patch16_224": (32, {"img_size": 32, "depth": 3}),
    "swin_tiny_patch4_window7_224": (
        56,
        {"img_size": 56, "depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 4)},
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_programs_are_compiled_and_verified_on_the_device(name: str) -> None:
    size, options = SMALL[name]
    model = timm.create_model(name, num_classes=10, **options).cuda()
    program = transportify(model, torch.zeros(2, 3, size, size), modules=2)
    assert {tensor.device.type for tensor in program.state_dict().values()} == {"cuda"}
    trainer = Trainer(program, trgl(tau=0.5), Parallel(1), settings=TrainerSettings(seed=0))
    images = torch.randn(4, 3, size, size)
    report = trainer.step(images, torch.tensor([0, 1, 2, 3]))
    assert [torch.isfinite(part.loss).item() for part in report.parts] == [True, True]
