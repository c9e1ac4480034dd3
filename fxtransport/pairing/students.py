"""The student's program, with the layers tapped that may be paired."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fxtransport.compiler import compile_passes, compile_program
from fxtransport.errors import UsageError
from fxtransport.example import Example
from fxtransport.example_inputs import ExampleInputs, example_of
from fxtransport.names import ModelSpec
from fxtransport.origin import Origin
from fxtransport.pairing.sites import Pairing, wanted_names, with_taps
from fxtransport.passes.base import Pass
from fxtransport.passes.pipeline import Pipeline
from fxtransport.program import Program
from fxtransport.targets import open_target
from fxtransport.wrappers import unwrap


def open_student(
    student: str | ModelSpec | nn.Module | Program,
    layers: Pairing,
    example_inputs: ExampleInputs | None,
    **options: Any,
) -> tuple[Program, Origin | None]:
    """The student's program with its layers tapped, and its name if it has one."""
    if isinstance(student, Program):
        return tapped_again(student, layers), student.facts.origin
    origin = None
    if isinstance(student, nn.Module):
        model = unwrap(student)
        example = example_of(model, example_inputs)
    else:
        if example_inputs is not None:
            raise UsageError("a student that is named takes input_size, not example_inputs")
        size = options.pop("input_size", None)
        target = open_target(student, input_size=size, pretrained=options.pop("pretrained", False))
        model, example, origin = target.model, target.example, target.origin
    passes = compile_passes(**options)
    return compile_tapped(model, example, passes, layers, origin), origin


def compile_tapped(
    model: nn.Module,
    example: Example,
    passes: Sequence[Pass],
    layers: Pairing,
    origin: Origin | None = None,
) -> Program:
    """A student's program with the layers tapped that may be paired.

    Raises:
        FxTransportError: it cannot be compiled, or has no such layer.
    """
    names = wanted_names(layers, 0, model, example, passes)
    program = compile_program(model, example, with_taps(passes, names))
    program.facts = program.facts._replace(origin=origin)
    return program


def tapped_again(program: Program, layers: Pairing) -> Program:
    """The program itself where the layers are tapped, or another of the same model and heads."""
    model, example = program._model[0], program.facts.example
    passes = Pipeline.parse(program.facts.pipeline).passes
    names = wanted_names(layers, 0, model, example, passes)
    if set(names) <= set(program.facts.activations):
        return program
    again = compile_program(model, example, with_taps(passes, names))
    again.facts = again.facts._replace(origin=program.facts.origin)
    heads = {k: v for k, v in program.state_dict().items() if k not in program.model_state_dict()}
    own = again.state_dict()
    for name, tensor in heads.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UsageError(
                "with its layers tapped the program is cut elsewhere, so its heads do not fit: "
                f"compile it with activations={tuple(names)!r}"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
    return again
