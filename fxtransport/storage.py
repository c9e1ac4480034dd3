"""Save a program in a folder, and load it. Nothing is pickled.

The folder holds ``program.json`` (which model, which pipeline, the cuts, versions, a hash of
the graph), ``weights.safetensors``, and ``graph.py``, for eyes: it is never executed.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fxtransport.compiler import compile_program, example_of
from fxtransport.errors import SavedProgramError
from fxtransport.models import build, resolve
from fxtransport.passes.pipeline import Pipeline
from fxtransport.program import Program

FORMAT = 1
DESCRIPTION, WEIGHTS, CODE = "program.json", "weights.safetensors", "graph.py"


def save(
    program: Program,
    folder: str | os.PathLike[str],
    model: str,
    pipeline: Pipeline,
    input_shapes: Sequence[Iterable[int]],
    **options: Any,
) -> None:
    """Write a program into a folder, which is made if it does not exist.

    Each file is written beside its place and moved there, the description last, so that a
    save that is interrupted leaves what was there, or nothing that loads.

    Args:
        program: What to save.
        folder: Where.
        model: The model's name, as :func:`fxtransport.models.resolve` takes it.
        pipeline: The passes that made the program.
        input_shapes: The shape of each input, without the batch.
        options: What the model's constructor was given.

    Raises:
        SavedProgramError: the folder cannot be written.
    """
    check_writable(folder)
    target = Path(folder)
    description = {
        "format": FORMAT,
        "model": resolve(model).canonical,
        "options": options,
        "input_shapes": [list(shape) for shape in input_shapes],
        "pipeline": str(pipeline),
        "cuts": [cut.path for cut in program.facts.partition.cuts],
        "graph_hash": graph_hash(program),
        "versions": {name: version(name) for name in ("fxtransport", "torch", "timm")},
    }
    state = {name: t.detach().contiguous() for name, t in _distinct(program).items()}
    try:
        _replace(target / WEIGHTS, lambda path: save_file(state, path))
        _replace(target / CODE, lambda path: path.write_text(readable(program)))
        text = json.dumps(description, indent=2) + "\n"
        _replace(target / DESCRIPTION, lambda path: path.write_text(text))
    except OSError as error:
        raise SavedProgramError(f"cannot write into {folder}: {error.strerror}") from error


def load(folder: str | os.PathLike[str]) -> Program:
    """The program that was saved in a folder, compiled anew.

    The model's architecture is built again from its name, the graph must come out as it was
    saved, and the weights are read from safetensors.

    Raises:
        SavedProgramError: the folder holds no program, or a damaged one, or one whose graph
            comes out differently with the installed versions.
        ModelNameError: the model's name is not known here.
    """
    source = Path(folder)
    description = _read_description(source / DESCRIPTION)
    state = _read_weights(source / WEIGHTS)
    try:
        name, pipeline = str(description["model"]), Pipeline.parse(description["pipeline"])
        shapes = [tuple(map(int, shape)) for shape in description["input_shapes"]]
        options, expected = dict(description["options"]), description["graph_hash"]
    except (KeyError, TypeError, ValueError) as error:
        raise SavedProgramError(f"{source / DESCRIPTION} is incomplete: {error}") from error
    model = build(resolve(name), **options)
    example = example_of(model, [torch.empty(2, *shape, device="meta") for shape in shapes])
    passes = tuple(p for p in pipeline.passes if p.name != "verify")
    program = compile_program(model, example, passes)
    if graph_hash(program) != expected:
        saved = description.get("versions", {})
        raise SavedProgramError(
            f"the graph of {name} is not the one that was saved in {folder} (with "
            f"{', '.join(f'{k} {v}' for k, v in saved.items())}); install those versions"
        )
    _load_weights(program, state, source / WEIGHTS)
    return program


def graph_hash(program: Program) -> str:
    """A hash of what a program computes and where it is cut."""
    lowered = program.lowered
    text = [lowered.transport.source, *(m.function.source for m in lowered.modules)]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()


def readable(program: Program) -> str:
    """The generated Python of a program, to read."""
    lowered = program.lowered
    parts = [("transport", lowered.transport.source)]
    parts += [(f"module {k}", m.function.source) for k, m in enumerate(lowered.modules)]
    header = '"""What the program runs. For reading: this file is never executed."""\n'
    return header + "".join(f"\n# {name}\n{source.strip()}\n" for name, source in parts)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder and see that files can be written there.

    Raises:
        SavedProgramError: they cannot.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SavedProgramError(f"cannot write into {folder}: {error.strerror}") from error


def _distinct(program: Program) -> dict[str, torch.Tensor]:
    """The state, with tensors that share memory once; safetensors refuses them twice."""
    seen: set[tuple[int, int, torch.Size]] = set()
    distinct = {}
    for name, tensor in program.state_dict().items():
        key = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape)
        if key not in seen:
            seen.add(key)
            distinct[name] = tensor.clone()
    return distinct


def _replace(path: Path, write: Any) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SavedProgramError(f"{path.parent} holds no program: it has no {path.name}")
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SavedProgramError(f"{path} is damaged: {error}") from error
    if not isinstance(description, dict) or "format" not in description:
        raise SavedProgramError(f"{path} does not describe a program of fxtransport")
    if description["format"] != FORMAT:
        raise SavedProgramError(
            f"{path} has format {description['format']!r}; this version reads {FORMAT}"
        )
    return description


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise SavedProgramError(f"{path.parent} holds no program: it has no {path.name}")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SavedProgramError(f"{path} is damaged: {error}") from error


def _load_weights(program: Program, state: dict[str, torch.Tensor], path: Path) -> None:
    present = program.state_dict()
    expected = _distinct(program)
    if state.keys() != expected.keys():
        odd = sorted(state.keys() ^ expected.keys())
        raise SavedProgramError(f"{path} is of another model: {', '.join(odd[:5])} differ")
    for name, tensor in state.items():
        if tensor.shape != present[name].shape:
            raise SavedProgramError(
                f"{path} is of another model: {name} is {tuple(tensor.shape)}, "
                f"not {tuple(present[name].shape)}"
            )
    with torch.no_grad():
        for name, tensor in state.items():
            present[name].copy_(tensor)
