"""Save a program in a folder, and load it. Nothing is pickled.

The folder holds ``program.json`` (which model, which pipeline, the cuts, versions, a hash of
the graph and one of the weights), ``weights.safetensors``, and ``graph.py``, which is there to
be read and is never executed.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fxtransport.errors import MODEL_ERRORS, FxTransportError, SavedProgramError, first_line
from fxtransport.files import check_writable, file_hash, library_versions, read_json
from fxtransport.models import build, resolve
from fxtransport.names import ModelSpec, check_trusted
from fxtransport.origin import Origin
from fxtransport.passes.pipeline import Pipeline
from fxtransport.program import Program
from fxtransport.targets import compile_target, open_target
from fxtransport.weights import distinct_state, load_weights, match_dtypes

FORMAT = 2
DESCRIPTION, WEIGHTS, CODE = "program.json", "weights.safetensors", "graph.py"

_OLDER = (
    "an earlier version saved it, with a pipeline that is written differently now; compile the "
    "model again, load weights.safetensors beside it into the program, and save that"
)
_FETCHING = ("pretrained", "checkpoint_path", "weights", "weights_backbone", "device")
"""Options that say where a model's weights come from; a saved program's are in its folder."""


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
    target, origin = Path(folder), _origin(program, model, options)
    check_writable(target, SavedProgramError)
    _check_options(origin.options)
    state = distinct_state(program)
    if any(tensor.is_meta for tensor in state.values()):
        raise SavedProgramError(
            "the program is on the meta device and has no weights; there is nothing to save"
        )
    if model is not None:
        _check_same_model(program, origin)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".saving") as beside:
            new = Path(beside)
            save_file(state, new / WEIGHTS)
            (new / CODE).write_text(program.lowered.text(), encoding="utf-8")
            # safetensors makes files for their owner alone
            (new / WEIGHTS).chmod((new / CODE).stat().st_mode)
            description = _describe(program, origin, new / WEIGHTS)
            (new / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
            for name in (WEIGHTS, CODE, DESCRIPTION):
                (new / name).replace(target / name)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavedProgramError(f"cannot write into {folder}: {reason}") from error


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
    state = _read_weights(source / WEIGHTS, saved.weights_hash)
    program = _rebuild(source, saved, state, trust_files=trust_files)
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
            SavedProgramError: there is none, or it is damaged, or describes something else.
        """
        text = read_json(path, "program", FORMAT, SavedProgramError, older=_OLDER)
        for field in fields(cls):
            kind = getattr(field.type, "__origin__", field.type)
            assert isinstance(kind, type)
            if not isinstance(text.get(field.name), kind):
                raise SavedProgramError(f"{path} is damaged: {field.name!r} is missing or invalid")
        return cls(**{field.name: text[field.name] for field in fields(cls)})

    def example(self) -> tuple[torch.Tensor, ...]:
        """The inputs to compile for.

        Raises:
            ValueError: their description is invalid.
        """
        return tuple(_input(entry) for entry in self.inputs)


def _input(entry: object) -> torch.Tensor:
    match entry:
        case {"shape": [*shape], "dtype": str(name)}:
            dtype = getattr(torch, name, None)
            if isinstance(dtype, torch.dtype) and all(type(n) is int and n > 0 for n in shape):
                return torch.empty(2, *shape, dtype=dtype, device="meta")
    raise ValueError(f"{entry!r} does not describe an input")


def _origin(program: Program, model: str | None, options: dict[str, Any]) -> Origin:
    """Which model the program is of."""
    if model is not None:
        return Origin(resolve(model).canonical, options)
    known = program.facts.origin
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


def _describe(program: Program, origin: Origin, weights: Path) -> Description:
    facts = program.facts
    return Description(
        format=FORMAT,
        model=origin.model,
        options=dict(origin.options),
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


def _check_options(options: Mapping[str, Any]) -> None:
    for name in _FETCHING:
        if name in options:
            raise SavedProgramError(
                f"the option {name!r} says where weights come from; a saved program holds its "
                "own, so leave it out"
            )
    try:
        json.dumps(dict(options))
    except (TypeError, ValueError) as error:
        raise SavedProgramError(f"options are saved as JSON: {error}") from error


def _rebuild(
    source: Path, saved: Description, state: dict[str, torch.Tensor], *, trust_files: bool
) -> Program:
    """Build and compile the model that is described.

    A description may be wrong in many ways. Whatever notices says so, and that becomes one line.
    """
    try:
        _check_options(saved.options)
        spec, inputs = resolve(saved.model), saved.example()
        check_trusted(spec, DESCRIPTION, trust_files=trust_files)
        program = _compile(spec, saved, inputs)
    except FxTransportError as error:
        raise SavedProgramError(f"cannot load {source}: {error}") from error
    except MODEL_ERRORS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SavedProgramError(f"cannot load {source}: {reason}") from error
    match_dtypes(program, state)
    return program


def _compile(spec: ModelSpec, saved: Description, inputs: tuple[torch.Tensor, ...]) -> Program:
    target = open_target(spec, options=saved.options, inputs=inputs)
    for dtype in {x.dtype for x in inputs if x.is_floating_point()}:
        target.model.to(dtype)
    passes = [p for p in Pipeline.parse(saved.pipeline).passes if p.name != "verify"]
    return compile_target(target, passes)


def _read_weights(path: Path, expected: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise SavedProgramError(f"{path.parent} does not hold a program: it has no {path.name}")
    try:
        if file_hash(path) != expected:
            raise SavedProgramError(
                f"{path} is damaged, or not the one that {DESCRIPTION} beside it describes"
            )
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SavedProgramError(f"{path} is damaged: {error}") from error
