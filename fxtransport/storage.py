"""Save programs and parts in folders, and load them. Nothing is pickled.

A folder holds ``program.json`` (which model, which pipeline, the cuts, versions, a hash of the
graph and one of the weights) or ``part.json``, ``weights.safetensors``, and ``graph.py``, which is
there to be read and is never executed.
"""

import copy
import os
from pathlib import Path
from typing import Any

import torch

from fxtransport.errors import MODEL_ERRORS, FxTransportError, SavedProgramError, first_line
from fxtransport.files import check_writable
from fxtransport.models import build, resolve
from fxtransport.origin import Origin, Provenance
from fxtransport.program import Part, Program
from fxtransport.saved import (
    WEIGHTS,
    Description,
    PartDescription,
    check_options,
    read_weights,
    rebuild,
    write_folder,
)
from fxtransport.weights import distinct_state, distinct_tensors, load_weights, match_dtypes

DESCRIPTION, PART_DESCRIPTION = "program.json", "part.json"


def save(
    program: Program,
    folder: str | os.PathLike[str],
    model: str | None = None,
    **options: Any,
) -> None:
    """Write a program into a folder, which is made if it does not exist.

    A program that was made from a name (``compile_named``, ``fxtransport split``, a run) knows
    which model it is of. For any other, give the model's name and options.

    All files are written beside their final paths first, and then renamed. The description
    goes last and holds a hash of the weights, so an interrupted save leaves the old program, or
    something that does not load.

    Args:
        program: What to save.
        folder: Where.
        model: The model's name, as :func:`fxtransport.models.resolve` takes it.
        options: With ``model``: what the model's constructor was given, values of JSON only.

    Raises:
        SavedProgramError: it is not known which model the program is of, or the name and options
            mean another one; the folder cannot be written; the program is on the meta device; or
            an option cannot be stored.
        ModelNameError: the model's name is not known.
    """
    origin = _origin(program.provenance, model, options)
    check_writable(folder, SavedProgramError)
    check_options(origin.options)
    if model is not None:
        _check_same_model(program, origin)
    write_folder(
        folder,
        DESCRIPTION,
        distinct_state(program),
        program.lowered.text(),
        lambda weights: Description.of(program.provenance, origin, weights),
    )


def load(folder: str | os.PathLike[str], *, trust_files: bool = False) -> Program:
    """Load the program that was saved in a folder, on the CPU and in train mode.

    The model's architecture is built again from its name and compiled, the graph must be the one
    that was saved, and the weights are read from safetensors. Nothing is fetched or unpickled.

    Args:
        folder: Where it was saved.
        trust_files: Whether a Python file may be run to build the model, if that is how it is
            named: ``path/to/file.py:factory``. Give it only for folders whose author you trust.

    Raises:
        SavedProgramError: the folder does not hold a program, or a damaged one, or one that
            needs a Python file and ``trust_files`` is not given, or one whose graph is different
            with the installed versions.
    """
    source = Path(folder)
    saved = Description.read(source / DESCRIPTION)
    state = read_weights(source / WEIGHTS, saved)
    program = rebuild(source, saved, state, trust_files=trust_files)
    match_dtypes(program, state, source / WEIGHTS)
    load_weights(program, state, source / WEIGHTS)
    return program


def save_part(
    part: Part, folder: str | os.PathLike[str], model: str | None = None, **options: Any
) -> None:
    """Write a part of a program into a folder, without the rest of the program.

    Args:
        part: What to save: one of ``program.parts``, or a copy of one.
        folder: Where; it is made if it does not exist.
        model: The name of the program's model, where the program was not made from a name.
        options: With ``model``: what the model's constructor was given, values of JSON only.

    Raises:
        SavedProgramError: it is not known which model the part is of, the folder cannot be
            written, the part is on the meta device, or an option cannot be stored.
        ModelNameError: the model's name is not known.
    """
    origin = _origin(part.provenance, model, options)
    check_writable(folder, SavedProgramError)
    check_options(origin.options)
    write_folder(
        folder,
        PART_DESCRIPTION,
        distinct_tensors(_tensors_of(part)),
        part.code,
        lambda weights: PartDescription.of(part.provenance, origin, weights, part=part.index),
    )


def load_part(folder: str | os.PathLike[str], *, trust_files: bool = False) -> Part:
    """Load the part that was saved in a folder, on the CPU and in train mode.

    It shares nothing with a program. The model is built and compiled once more, to find the
    part's code, and then freed; its weights are read from the folder alone.

    Args:
        folder: Where it was saved.
        trust_files: Whether a Python file may be run to build the model; see :func:`load`.

    Raises:
        SavedProgramError: the folder does not hold a part, or a damaged one, or one that needs a
            Python file and ``trust_files`` is not given, or one whose graph is different with the
            installed versions.
    """
    source = Path(folder)
    saved = PartDescription.read(source / PART_DESCRIPTION)
    state = read_weights(source / WEIGHTS, saved)
    program = rebuild(source, saved, state, trust_files=trust_files)
    if not 0 <= saved.part < len(program.parts):
        raise SavedProgramError(f"{source} is damaged: there is no part {saved.part}")
    part = copy.deepcopy(program.parts[saved.part])
    match_dtypes(part, state, source / WEIGHTS)
    present = _tensors_of(part)
    if state.keys() != distinct_tensors(present).keys():
        raise SavedProgramError(f"{source / WEIGHTS} belongs to another part")
    with torch.no_grad():
        for name, tensor in state.items():
            if tensor.shape != present[name].shape:
                raise SavedProgramError(
                    f"{source / WEIGHTS} belongs to another part: {name} is "
                    f"{tuple(tensor.shape)}, not {tuple(present[name].shape)}"
                )
            present[name].copy_(tensor)
    return part


def _tensors_of(part: Part) -> dict[str, torch.Tensor]:
    """Every parameter and buffer, also buffers that are not persistent."""
    return {**dict(part.named_parameters()), **dict(part.named_buffers())}


def _origin(provenance: Provenance, model: str | None, options: dict[str, Any]) -> Origin:
    """Which model the program is of."""
    if model is not None:
        return Origin(resolve(model).canonical, options)
    known = provenance.origin
    if known is None:
        raise SavedProgramError(
            "the program was not made from a model's name, so give the name, and what its "
            'constructor was given: save(program, folder, model="timm:resnet18", num_classes=10)'
        )
    if options:
        raise SavedProgramError(
            f"{', '.join(options)}: options go with the argument model, and the program knows its "
            f"own: {known.model}; leave them out"
        )
    return known


def _check_same_model(program: Program, origin: Origin) -> None:
    """Check that a name and options mean the program's model, before a load finds out."""
    spec = resolve(origin.model)
    try:
        model = build(spec, device=None if spec.library == "file" else "meta", **origin.options)
    except FxTransportError:
        raise
    except MODEL_ERRORS as error:
        raise SavedProgramError(f"{origin.model} cannot be built: {first_line(error)}") from error
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {name: tuple(t.shape) for name, t in program.model_state_dict().items()}
    for name in (*expected, *found):
        if found.get(name) != expected.get(name):
            raise SavedProgramError(
                f"{origin.model} with {dict(origin.options) or 'no options'} is another model "
                f"than the program's: {name} is {found.get(name, 'missing')}, not "
                f"{expected.get(name, 'missing')}; give save what the constructor was given"
            )
