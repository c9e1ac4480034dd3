"""From a model to a program: the example, the passes, and what a program knows."""

import pytest
import timm
import torch
from torch import nn

from fxtransport.compiler import compile_passes, compile_program, example_of, input_size_of
from fxtransport.errors import UsageError
from fxtransport.passes.pipeline import PassRun
from tests.networks import Net, VectorNet


def test_an_example_is_on_the_meta_device_and_has_two_samples() -> None:
    example = example_of(Net(), torch.zeros(1, 3, 9, 9))
    assert [tuple(x.shape) for x in example.inputs] == [(2, 3, 9, 9)]
    assert example.inputs[0].is_meta
    several = example_of(Net(), (torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64)))
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


def test_passes_are_observed_and_known_to_the_program() -> None:
    seen: list[PassRun] = []
    model = Net().double()
    passes = compile_passes(modules=2, verify=False)
    program = compile_program(model, example_of(model), passes, observe=seen.append)
    names = [run.name for run in seen]
    assert [text.partition("{")[0] for text in program.facts.pipeline.split(",")] == names
    assert names[-1] == "lower"
    assert program.facts.verification is None
    head = program.parts[0].auxiliary_head
    assert head is not None
    assert {p.dtype for p in head.parameters()} == {torch.float64}
