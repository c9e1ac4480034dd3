"""What may be given as example_inputs, and what each means."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.example_inputs import example_of, input_size_of
from tests.networks import Net, VectorNet


class Pair(nn.Module):
    """Takes two arguments."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y[:, None]


def test_an_example_is_on_the_meta_device_and_has_two_samples() -> None:
    example = example_of(Net(), torch.zeros(1, 3, 9, 9))
    assert [tuple(x.shape) for x in example.inputs] == [(2, 3, 9, 9)]
    assert example.inputs[0].is_meta
    several = example_of(Pair(), (torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64)))
    assert [(tuple(x.shape), x.dtype) for x in several.inputs] == [
        ((5, 2), torch.float32),
        ((5,), torch.int64),
    ]


def test_a_model_may_say_the_size_and_dtype_of_its_input() -> None:
    assert input_size_of(timm.create_model("resnet18")) == (3, 224, 224)
    assert input_size_of(Net()) == (3, 8, 8)
    assert input_size_of(nn.Linear(2, 2)) is None
    example = example_of(VectorNet().bfloat16())
    assert (tuple(example.inputs[0].shape), example.inputs[0].dtype) == ((2, 6), torch.bfloat16)


@pytest.mark.parametrize("inputs", [(), (torch.zeros(()),)])
def test_an_example_needs_a_batch(inputs: tuple[torch.Tensor, ...]) -> None:
    with pytest.raises(UsageError, match="whose first dimension is the batch"):
        example_of(Net(), inputs)


def test_arguments_by_name_are_in_the_order_of_the_signature() -> None:
    example = example_of(Pair(), {"y": torch.zeros(3), "x": torch.zeros(3, 2)})
    assert example.names == ("x", "y")
    assert [tuple(x.shape) for x in example.inputs] == [(3, 2), (3,)]


def test_integers_keep_their_values() -> None:
    ids = torch.tensor([[3, 1]])
    example = example_of(Pair(), (ids, torch.zeros(1)))
    assert example.inputs[0].shape == (2, 2)
    assert example.values[1] is None
    assert example.values[0] is not None
    assert example.values[0].tolist() == [[3, 1]]
    ids.zero_()
    assert example.values[0].tolist() == [[3, 1]]


class Batch(nn.Module):
    """Takes a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x: Tensor = batch["x"] + self.linear(batch["x"]) * batch["scale"]
        return x


X = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 4)), "not a ndarray; give torch.as_tensor"),
        ([np.zeros((2, 4))], r"example_inputs\[0\] is a ndarray; give torch.as_tensor"),
        ({"x": {1: X}}, r"example_inputs\['x'\] is a dict of Tensor"),
        ((2, 4), r"at least one tensor.*give torch.zeros\(2, 4\)"),
        ([None], "at least one tensor is needed.*not a list of NoneType"),
        ("x", "not 'x'"),
        ({}, "at least one tensor is needed.*that is empty"),
        ({"z": X}, r"Net.forward, which takes x: .*'x'.* for one argument that is a dict, give \["),
        ([X, X], "Net.forward, which takes x: too many positional arguments"),
        ([X, None], "Net.forward, which takes x: too many positional arguments"),
    ],
)
def test_what_is_not_accepted(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        transportify(Net(), given)
    assert "\n" not in str(caught.value)


def test_a_dict_may_be_an_argument() -> None:
    model = nn.Sequential(Batch(), nn.Linear(4, 3))
    program = transportify(model, [{"x": X, "scale": torch.ones(2, 1)}], modules=2)
    batch = {"x": torch.randn(3, 4), "scale": torch.randn(3, 1)}
    assert torch.equal(program(batch), model(batch))
    assert torch.equal(program.parts[1](program.parts[0](batch).hidden).hidden, model(batch))
    assert len(program.transport(batch).residues) == 1


def test_a_list_may_be_an_argument() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, pair: list[Tensor]) -> Tensor:
            x: Tensor = pair[0] + self.linear(pair[1])
            return x

    model = Sum()
    program = transportify(model, [[X, X]])
    pair = [torch.randn(3, 4), torch.randn(3, 4)]
    assert torch.equal(program(pair), model(pair))
