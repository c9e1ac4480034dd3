"""What ``bench`` measures: a model by its name, or that of a run."""

from pathlib import Path
from typing import Any

from torch import nn

from fxtransport.benching import Subject
from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize
from fxtransport.models import resolve
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG
from fxtransport.runs.load import load_run
from fxtransport.targets import compile_named, open_target
from fxtransport.training.checkpoint import RunFolder


def open_bench(
    name: str,
    *,
    modules: int | None = None,
    input_size: InputSize | None = None,
    trust_files: bool = False,
) -> Subject:
    """Build a model twice, plain and as a program.

    Args:
        name: The folder of a run, whose data is not needed; or the name of a model.
        modules: Into how many parts the program is cut, 2 by default; a run knows.
        input_size: The size of the input; a run knows.
        trust_files: Whether a Python file that a run names may be run.

    Raises:
        FxTransportError: there is no such run or model, or it cannot be compiled.
    """
    folder = Path(name)
    if not (folder / CONFIG).is_file():
        spec = resolve(name)
        how: dict[str, Any] = {"input_size": input_size}
        program = compile_named(spec, modules=2 if modules is None else modules, **how)
        return _subject(name, open_target(spec, **how).model, program)
    if modules is not None or input_size is not None:
        raise UsageError(f"{name} is a run, which knows its parts and its size; leave them out")
    last = RunFolder(folder).read().best is None
    run = load_run(folder, last=last, trust_files=trust_files)
    target = open_target(
        run.origin.model,
        options=run.origin.options,
        input_size=run.config.get("model.input_size"),
    )
    return _subject(name, target.model, run.program)


def _subject(name: str, model: nn.Module, program: Program) -> Subject:
    example = program.facts.example
    if len(example.inputs) != 1 or not example.tensors[0].is_floating_point():
        raise UsageError(f"{name} takes other inputs than one tensor of numbers")
    return Subject(name, model, program, tuple(example.tensors[0].shape[1:]))
