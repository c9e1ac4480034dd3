"""What detectors need of a model, from its name, from the model, or from a program."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from fxtransport.compiler import transportify
from fxtransport.detection import Extractor, TransportFeatures
from fxtransport.detection.head import PENULTIMATE
from fxtransport.errors import UsageError
from fxtransport.example_inputs import ExampleInputs
from fxtransport.ir import Kind
from fxtransport.names import ModelSpec
from fxtransport.program import Program
from fxtransport.targets import compile_named


def transport_features(
    target: str | ModelSpec | nn.Module | Program,
    example_inputs: ExampleInputs | None = None,
    *,
    kinds: Iterable[Kind | str] | None = None,
    directions: int = 1,
    differentiable: bool = False,
    **options: Any,
) -> TransportFeatures:
    """The features of a model, which is compiled unless it is a program.

    Args:
        target: The name of a model, as :func:`fxtransport.compile_named` takes it; an
            ``nn.Module``; or a program.
        example_inputs: Of an ``nn.Module``, as :func:`fxtransport.transportify` takes them.
        kinds: The kinds of additions whose residues are read; by default all that are tapped.
        directions: How many directions the angles of a residue are taken to.
        differentiable: Whether gradients can be taken.
        options: What else :func:`fxtransport.compile_named` or
            :func:`fxtransport.transportify` is given.

    Raises:
        FxTransportError: the model cannot be built or compiled, or has no block to look at.

    >>> transport_features("torchvision:resnet18", input_size=64, verify=False).columns[:2]
    ('layer1.0 energy', 'layer1.0 cosine')
    """
    program = program_of_target(target, example_inputs, **options)
    return TransportFeatures(program, kinds, directions, differentiable)


def image_extractor(
    target: str | ModelSpec | nn.Module | Program,
    example_inputs: ExampleInputs | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    kinds: Iterable[Kind | str] | None = None,
    directions: int = 1,
    layers: Sequence[int] | None = None,
    differentiable: bool = False,
    **options: Any,
) -> Extractor:
    """What detectors read of a model's images; the model is compiled unless it is a program.

    Args:
        target: The name of a model, an ``nn.Module``, or a program; see
            :func:`transport_features`.
        example_inputs: Of an ``nn.Module``.
        mean: See :class:`fxtransport.detection.Extractor`, as for the next five.
        std: The standard deviation of each channel.
        kinds: The kinds of additions.
        directions: How many directions.
        layers: The blocks that are layers.
        differentiable: Whether gradients can be taken.
        options: As for :func:`transport_features`. ``activations`` is ``("penultimate",)``, unless
            it is given: give ``activations=()`` for a model that does not end in a linear layer.

    Raises:
        FxTransportError: the model cannot be built or compiled, or has no block to look at.

    >>> import torch
    >>> extract = image_extractor("torchvision:resnet18", input_size=64, verify=False)
    >>> observed = extract.observe([torch.rand(4, 3, 64, 64)])
    >>> [f"{name} {array.shape[1]}" for name, array in observed.values.items()][:4]
    ['transport 16', 'logits 1000', 'penultimate 512', 'layer.0 64']
    """
    if not isinstance(target, Program):
        options = {"activations": (PENULTIMATE,), **options}
    program = program_of_target(target, example_inputs, **options)
    return Extractor(
        program,
        mean=mean,
        std=std,
        kinds=kinds,
        directions=directions,
        layers=layers,
        differentiable=differentiable,
    )


def program_of_target(
    target: str | ModelSpec | nn.Module | Program,
    example_inputs: ExampleInputs | None = None,
    **options: Any,
) -> Program:
    """The program itself, or that of a model or of the name of one.

    Raises:
        UsageError: a program is given with options, or a name with an example.
        FxTransportError: the model cannot be built or compiled.
    """
    if isinstance(target, Program):
        if options or example_inputs is not None:
            given = ", ".join([*options, *(["example_inputs"] * (example_inputs is not None))])
            raise UsageError(f"a program is compiled already and takes no {given}")
        return target
    if isinstance(target, nn.Module):
        return transportify(target, example_inputs, **options)
    if example_inputs is not None:
        raise UsageError("a model that is named takes input_size, not example_inputs")
    return compile_named(target, **options)
