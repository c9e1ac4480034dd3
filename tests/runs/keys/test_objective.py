"""The keys of the objective: τ in the forms that it is written in, and which method has which."""

from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.objectives.projections import METHODS as METHODS_OF_PROJECTIONS
from fxtransport.runs.keys.key import METHODS, DefaultBy
from fxtransport.runs.keys.objective import KEYS

BY_NAME = {key.path.removeprefix("objective."): key for key in KEYS}


@pytest.mark.parametrize(
    ("value", "numbers"),
    [("0.5", [0.5]), ("0.5,1", [0.5, 1.0]), (2, [2.0]), ([1, 0.5], [1.0, 0.5])],
)
def test_tau_is_one_number_or_several(value: Any, numbers: list[float]) -> None:
    read = BY_NAME["tau"].read
    assert read is not None
    found = read(value)
    assert found == numbers
    assert {type(number) for number in found} == {float}


def test_tau_that_is_no_number() -> None:
    read = BY_NAME["tau"].read
    assert read is not None
    with pytest.raises(UsageError, match=r"such as 0\.5,1, not '0\.5;1'"):
        read("0.5;1")


def methods_of(name: str) -> set[str]:
    default = BY_NAME[name].default
    assert isinstance(default, DefaultBy)
    assert default.path == "objective.method"
    return set(default.values)


def test_each_method_has_its_multiplier() -> None:
    assert methods_of("tau") == {"trgl"}
    assert methods_of("lambda0") == {"lap", "trgl-multipliers", "fixed"}
    for name in ("lambda_rate", "update_every", "order"):
        assert methods_of(name) == {"lap", "trgl-multipliers"}
    for name in ("p", "reduction", "residue", "kinds", "projections"):
        assert methods_of(name) == set(METHODS) - {"vangl", "e2e"}


def test_the_ways_to_measure_projections_are_those_of_the_cost() -> None:
    assert BY_NAME["projections"].choices == METHODS_OF_PROJECTIONS
    pool = BY_NAME["projection_pool"].default
    assert isinstance(pool, DefaultBy)
    assert pool.values == dict.fromkeys(METHODS_OF_PROJECTIONS, "mean")
