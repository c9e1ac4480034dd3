"""Examples: their tensors, their batch, how a model is called with them, and as JSON."""

import json
from typing import Any

import pytest
import torch

from fxtransport.example import Example, example_from


def nested() -> Example:
    """A batch of 3, and what has no batch."""
    ids = torch.empty(3, 4, dtype=torch.int64, device="meta")
    pair = (torch.empty(3, device="meta"), torch.empty((), device="meta"))
    table = [torch.empty(7, 2, dtype=torch.bool, device="meta"), "first", None, 2]
    return Example(({"ids": ids}, pair, table), ("batch", "pair", "table"))


def shapes(inputs: Any) -> Any:
    """The shapes of the tensors."""
    return [tuple(x.shape) for x in Example(inputs).tensors]


def test_the_batch_is_resized_and_nothing_else() -> None:
    example = nested()
    assert example.batch_size == 3
    found = example.resized(5, "meta")
    assert shapes(found) == [(5, 4), (5,), (), (7, 2)]
    assert [x.dtype for x in Example(found).tensors] == [x.dtype for x in example.tensors]
    assert found[2][1:] == ["first", None, 2]
    assert {x.device.type for x in Example(found).tensors} == {"meta"}


def test_a_model_is_called_by_position_or_by_name() -> None:
    def call(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert Example((torch.empty(2), None)).call(call, [1, None]) == ((1, None), {})
    assert nested().call(call, [1, 2, 3]) == ((), {"batch": 1, "pair": 2, "table": 3})


def test_values_go_along_with_their_tensors() -> None:
    x, y = torch.empty(2), torch.empty(2, dtype=torch.int64)
    example = Example((x, [y]), values=(None, torch.tensor([4, 5])))
    found = example.map(lambda tensor, values: tensor.dtype if values is None else values.tolist())
    assert found == (torch.float32, [[4, 5]])


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_description_is_json_and_can_be_read(batch: int) -> None:
    example = nested()
    resized = Example(example.resized(batch, "meta"), example.names)
    text = json.dumps(resized.described())
    found = example_from(json.loads(text))
    assert found.names == example.names
    assert shapes(found.inputs) == shapes(resized.inputs)
    assert [x.dtype for x in found.tensors] == [x.dtype for x in example.tensors]
    assert found.inputs[2][1:] == ["first", None, 2]
    assert isinstance(found.inputs[1], tuple)


def test_the_usual_description_is_short() -> None:
    example = Example((torch.empty(2, 3, 8, 8),))
    assert example.described() == ({"shape": [3, 8, 8], "dtype": "float32"},)


@pytest.mark.parametrize(
    "described",
    [
        [],
        [{"shape": [0], "dtype": "float32"}],
        [{"shape": [3], "dtype": "float33"}],
        [{"shape": [3], "dtype": "float32", "batch": "two"}],
        [{"list": {"a": 1}}],
        [{"value": [1]}],
        [{"value": 1}],
        [{"name": "x", "value": 1}, {"shape": [3], "dtype": "float32"}],
        ["x"],
    ],
)
def test_what_describes_no_example(described: list[Any]) -> None:
    with pytest.raises((ValueError, AttributeError)):
        example_from(described)
