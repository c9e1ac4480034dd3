"""State of any nesting comes back the same, and what does not fit is refused."""

import json
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fxtransport.errors import CheckpointError
from fxtransport.training.flatten import Flattened, unflatten

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TENSORS = st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(torch.tensor)
STATES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


def assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
        assert a.dtype == b.dtype
        assert a.stride() == b.stride()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def round_trip(state: Any) -> Any:
    flat = Flattened(state)
    return unflatten(json.loads(json.dumps(flat.tree)), flat.tensors)


@given(STATES)
def test_round_trip(state: Any) -> None:
    assert_equal(round_trip(state), state)


def test_floats_are_exact_and_may_be_infinite() -> None:
    for value in (0.1 + 0.2, 1e-310, float("inf"), -0.0):
        assert str(round_trip({"x": value})["x"]) == str(value)


def test_an_ordered_dictionary_becomes_a_dictionary() -> None:
    assert round_trip(OrderedDict(a=1, b=2)) == {"a": 1, "b": 2}


def test_layouts_come_back() -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert_equal(round_trip([image, image.mT]), [image, image.mT])


def test_tensors_that_share_memory() -> None:
    whole = torch.arange(6.0)
    state = {"whole": whole, "again": whole, "part": whole[2:4], "turned": whole.view(2, 3).mT}
    flat = Flattened(state)
    # as safetensors wants it: what is the same once, and nothing else in the same memory
    assert set(flat.tensors) == {"whole", "part", "turned"}
    assert len({t.untyped_storage().data_ptr() for t in flat.tensors.values()}) == 3
    assert_equal(unflatten(flat.tree, flat.tensors), state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [object()]}, r"cannot save a\.0: .* of type object"),
        ({"a": {1: {2}}}, r"cannot save a\.1: .* of type set"),
        ({(1, 2): 0}, "of type tuple"),
        ({"f": nn.ReLU()}, "of type ReLU"),
        (torch.zeros(2, device="meta"), "not a dense tensor"),
        ({"s": torch.zeros(2, 2).to_sparse()}, "cannot save s: it is not a dense tensor"),
    ],
)
def test_what_does_not_fit_is_refused(state: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Flattened(state)


@pytest.mark.parametrize(
    "tree", [{"pickle": "x"}, {"tensor": "there is none"}, {"dict": [[1]]}, [{"tuple": 3}], {}]
)
def test_a_damaged_tree_is_refused(tree: Any) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        unflatten(tree, {})
