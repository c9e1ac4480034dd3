"""From a model to a program: the example, the passes, and what a program knows."""

import torch

from fxtransport.compiler import compile_passes, compile_program
from fxtransport.example_inputs import example_of
from fxtransport.passes.pipeline import PassRun
from tests.networks import Net


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
