"""The folder of a saved program or part: its description, its weights, and how it is rebuilt."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fxtransport.building import check_numbers, limited
from fxtransport.errors import MODEL_ERRORS, FxTransportError, SavedProgramError
from fxtransport.example import Example, example_from
from fxtransport.files import check_place, file_hash, has_content, library_versions, read_json
from fxtransport.ir import PUBLISHED
from fxtransport.models import resolve
from fxtransport.names import ModelSpec, check_trusted
from fxtransport.origin import Origin, Provenance
from fxtransport.passes.base import Pass
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.pipeline import Pipeline
from fxtransport.program import Program
from fxtransport.targets import compile_target, open_target

FORMAT = 4
BEFORE_SMALL_HEADS = 3
"""The format of a folder whose pipeline means DGL's head where it says ``auto`` or ``conv``."""
WEIGHTS, CODE = "weights.safetensors", "graph.py"

_OLDER = (
    "an earlier version saved it, whose hash of the graph did not cover the settings of modules; "
    "compile the model again, load weights.safetensors beside it into the program, and save that"
)
_FETCHING = ("pretrained", "checkpoint_path", "weights", "weights_backbone", "device")
"""Options that say where a model's weights come from; a saved program's are in its folder."""


@dataclass(frozen=True)
class Description:
    """What the JSON file of a saved program says."""

    kind: ClassVar[str] = "program"

    format: int
    model: str
    options: dict[str, Any]
    """What the model's constructor is given."""
    inputs: list[dict[str, Any]]
    """Of each input the ``shape``, without the batch, and the ``dtype``; see
    :meth:`fxtransport.example.Example.described`."""
    pipeline: str
    cuts: list[str]
    graph_hash: str
    weights_hash: str
    weights_size: int
    """In bytes."""
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
        text = read_json(
            path, cls.kind, FORMAT, SavedProgramError, older=_OLDER, also=(BEFORE_SMALL_HEADS,)
        )
        for field in fields(cls):
            kind = getattr(field.type, "__origin__", field.type)
            assert isinstance(kind, type)
            value = text.get(field.name)
            # true and false are whole numbers, too
            if not isinstance(value, kind) or isinstance(value, bool):
                raise SavedProgramError(f"{path} is damaged: {field.name!r} is missing or invalid")
        return cls(**{field.name: text[field.name] for field in fields(cls)})

    def example(self) -> Example:
        """The inputs to compile for.

        Raises:
            ValueError: their description is invalid.
        """
        return example_from(self.inputs)

    @classmethod
    def of(cls, provenance: Provenance, origin: Origin, weights: Path, **more: Any) -> Self:
        """The description of what is saved.

        Args:
            provenance: From what the program was made.
            origin: The model's name and options.
            weights: The file with the weights.
            more: Further fields.
        """
        return cls(
            format=FORMAT,
            model=origin.model,
            options=dict(origin.options),
            inputs=[dict(entry) for entry in provenance.inputs],
            pipeline=provenance.pipeline,
            cuts=list(provenance.cuts),
            graph_hash=provenance.graph_hash,
            weights_hash=file_hash(weights),
            weights_size=weights.stat().st_size,
            versions=library_versions(),
            **more,
        )


@dataclass(frozen=True)
class PartDescription(Description):
    """What the JSON file of a saved part says."""

    kind: ClassVar[str] = "part"

    part: int
    """Its index in the program."""


def check_options(options: Mapping[str, Any]) -> None:
    """See that a constructor's options can be saved.

    Raises:
        SavedProgramError: one says where weights come from, or is not a value of JSON.
    """
    for name in _FETCHING:
        if name in options:
            raise SavedProgramError(
                f"the option {name!r} says where weights come from; a saved program holds its "
                "own, so leave it out"
            )
    check_numbers(options, "options")
    try:
        json.dumps(dict(options))
    except (TypeError, ValueError) as error:
        raise SavedProgramError(f"options are saved as JSON: {error}") from error


