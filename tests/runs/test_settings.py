"""From a configuration to what the trainer is given."""

from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.objectives import ProjectionCost, TransportCost
from fxtransport.runs.config import complete_config
from fxtransport.runs.settings import make_settings, settle, spread_evenly


@pytest.mark.parametrize(
    ("values", "parts", "spread"),
    [
        ([0.5], 3, (0.5, 0.5, 0.5)),
        ([0.5, 1.0], 1, (0.5,)),
        ([0.5, 1.0], 2, (0.5, 1.0)),
        ([0.5, 1.0], 5, (0.5, 0.5, 0.5, 1.0, 1.0)),
        ([1.0, 2.0, 4.0], 6, (1.0, 1.0, 2.0, 2.0, 4.0, 4.0)),
    ],
)
def test_values_are_spread_evenly(
    values: list[float], parts: int, spread: tuple[float, ...]
) -> None:
    assert spread_evenly(values, parts) == spread


def test_more_values_than_parts() -> None:
    with pytest.raises(UsageError, match="3 values of tau, and 2 parts"):
        spread_evenly([1.0, 2.0, 3.0], 2)


@pytest.mark.parametrize(
    ("method", "values", "present"),
    [
        ("lap", {}, [0.1]),
        ("fixed", {"objective.lambda0": 0.25}, [0.25]),
        ("trgl", {}, [0.5, 0.5, 1.0]),
        ("trgl", {"objective.tau": 2}, [2.0, 2.0, 2.0]),
        ("trgl-multipliers", {}, [1.0, 1.0, 1.0]),
    ],
)
def test_the_multipliers_of_a_method(
    method: str, values: dict[str, Any], present: list[float]
) -> None:
    settings = make_settings(complete_config({"objective.method": method, **values}), len(present))
    states = [settings.objective.state(part) for part in range(len(present))]
    assert [state.value.item() for state in states if state is not None] == present


def test_names_of_the_trainer() -> None:
    values = {"trainer.update_frozen_bn": True, "trainer.device": "cpu", "optimizer.lr": 0.5}
    settings = make_settings(complete_config(values), 1)
    assert settings.trainer.device == "cpu"
    assert settings.optimizer.lr == 0.5


@pytest.mark.parametrize("method", ["lap", "trgl"])
def test_the_cost_of_projections(method: str) -> None:
    values = {"objective.method": method, "objective.projections": "soft-matching"}
    config = complete_config({**values, "objective.p": 1.5, "objective.projection_pool": 4})
    blocks = TransportCost(p=1.5)
    assert make_settings(config, 2).objective.cost == ProjectionCost("soft-matching", blocks, 4)
    plain = complete_config({"objective.method": method})
    assert make_settings(plain, 2).objective.cost == TransportCost()
    assert not any("projection" in path for path in plain.values)


@pytest.mark.parametrize(
    ("amp", "device", "meant"),
    [
        ("auto", "cpu", "bf16"),
        ("auto", "cuda:1", "fp16"),
        ("fp16", "cpu", "fp16"),
        (None, "cpu", None),
    ],
)
def test_automatic_precision_is_that_of_the_device(
    amp: str | None, device: str, meant: str | None
) -> None:
    values = {"model.name": "nets:resnet_m", "trainer.device": device}
    config = settle(complete_config({**values, **({"trainer.amp": amp} if amp else {})}))
    assert config.get("trainer.amp") == meant
