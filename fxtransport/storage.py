"""Save a program in a folder, and load it. Nothing is pickled.

The folder holds ``program.json`` (which model, which pipeline, the cuts, versions, a hash of
the graph and one of the weights), ``weights.safetensors``, and ``graph.py``, for eyes: it is
never executed.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fxtransport.compiler import compile_program
from fxtransport.errors import MODEL_ERRORS, FxTransportError, SavedProgramError
from fxtransport.files import check_writable, file_hash, library_versions, read_json
from fxtransport.models import build, resolve
from fxtransport.passes.pipeline import Pipeline
from fxtransport.program import Program
from fxtransport.unit import Example
from fxtransport.weights import distinct_state, load_weights, match_dtypes

FORMAT = 1
DESCRIPTION, WEIGHTS, CODE = "program.json", "weights.safetensors", "graph.py"

_FETCHING = ("pretrained", "checkpoint_path", "weights", "weights_backbone", "device")
"""Options that say where a model's numbers come from; a saved program's are in its folder."""


def save(program: Program, folder: str | os.PathLike[str], model: str, **options: Any) -> None:
    """Write a program into a folder, which is made if it does not exist.

    All files are written beside their places first, and then moved there. The description
    goes last and holds a hash of the weights, so a save that is interrupted leaves what was
    there, or something that does not load; never half of each.

    Args:
        program: What to save.
        folder: Where.
        model: The model's name, as :func:`fxtransport.models.resolve` takes it.
        options: What the model's constructor was given, values of JSON only.

    Raises:
        SavedProgramError: the folder cannot be written, the program has no numbers, or an
            option cannot be stored.
        ModelNameError: the model's name is not known.
    """
    target, canonical = Path(folder), resolve(model).canonical
    check_writable(target, SavedProgramError)
    _check_options(options)
    state = distinct_state(program)
    if any(tensor.is_meta for tensor in state.values()):
        raise SavedProgramError(
            "the program was built without numbers, on the meta device; there is nothing to save"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".saving") as beside:
            new = Path(beside)
            save_file(state, new / WEIGHTS)
            (new / CODE).write_text(program.lowered.text(), encoding="utf-8")
            # safetensors makes files for their owner alone
            (new / WEIGHTS).chmod((new / CODE).stat().st_mode)
            description = _describe(program, canonical, options, new / WEIGHTS)
            (new / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
            for name in (WEIGHTS, CODE, DESCRIPTION):
                (new / name).replace(target / name)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavedProgramError(f"cannot write into {folder}: {reason}") from error


def load(folder: str | os.PathLike[str]) -> Program:
    """The program that was saved in a folder, compiled anew, on the CPU and in train mode.

    The model's architecture is built again from its name, the graph must come out as it was
    saved, and the weights are read from safetensors. Nothing is fetched or unpickled, and no
    file of the folder is executed. A model that was named ``path/to/file.py:factory`` is
    built by that file again.

    Raises:
        SavedProgramError: the folder holds no program, or a damaged one, or one whose graph
            comes out differently with the installed versions.
    """
    source = Path(folder)
    saved = Description.read(source / DESCRIPTION)
    state = _read_weights(source / WEIGHTS, saved.weights_hash)
    program = _rebuild(source, saved, state)
    if program.graph_hash != saved.graph_hash:
        raise SavedProgramError(
            f"the graph of {saved.model} is not the one that was saved in {folder} (with "
            f"{', '.join(f'{k} {v}' for k, v in saved.versions.items())}); install those versions"
        )
    load_weights(program, state, source / WEIGHTS)
    return program


@dataclass(frozen=True)
class Description:
    """What ``program.json`` says."""

    format: int
    model: str
    options: dict[str, Any]
    """What the model's constructor is given."""
    inputs: list[dict[str, Any]]
    """The ``shape`` of each input, without the batch, and its ``dtype``."""
    pipeline: str
    cuts: list[str]
    graph_hash: str
    weights_hash: str
    versions: dict[str, str]

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """The description in a file.

        Raises:
            SavedProgramError: there is none, or it is damaged, or of something else.
        """
        text = read_json(path, "program", FORMAT, SavedProgramError)
        for field in fields(cls):
            kind = getattr(field.type, "__origin__", field.type)
            assert isinstance(kind, type)
            if not isinstance(text.get(field.name), kind):
                raise SavedProgramError(f"{path} is damaged: {field.name!r} is missing or odd")
        return cls(**{field.name: text[field.name] for field in fields(cls)})

    def example(self) -> Example:
        """The inputs to compile for.

        Raises:
            ValueError: they are not described as they should be.
        """
        return Example(tuple(_input(entry) for entry in self.inputs))


def _input(entry: object) -> torch.Tensor:
    match entry:
        case {"shape": [*shape], "dtype": str(name)}:
            dtype = getattr(torch, name, None)
            if isinstance(dtype, torch.dtype) and all(type(n) is int and n > 0 for n in shape):
                return torch.empty(2, *shape, dtype=dtype, device="meta")
    raise ValueError(f"{entry!r} does not describe an input")


def _describe(
    program: Program, canonical: str, options: dict[str, Any], weights: Path
) -> Description:
    facts = program.facts
    return Description(
        format=FORMAT,
        model=canonical,
        options=options,
        inputs=[
            {"shape": list(x.shape[1:]), "dtype": str(x.dtype).removeprefix("torch.")}
            for x in facts.example.inputs
        ],
        pipeline=facts.pipeline,
        cuts=[cut.path for cut in facts.partition.cuts],
        graph_hash=program.graph_hash,
        weights_hash=file_hash(weights),
        versions=library_versions(),
    )


def _check_options(options: dict[str, Any]) -> None:
    for name in _FETCHING:
        if name in options:
            raise SavedProgramError(
                f"the option {name!r} says where numbers come from; a saved program holds "
                f"its own, so leave it out"
            )
    try:
        json.dumps(options)
    except (TypeError, ValueError) as error:
        raise SavedProgramError(f"options are saved as JSON: {error}") from error


def _rebuild(source: Path, saved: Description, state: dict[str, torch.Tensor]) -> Program:
    """Build and compile the model that is described.

    Whatever a description can be wrong about shows here, in the words of whoever noticed.
    """
    try:
        _check_options(saved.options)
        spec, example = resolve(saved.model), saved.example()
        if spec.library == "file" and source.resolve() in Path(spec.name).resolve().parents:
            raise SavedProgramError("its model is in the folder itself, where no file is executed")
        model = build(spec, **saved.options)
        for dtype in {x.dtype for x in example.inputs if x.is_floating_point()}:
            model.to(dtype)
        passes = [p for p in Pipeline.parse(saved.pipeline).passes if p.name != "verify"]
        program = compile_program(model, example, passes)
    except FxTransportError as error:
        raise SavedProgramError(f"cannot load {source}: {error}") from error
    except MODEL_ERRORS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SavedProgramError(f"cannot load {source}: {reason}") from error
    match_dtypes(program, state)
    return program


def _read_weights(path: Path, expected: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise SavedProgramError(f"{path.parent} holds no program: it has no {path.name}")
    try:
        if file_hash(path) != expected:
            raise SavedProgramError(
                f"{path} is damaged, or not the one that {DESCRIPTION} beside it describes"
            )
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SavedProgramError(f"{path} is damaged: {error}") from error
