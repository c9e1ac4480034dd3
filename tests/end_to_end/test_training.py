"""Models of timm learn digits by every method and schedule."""

import copy
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from fxtransport import Program, transportify
from fxtransport.data import Splits, load
from fxtransport.errors import UsageError
from fxtransport.objectives import Objective, fixed, lap, plain, trgl, trgl_multipliers, vangl
from fxtransport.training import (
    EndToEnd,
    EpochReport,
    MultiLap,
    Observer,
    OptimizerSettings,
    Parallel,
    Schedule,
    Sequential,
    Trainer,
    TrainerSettings,
)

MODELS: dict[str, dict[str, Any]] = {
    "resnet18": {"size": 16},
    "vit_tiny_patch16_224": {"size": 32, "img_size": 32, "patch_size": 8, "depth": 4},
    "swin_tiny_patch4_window7_224": {
        "size": 32,
        "img_size": 32,
        "window_size": 4,
        "depths": (2, 2, 2, 2),
    },
}
RUNS: dict[str, tuple[Callable[[], Objective], Schedule]] = {
    "plain end to end": (plain, EndToEnd(2)),
    "LAP end to end": (lambda: lap(lambda0=1.0, lambda_rate=0.1, update_every=2), EndToEnd(2)),
    "fixed multiplier": (lambda: fixed(0.05), EndToEnd(2)),
    "VanGL parallel": (vangl, Parallel(2)),
    "TRGL parallel": (lambda: trgl(tau=[5.0, 5.0, 10.0]), Parallel(2)),
    "TRGL sequential": (lambda: trgl(tau=5.0), Sequential(2)),
    "TRGL multi-lap": (lambda: trgl(tau=5.0), MultiLap(1, laps=2)),
    "multipliers": (
        lambda: trgl_multipliers(lambda0=1.0, lambda_rate=1.0, update_every=2),
        Parallel(2),
    ),
}


@cache
def splits(size: int) -> Splits:
    return load(
        "digits", seed=0, batch_size=10, input_size=(3, size, size), train_samples=40, test=0.05
    )


@cache
def compile_model(name: str) -> Program:
    torch.manual_seed(0)
    options = dict(MODELS[name])
    size = options.pop("size")
    model = timm.create_model(name, num_classes=10, **options)
    return transportify(model, torch.zeros(2, 3, size, size), modules=3, verify=False)


@cache
def two_streams() -> Program:
    """Pixels and patches cross from part to part."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4}
    options |= {"inner_dim": 8, "num_heads_outer": 2, "num_heads_inner": 2, "num_classes": 10}
    model = timm.create_model("tnt_s_patch16_224", **options)
    program = transportify(model, torch.zeros(2, 3, 32, 32), modules=3, verify=False)
    assert [len(cut.crossing) for cut in program.facts.partition.cuts] == [2, 2]
    return program


class Losses(Observer):
    """The loss of each part in each epoch that it trained."""

    def __init__(self) -> None:
        self.found: dict[int, list[float]] = {}

    def on_epoch(self, epoch: EpochReport) -> None:
        for part in epoch.parts:
            self.found.setdefault(part.part, []).append(part.classification)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", MODELS)
def test_it_learns(name: str, run: str) -> None:
    program = copy.deepcopy(compile_model(name))
    make, schedule = RUNS[run]
    data, losses = splits(MODELS[name]["size"]), Losses()
    trainer = Trainer(
        program,
        make(),
        schedule,
        optimizer=OptimizerSettings("adamw", lr=5e-4),
        settings=TrainerSettings(seed=0),
        observers=[losses],
    )
    report = trainer.fit(data.train, data.validation, data.test)
    assert sorted(losses.found) == ([2] if isinstance(schedule, EndToEnd) else [0, 1, 2])
    for found in losses.found.values():
        assert all(map(math.isfinite, found))
        assert found[-1] < found[0]
    assert report.best is not None
    assert report.test is not None
    assert report.test.part == report.best.exit.part


@pytest.mark.slow
@pytest.mark.parametrize("run", ["TRGL parallel", "TRGL sequential"])
def test_several_tensors_cross(run: str) -> None:
    make, schedule = RUNS[run]
    data, losses = splits(32), Losses()
    trainer = Trainer(
        copy.deepcopy(two_streams()),
        make(),
        schedule,
        optimizer=OptimizerSettings("adamw", lr=5e-4),
        settings=TrainerSettings(seed=0),
        observers=[losses],
    )
    trainer.fit(data.train, data.validation, data.test)
    assert all(found[-1] < found[0] for found in losses.found.values())
    assert sorted(losses.found) == [0, 1, 2]


def test_pixels_of_patches_are_not_cached(tmp_path: Path) -> None:
    """They are B·16×4×8, and which rows are whose only the model knows."""
    program, settings = copy.deepcopy(two_streams()), TrainerSettings(cache_hidden=True)
    trainer = Trainer(program, vangl(), Sequential(1), settings=settings, run=tmp_path)
    with pytest.raises(UsageError, match=r"shape \(160, 4, 8\) for 10 samples"):
        trainer.fit(splits(32).train)
    assert not list(tmp_path.glob("hidden*"))