def write_folder(
    folder: str | os.PathLike[str],
    name: str,
    tensors: dict[str, torch.Tensor],
    code: str,
    describe: Callable[[Path], Description],
) -> None:
    """Write weights, code and description into a folder, each whole or not at all.

    Args:
        folder: Where; it is made if it does not exist.
        name: Of the description's file.
        tensors: The weights.
        code: The generated Python, to read.
        describe: From the file with the weights to the description, which is written last.

    Raises:
        SavedProgramError: the folder cannot be written, or the tensors are on the meta device.
    """
    if any(tensor.is_meta for tensor in tensors.values()):
        raise SavedProgramError(
            "the program is on the meta device and has no weights; there is nothing to save"
        )
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".saving") as beside:
            new = Path(beside)
            save_file(tensors, new / WEIGHTS)
            (new / CODE).write_text(code, encoding="utf-8")
            # safetensors makes files for their owner alone
            (new / WEIGHTS).chmod((new / CODE).stat().st_mode)
            (new / name).write_text(describe(new / WEIGHTS).to_json(), encoding="utf-8")
            for each in (WEIGHTS, CODE, name):
                check_place(target / each)
            for each in (WEIGHTS, CODE, name):
                (new / each).replace(target / each)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavedProgramError(f"cannot write into {folder}: {reason}") from error


def rebuild(
    source: Path, saved: Description, state: Mapping[str, torch.Tensor], *, trust_files: bool
) -> Program:
    """Build and compile the model that is described, and check that the graph is the same.

    A description may be wrong in many ways. Whatever notices says so, and that becomes one line.

    Args:
        source: The folder, for errors.
        saved: What is described.
        state: The weights beside it, by which the size of the model is known.
        trust_files: Whether a Python file may be run.

    Raises:
        SavedProgramError: it cannot be built, or its graph is another one.
    """
    try:
        check_options(saved.options)
        check_numbers(saved.inputs, "inputs")
        spec, example = resolve(saved.model), saved.example()
        check_trusted(spec, f"{saved.kind}.json", trust_files=trust_files)
        # of a part, the rest of the model is not known
        whole = saved.kind == Description.kind
        numbers = [tensor.numel() for tensor in state.values()]
        size = (1000 + 50 * len(numbers), 2**20 + 4 * sum(numbers)) if whole else (200_000, 2**31)
        program = _compile(spec, saved, example, size)
    except FxTransportError as error:
        raise SavedProgramError(f"cannot load {source}: {error}") from error
    except MODEL_ERRORS as error:
        # torch adds where in its own code the error was raised
        said = str(error).partition("\nException raised from")[0]
        reason = " ".join(f"{type(error).__name__}: {said}".split())
        raise SavedProgramError(f"cannot load {source}: {reason}") from error
    if program.graph_hash != saved.graph_hash:
        raise SavedProgramError(
            f"the graph of {saved.model}, or a setting of its modules, is not the one that was "
            f"saved in {source} (with {_versions(saved)}); install those versions, and give the "
            "model the options and the code that it had"
        )
    return program


def _versions(saved: Description) -> str:
    return ", ".join(f"{k} {v}" for k, v in saved.versions.items())


def _compile(
    spec: ModelSpec, saved: Description, example: Example, size: tuple[int, int]
) -> Program:
    with limited(*size):
        target = open_target(spec, options=saved.options, example=example)
    for dtype in {x.dtype for x in example.tensors if x.is_floating_point()}:
        target.model.to(dtype)
    return compile_target(target, _passes_of(saved))


def _passes_of(saved: Description) -> list[Pass]:
    """The passes of a pipeline, with the heads that it had when it was saved."""
    passes = [p for p in Pipeline.parse(saved.pipeline).passes if p.name != "verify"]
    if saved.format > BEFORE_SMALL_HEADS:
        return passes
    return [
        replace(p, head=PUBLISHED.get(p.head, p.head)) if isinstance(p, PlanHeads) else p
        for p in passes
    ]


def read_weights(path: Path, saved: Description) -> dict[str, torch.Tensor]:
    """The weights beside a description.

    Raises:
        SavedProgramError: they are not there, or not those that are described.
    """
    try:
        if not has_content(path, saved.weights_size, saved.weights_hash):
            raise SavedProgramError(
                f"{path} is damaged, or not the one that {saved.kind}.json beside it describes"
            )
        return load_file(path)
    except FileNotFoundError as error:
        raise SavedProgramError(
            f"{path.parent} does not hold a {saved.kind}: it has no {path.name}"
        ) from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SavedProgramError(f"{path} is damaged: {reason}") from error
