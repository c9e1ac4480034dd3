"""Open a teacher: a name, a run, a saved program, a file of weights, a module."""

import copy
import json
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.models import load_state_dict
from torch import nn

from fxtransport.errors import MODEL_ERRORS, UsageError, first_line
from fxtransport.example import Example
from fxtransport.example_inputs import example_of, input_size_of
from fxtransport.models import resolve
from fxtransport.names import check_trusted
from fxtransport.origin import Origin
from fxtransport.process import preserve_process
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG
from fxtransport.runs.load import load_run
from fxtransport.storage import DESCRIPTION, load
from fxtransport.targets import open_target
from fxtransport.tracing.shadow import shadow_of
from fxtransport.training.checkpoint import RunFolder
from fxtransport.weights import match_dtypes, model_state
from fxtransport.wrappers import unwrap

Normalization = tuple[Sequence[float], Sequence[float]]
"""The mean and the standard deviation of each channel, of pixels from 0 to 1."""
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".tar")


@dataclass(frozen=True)
class OpenTeacher:
    """A plain model with its weights."""

    model: nn.Module
    example: Example
    name: str
    normalization: Normalization | None = None
    """How its images were normalized; None: not known."""
    programs: dict[Hashable, Program] = field(default_factory=dict, compare=False)
    """What was compiled of it, by the layers that it is asked for."""


def open_teacher(
    source: str | os.PathLike[str] | nn.Module,
    student: Program | nn.Module,
    example: Example,
    origin: Origin | None = None,
    *,
    trust_files: bool = False,
) -> OpenTeacher:
    """Build a teacher's model and load its weights.

    Args:
        source: The folder of a run or of a saved program; a file of weights; the name of a model,
            which brings its own weights; an ``nn.Module`` or a program.
        student: The student. A module that shares parameters with it is copied, so that the
            teacher stays as it is.
        example: What the student is given, for modules that do not say the size of their input.
        origin: The student's name, whose model a file of weights is for if it does not say.
        trust_files: Whether a Python file that a folder or a file names may be run.

    Raises:
        UsageError: there is no such teacher, or it has no weights.
    """
    if isinstance(source, nn.Module):
        return _of_module(source, student, example)
    path = Path(source)
    if (path / CONFIG).is_file():
        return _of_run(path, trust_files=trust_files)
    if (path / DESCRIPTION).is_file():
        program = load(path, trust_files=trust_files)
        return OpenTeacher(program._model[0], program.facts.example, str(path))
    if path.is_dir():
        raise UsageError(
            f"{path} holds neither a run nor a saved program: it has no {CONFIG} and no "
            f"{DESCRIPTION}"
        )
    if path.suffix in WEIGHT_FILES:
        return _of_file(path, origin, trust_files=trust_files)
    return _of_name(str(source))


def _of_module(source: nn.Module, student: nn.Module, example: Example) -> OpenTeacher:
    known = source.facts.example if isinstance(source, Program) else None
    model = source._model[0] if isinstance(source, Program) else unwrap(source)
    own = {id(tensor) for tensor in student.parameters()}
    if any(id(tensor) in own for tensor in model.parameters()):
        model = copy.deepcopy(model)
    if known is None:
        # timm's models say the size that they were trained for, and not that of their own input
        says = hasattr(model, "input_size") or not _accepts(model, example)
        known = example_of(model) if says and input_size_of(model) is not None else example
    return OpenTeacher(model, known, type(model).__name__, described(model))


def _accepts(model: nn.Module, example: Example) -> bool:
    """Whether a model runs on an example; only shapes matter."""
    try:
        with preserve_process(model), torch.no_grad(), torch.device("meta"):
            example.call(shadow_of(model), example.inputs)
    except MODEL_ERRORS:
        return False
    return True


def _of_run(path: Path, *, trust_files: bool) -> OpenTeacher:
    validated = RunFolder(path).read().best is not None
    run = load_run(path, last=not validated, exit=-1, trust_files=trust_files)
    target = open_target(
        run.origin.model,
        options=run.origin.options,
        input_size=run.config.get("model.input_size"),
    )
    _load(target.model, model_state(run.program), str(path))
    found = run.inputs.transform or {}
    known = (tuple(found["mean"]), tuple(found["std"])) if {"mean", "std"} <= {*found} else None
    return OpenTeacher(target.model, target.example, str(path), known)


def _of_file(path: Path, origin: Origin | None, *, trust_files: bool) -> OpenTeacher:
    """A file of weights: of the model that it names, or else of the student's."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a file of weights, a run or a name")
    about = _metadata(path)
    if "model" in about:
        spec = resolve(about["model"])
        check_trusted(spec, str(path), trust_files=trust_files)
        options, size = json.loads(about.get("options", "{}")), about.get("input_size")
        target = open_target(
            spec, options=options, input_size=None if size is None else tuple(json.loads(size))
        )
    elif origin is not None:
        target = open_target(origin.model, options=origin.options)
    else:
        raise UsageError(
            f"{path} does not say which model its weights are for; give the model as a module "
            "with its weights loaded, or a file that fxtransport export wrote"
        )
    try:
        state = load_state_dict(str(path), use_ema=False)
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise UsageError(f"cannot read the weights in {path}: {first_line(error)}") from error
    _load(target.model, state, str(path))
    return OpenTeacher(target.model, target.example, str(path), described(target.model))


def _of_name(name: str) -> OpenTeacher:
    spec = resolve(name)
    if spec.library == "nets":
        raise UsageError(
            f"{spec.canonical} has no weights to teach with: give the folder of a run that "
            "trained it, or a file that fxtransport export wrote"
        )
    try:
        target = open_target(spec, pretrained=spec.library != "file")
    except UsageError as error:
        remedy = "a teacher may also be a run, or a file of weights"
        raise UsageError(f"the teacher, {error}; {remedy}") from error
    return OpenTeacher(target.model, target.example, spec.canonical, described(target.model))


def described(model: Any) -> Normalization | None:
    """How timm says that the images of a model's weights were normalized; None if it does not."""
    found = getattr(model, "pretrained_cfg", None)
    if isinstance(found, dict) and found.get("mean") and found.get("std"):
        return tuple(found["mean"]), tuple(found["std"])
    return None


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot read the weights in {path}: {first_line(error)}") from error


def _load(model: nn.Module, state: dict[str, Any], source: str) -> None:
    expected = model.state_dict()
    differ = sorted(expected.keys() ^ state.keys())
    differ += [k for k in expected if k in state and expected[k].shape != state[k].shape]
    if differ:
        raise UsageError(
            f"the weights in {source} are not for {type(model).__name__}, which differs in "
            f"{', '.join(differ[:3])}; give weights of the same model, or a run"
        )
    match_dtypes(model, state, source)
    model.load_state_dict(state)
