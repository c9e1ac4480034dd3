"""From the name of a model to what is compiled, and to a program that knows its name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from fxtransport.compiler import compile_passes, compile_program
from fxtransport.errors import MODEL_ERRORS, FxTransportError, UsageError, first_line
from fxtransport.example import Example
from fxtransport.example_inputs import example_of
from fxtransport.input_size import InputSize, SizeLike
from fxtransport.models import build, input_spec, size_options, submodule_of
from fxtransport.names import ModelSpec, resolve
from fxtransport.origin import Origin
from fxtransport.passes.base import Pass
from fxtransport.program import Program
from fxtransport.submodule import Target, open_submodule, whole_or_backbone


def open_target(
    name: str | ModelSpec,
    *,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    input_size: SizeLike | InputSize | None = None,
    submodule: str | None = None,
    example: Example | None = None,
    device: str | None = None,
) -> Target:
    """Build the model that a name means, with an example of its input.

    Args:
        name: As :func:`fxtransport.models.resolve` takes it, or what that returned.
        options: What the model's constructor is given.
        pretrained: Fetch weights.
        input_size: The size of the input: ``32``, ``"32x48"`` or ``(3, 32, 48)``. A model with a
            fixed size is built for it. With a submodule it is the size of the submodule's input.
        submodule: The path of a submodule, in place of the whole; ``NAME#PATH`` means the same.
        example: The example, where it is known.
        device: Where the model is built; ``"meta"`` allocates no memory.

    >>> open_target("timm:vit_tiny_patch16_224", input_size=32, device="meta").origin
    Origin(model='timm:vit_tiny_patch16_224', options={'img_size': 32})

    Raises:
        ModelNameError: no model has this name, or its input's size is not known.
        UsageError: the model cannot be built with these options or for this size.
    """
    spec = resolve(name) if isinstance(name, str) else name
    path, whole = submodule or spec.submodule, replace(spec, submodule="")
    size = None if input_size is None else InputSize.parse(input_size)
    found = dict(options or {})
    if size is not None and not path:
        found = {**size_options(whole, size, found), **found}
    model = _build(whole, found, pretrained=pretrained, device=device)
    origin = Origin(whole.canonical, found)
    if example is not None:
        target = Target(submodule_of(model, path) if path else model, example, path)
    elif path and size is not None and size.is_shape:
        target = open_submodule(model, None, path, size.sizes)
    else:
        inputs = input_spec(model, whole, None if path else size, **found).example()
        target = Target(model, example_of(model, inputs))
        if path:
            target = open_submodule(model, target.example, path)
            target = target if size is None else _resize(target, size)
    return replace(target, origin=origin.at(path) if path else origin)


def compile_target(target: Target, passes: Sequence[Pass]) -> Program:
    """Compile a target to a program, which knows the name that it was built from."""
    program = compile_program(target.model, target.example, passes)
    program.facts = program.facts._replace(origin=target.origin)
    return program


def compile_named(
    name: str | ModelSpec,
    *,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    input_size: SizeLike | InputSize | None = None,
    submodule: str | None = None,
    verify: bool = True,
    **settings: Any,
) -> Program:
    """Compile the model that a name means, or its backbone where the whole cannot be one graph.

    Args:
        name: ``resnet18``, ``timm:NAME``, ``torchvision:NAME``, ``nets:NAME`` or
            ``path/to/file.py:factory``.
        options: What the model's constructor is given.
        pretrained: Fetch weights.
        input_size: The size of the input: ``32``, ``"32x48"`` or ``(3, 32, 48)``.
        submodule: The path of a submodule, in place of the whole.
        verify: Compare numbers with the model's.
        settings: ``modules``, ``balance`` and the other options of
            :func:`fxtransport.transportify`.

    >>> program = compile_named("torchvision:resnet18", modules=2, verify=False)
    >>> program.facts.origin.model, len(program.parts)
    ('torchvision:resnet18', 2)

    Raises:
        FxTransportError: the model cannot be built, traced, cut or verified.
    """
    passes = compile_passes(verify=verify, **settings)
    target = open_target(
        name,
        options=options,
        pretrained=pretrained,
        input_size=input_size,
        submodule=submodule,
    )
    return whole_or_backbone(target, lambda found: compile_target(found, passes))


def _build(spec: ModelSpec, options: dict[str, Any], **how: Any) -> torch.nn.Module:
    """Construct a model; options that its constructor refuses become one line."""
    if not options:
        return build(spec, **how)
    try:
        return build(spec, **how, **options)
    except FxTransportError:
        raise
    except MODEL_ERRORS as error:
        words = ", ".join(f"{name}={value}" for name, value in options.items())
        raise UsageError(
            f"{spec.canonical} cannot be built with {words}: {first_line(error)}"
        ) from error


def _resize(target: Target, size: InputSize) -> Target:
    """A submodule for inputs of another height and width."""

    def resized(x: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
        shape = size.shape(tuple(x.shape[1:]))
        return torch.empty(x.shape[0], *shape, dtype=x.dtype, device="meta")

    return replace(target, example=replace(target.example, inputs=target.example.map(resized)))
