"""Settings that are not valid are refused when they are made."""

import pytest

from fxtransport.errors import UsageError
from fxtransport.training import OptimizerSettings, TrainerSettings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amp": "fp8"}, "bf16, fp16"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"check_every": 0}, "check_every is 0"),
        ({"grad_clip": 0.0}, "grad_clip is 0.0"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes is -1.0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"update_frozen_bn": True, "cache_hidden": True}, "leave one of the two out"),
        ({"offload": "all"}, "offload is .all.; it must be one of frozen"),
        ({"offload": "frozen", "offload_to": "tape"}, "must be one of cpu, disk"),
        ({"offload_to": "disk"}, "set offload=.frozen. too"),
        ({"offload": "frozen", "ema": 0.9}, "leave one of the two out"),
        ({"checkpoint_blocks": (1, -1)}, "checkpoint_blocks is 1,-1; each number"),
        ({"checkpoint_blocks": (1,), "checkpoint_activations": True}, "leave one of the two out"),
        ({"cuda_graphs": True}, "set compile='inductor' too"),
        ({"cuda_graphs": True, "compile": "eager"}, "set compile='inductor' too"),
        (
            {"cuda_graphs": True, "compile": "inductor", "offload": "frozen"},
            "offload cannot be used with cuda_graphs",
        ),
    ],
)
def test_trainer_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainerSettings(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"scheduler_options": {"num_epochs": 3}}, "leave out num_epochs"),
    ],
)
def test_optimizer_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OptimizerSettings(**options)  # type: ignore[arg-type]
