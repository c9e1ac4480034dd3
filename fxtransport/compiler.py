"""From a model to a program, in Python."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.errors import MODEL_ERRORS, FxTransportError, GuardError, TraceError, UsageError
from fxtransport.example_inputs import ExampleInputs, example_of
from fxtransport.heads import build_head
from fxtransport.ir import (
    Block,
    HeadKind,
    HeadPlan,
    Layer,
    Layers,
    Origins,
    PartitionPlan,
    Recording,
    Residual,
    Residuals,
    Shapes,
    Taps,
    VerificationReport,
)
from fxtransport.lowered import Lowered
from fxtransport.passes.base import Pass
from fxtransport.passes.lower import Lower
from fxtransport.passes.pipeline import PassRun, Pipeline, run_passes
from fxtransport.passes.verify import Verify
from fxtransport.process import preserve_process
from fxtransport.program import Facts, Program
from fxtransport.program_options import configure_passes, document_options
from fxtransport.tracing.shadow import shadow_of
from fxtransport.unit import Example, Unit
from fxtransport.wrappers import unwrap


def transportify(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    verify: bool = True,
    **options: Any,
) -> Program:
    """Compile a model into a program: the same function, with its residues tapped, cut.

    The model is not changed; the program holds its submodules and parameters, not copies. Of
    a model that ``torch.compile``, DataParallel or DistributedDataParallel wraps, the program
    is that of the model inside, under the keys that it has there.

    Args:
        model: Any ``nn.Module`` whose forward takes tensors.
        example_inputs: A tensor B×…; a tuple or list of forward's arguments; or a dict from
            the names of forward's arguments to them, such as ``{"input_ids": ids,
            "attention_mask": mask}``. An argument is a tensor, None, a number, a bool, a
            string, or tuples, lists and dicts of these. Only shapes and dtypes of tensors
            matter; integers and bools that have values are verified with these values. What is
            no tensor is part of the program, which refuses another value. May be left out for
            timm models and models with an ``input_size``.
        verify: Compare numbers with the model's at the end, in both modes.
        options: See below.

    Raises:
        TraceError: the forward cannot be one graph: it decides on data, or raises.
        PartitionError: the model cannot be cut into as many parts.
        VerificationError: the program does not compute the model's numbers.
        UsageError: an option has a value that cannot be used, or there is no such option.

    >>> import torch
    >>> from torch import nn
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + self.linear(x).relu()
    >>> model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
    >>> program = transportify(model, torch.zeros(2, 8), modules=2)
    >>> [residual.path for residual in program.facts.residuals]
    ['0', '1']
    >>> program.transport(torch.ones(2, 8)).energies.shape
    torch.Size([2])
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"transportify takes an nn.Module, not {model!r}; for the name of a model use "
            "fxtransport.compile_named"
        )
    passes = compile_passes(verify=verify, **options)
    model = unwrap(model)
    example = example_of(model, example_inputs)
    given = example_of(model, example_inputs, least_batch=1)
    if given.batch_size == example.batch_size:
        return compile_program(model, example, passes)
    return _compile_one_of(model, (example, given), passes)


document_options(transportify)


def compile_passes(*, verify: bool = True, **options: Any) -> tuple[Pass, ...]:
    """The passes that make a program, each with those of the options that it declares.

    Raises:
        UsageError: an option has a value that cannot be used, or there is no such option.
    """
    configured = configure_passes(options)
    passes = (*configured, Lower())
    return (*passes, Verify()) if verify else passes


def compile_program(
    model: nn.Module,
    example: Example,
    passes: Sequence[Pass],
    observe: Callable[[PassRun], None] = lambda _: None,
) -> Program:
    """Run passes and put the program together."""
    return program_of(run_passes(Unit(model, example), passes, observe=observe))


def _compile_one_of(
    model: nn.Module, examples: tuple[Example, Example], passes: Sequence[Pass]
) -> Program:
    """The program for an example that was made larger, or for the one that the user gave.

    A batch of one may be taken for a dimension to broadcast. But some models take no other.
    """
    larger, given = examples
    try:
        program = compile_program(model, larger, passes)
    except TraceError as error:
        try:
            return compile_program(model, given, passes)
        except FxTransportError:
            raise error from None
    if _accepts(program, given):
        return program
    return compile_program(model, given, passes)


def _accepts(program: Program, example: Example) -> bool:
    """Whether no guard of a program refuses an example; only shapes matter."""
    model, inputs = program._model[0], example.inputs
    try:
        with preserve_process(model), torch.no_grad(), torch.device("meta"):
            program.lowered.forward.call(shadow_of(model), *inputs)
    except GuardError:
        return False
    except MODEL_ERRORS:
        return True
    return True


def program_of(unit: Unit) -> Program:
    """The program of a unit that has been lowered."""
    plan = unit.fact(HeadPlan)
    devices = _devices(unit.model)
    heads = {
        k: build_head(spec).to(_device_of_part(unit.fact(Lowered).parts[k].owned, devices))
        for k, spec in enumerate(plan.heads)
        if spec.kind not in (HeadKind.NONE, HeadKind.MODEL)
    }
    facts = Facts(
        pipeline=str(Pipeline.of(unit)),
        example=unit.example,
        graph=unit.traced(),
        shapes=unit.fact(Shapes),
        residuals=unit.fact(Residuals).found,
        layers=unit.fact(Layers).found,
        partition=unit.fact(PartitionPlan),
        heads=plan,
        verification=unit.fact(VerificationReport) if unit.has(VerificationReport) else None,
        activations=tuple(tap.name for tap in unit.fact(Taps).activations),
        blocks=_blocks(unit),
    )
    return Program(unit.model, unit.fact(Lowered), facts, heads)


def _devices(model: nn.Module) -> dict[str, torch.device]:
    """The devices of all parameters and buffers."""
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.device for name, tensor in named}


def _blocks(unit: Unit) -> tuple[Block, ...]:
    """The blocks that are tapped, by the node after which each is measured."""
    graph, batch = unit.traced(), unit.fact(Shapes).batch_size
    finder = LayoutFinder(graph, unit.fact(Recording), unit.fact(Origins))
    known: dict[str, Residual | Layer] = {r.node: r for r in unit.fact(Residuals).found}
    known |= {layer.output: layer for layer in unit.fact(Layers).found}
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    found = []
    for tap in sorted(unit.fact(Taps).found, key=lambda tap: position[tap.output]):
        block = known[tap.sum]
        layout = finder.layout(tap.sum, (batch, *block.shape))
        found.append(Block(block.path, tap.kind, block.shape, block.stage, layout, tap.input))
    return tuple(found)


def _device_of_part(owned: Sequence[str], devices: dict[str, torch.device]) -> torch.device:
    """The device of the last tensor that a part holds; of the model's first if it has none."""
    own = (device for name, device in reversed(devices.items()) if _is_inside(name, owned))
    found = next(own, None) or next(iter(devices.values()), None)
    return found or torch.get_default_device()


def _is_inside(name: str, paths: Sequence[str]) -> bool:
    return any(name == path or name.startswith(f"{path}.") for path in paths)
