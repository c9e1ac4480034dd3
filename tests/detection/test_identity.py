import copy
import json
from typing import Any

import pytest
import torch

from fxtransport.compiler import transportify
from fxtransport.detection.identity import ModelIdentity, Preprocessing, identity_of, weights_hash
from fxtransport.errors import SavedDetectorError, UsageError
from tests.networks import Net


def identity() -> ModelIdentity:
    return ModelIdentity(
        "graph", "0" * 64, ("cat", "dog"), Preprocessing((3, 8, 8), (0.5,) * 3, (0.25,) * 3)
    )


def test_through_json() -> None:
    assert ModelIdentity.of(json.loads(json.dumps(identity().to_json()))) == identity()
    assert ModelIdentity.of(identity().to_json()) == identity()


def test_another_model_is_refused() -> None:
    """Also the same model after a step of training."""
    program = transportify(Net(2), torch.zeros(1, 3, 8, 8))
    own = identity_of(program, ["a", "b", "c", "d", "e"], identity().preprocessing)
    own.check(program)
    other = transportify(Net(3), torch.zeros(1, 3, 8, 8))
    with pytest.raises(SavedDetectorError, match="for another model: the graphs differ"):
        own.check(other)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.1)
    program(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    with pytest.raises(SavedDetectorError, match="for other weights of this model"):
        own.check(program)


def test_weights_have_one_hash_on_any_device_and_order() -> None:
    state = {
        "a": torch.arange(4.0),
        "b": torch.tensor(3),
        "c": torch.zeros(2, dtype=torch.bfloat16),
    }
    expected = weights_hash(state)
    assert weights_hash(dict(reversed(state.items()))) == expected
    assert weights_hash({**state, "a": torch.arange(8.0)[::2] / 2}) == expected
    for name, tensor in state.items():
        assert weights_hash({**state, name: tensor.reshape(1, -1)}) != expected
        assert weights_hash({**state, name: tensor + 1}) != expected
        assert weights_hash({**state, name: tensor.double()}) != expected
    assert weights_hash({**state, "d": torch.empty(0)}) != expected


BAD = [None, True, -1, 0, 1.5, "x", [], {}, [[]], [0], [None, None, None], float("nan"), 10**400]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_every_field_is_checked(bad: Any) -> None:
    """Any other value anywhere: refused, or taken as it stands where it has the right kind."""
    for path in [
        *((name,) for name in identity().to_json()),
        *(("preprocessing", name) for name in identity().to_json()["preprocessing"]),
        *(("preprocessing", name, at) for name in ("size", "mean", "std") for at in range(3)),
        ("classes", 0),
    ]:
        found = copy.deepcopy(identity().to_json())
        inner: Any = found
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = bad
        try:
            assert ModelIdentity.of(found).to_json() == found
        except UsageError:
            continue
        free = path[1:2] in [("mean",), ("std",)] and isinstance(bad, float | int)
        assert free or isinstance(bad, str), (path, bad)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": (3, 0, 8)}, "'size 1' is 0"),
        ({"size": (1, 8, 8)}, "mean and std are not of 1 numbers"),
        ({"std": (0.0, 1, 1)}, "'std 0' is 0.0"),
        ({"interpolation": "best"}, "'interpolation' is 'best', not one of nearest"),
        ({"size": (3, 8)}, "'size 2' is missing"),
        ({"size": (3, 8, 8, 8)}, "'size 3' is not of such"),
    ],
)
def test_preprocessing_that_is_refused(change: dict[str, Any], says: str) -> None:
    given = {"size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3, **change}
    with pytest.raises(UsageError, match=says):
        Preprocessing(**given)


@pytest.mark.parametrize(
    ("graph", "weights", "classes", "says"),
    [
        ("", "0" * 64, ("a",), "graph_hash is empty"),
        ("g", "0" * 63, ("a",), "weights_hash is not a SHA-256"),
        ("g", "0" * 64, (), "no classes"),
    ],
)
def test_models_that_are_refused(
    graph: str, weights: str, classes: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        ModelIdentity(graph, weights, classes, identity().preprocessing)
