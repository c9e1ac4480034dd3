"""The classifier that is watched: from a run, a saved program, or the name of a model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fxtransport.compiler import compile_passes
from fxtransport.data import Splits
from fxtransport.detecting.source import DataSource, preprocessing_of
from fxtransport.detection.head import PENULTIMATE
from fxtransport.detection.identity import Preprocessing
from fxtransport.detection.registry import detector_class
from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize, SizeLike
from fxtransport.models import ModelSpec, resolve
from fxtransport.origin import Origin
from fxtransport.program import Program
from fxtransport.runs.config import CONFIG
from fxtransport.runs.load import Run, load_run
from fxtransport.saved import Description
from fxtransport.storage import DESCRIPTION, load
from fxtransport.submodule import Target
from fxtransport.targets import compile_target, open_target
from fxtransport.training.checkpoint import RunFolder
from fxtransport.weights import match_dtypes, model_state

PREPARED = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
"""What timm says of the images that weights were trained on."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier, and the images that detectors may learn from.

    Attributes:
        program: The classifier, with its weights.
        preprocessing: How images become its input.
        data: Its splits, as pixels from 0 to 1.
        source: How they are found again.
        note: What the user should know of it, if anything.
    """

    program: Program
    preprocessing: Preprocessing
    data: Splits
    source: DataSource
    note: str = ""


def open_subject(
    name: str,
    source: DataSource | None = None,
    *,
    detectors: Sequence[str] = (),
    pretrained: bool = False,
    input_size: SizeLike | InputSize | None = None,
    options: Mapping[str, Any] | None = None,
    transform: Mapping[str, Any] | None = None,
    root: str | None = None,
    trust_files: bool = False,
) -> Subject:
    """Build a classifier and load its data.

    Args:
        name: The folder of a run of ``fxtransport train``, or of a saved program; or the name of
            a model, which brings its own weights: with ``pretrained``, or from a Python file.
        source: The data; a run's own if None.
        detectors: The names of the detectors that will be fitted, for what they read.
        pretrained: Fetch weights, of a model that is named.
        input_size: The size of its input.
        options: What its constructor is given.
        transform: How its images are prepared: options of ``timm.data.create_transform``, such as
            ``mean`` and ``std``. By default as pretrained weights need it, or else as
            :func:`fxtransport.data.load` does. A run knows.
        root: The folder of a run's data, if it has moved.
        trust_files: Whether a Python file that a folder names may be run.

    Raises:
        FxTransportError: there is no such run or model, it has no weights, or the data cannot be
            loaded.
    """
    activations = activations_for(detectors)
    folder = Path(name)
    if folder.is_dir():
        if pretrained or input_size is not None or options:
            raise UsageError(f"{name} has its weights and its size; leave out what sets others")
        if (folder / CONFIG).is_file():
            if transform:
                raise UsageError(f"{name} is a run, which knows its transform; leave it out")
            run = _loaded(folder, root, trust_files=trust_files)
            return _of_run(run, source, activations)
        if not (folder / DESCRIPTION).is_file():
            raise UsageError(
                f"{name} holds neither a run of fxtransport train nor a saved program: it has no "
                f"{CONFIG} and no {DESCRIPTION}"
            )
    # a name that is none is told before anything is asked for
    spec = None if folder.is_dir() else absolute(resolve(name))
    if source is None:
        raise UsageError(f"{name} is not a run, which knows its data: give source")
    if spec is None:
        program = _saved_program(folder, activations, trust_files=trust_files)
        return _with_data(program, source, transform or {})
    if not pretrained and spec.library != "file":
        raise UsageError(
            f"{spec.canonical} has no weights: give pretrained=True, the folder of a run, or a "
            "function in a Python file that loads them"
        )
    target = open_target(spec, options=options, pretrained=pretrained, input_size=input_size)
    described: Any = (pretrained and getattr(target.model, "pretrained_cfg", None)) or {}
    prepared = {name: described[name] for name in PREPARED if described.get(name)}
    return _with_data(_compiled(target, activations), source, {**prepared, **(transform or {})})


def absolute(spec: ModelSpec) -> ModelSpec:
    """The same model, by a name that means it in every folder."""
    if spec.library != "file":
        return spec
    file, _, factory = spec.name.rpartition(":")
    return replace(spec, name=f"{Path(file).absolute()}:{factory}")


def _of_run(run: Run, source: DataSource | None, activations: Sequence[str]) -> Subject:
    """The plain model of a run, and the run's data."""
    program = _program_of(run, activations)
    own = DataSource.of(run.config) if source is None else source
    # its own data must be what it was trained on; other data is not compared
    preprocessing = preprocessing_of(run.data if source is None else run.inputs)
    last = len(run.program.parts) - 1
    note = ""
    if run.best is not None and run.best.exit.part != last:
        note = (
            f"the best exit is part {run.best.exit.part} with its auxiliary head; detectors look "
            f"at the plain model, whose own head is that of part {last}"
        )
    return Subject(program, preprocessing, own.pixels(preprocessing), own, note)


def open_watched(folder: Path, detectors: Iterable[str], *, trust_files: bool = False) -> Program:
    """The classifier of a run, or of a saved program, with what detectors read of it.

    Raises:
        FxTransportError: the folder does not hold a run or a program, or its model cannot be
            built.
    """
    activations = activations_for(detectors)
    if (folder / CONFIG).is_file():
        return _program_of(_loaded(folder, trust_files=trust_files), activations)
    return _saved_program(folder, activations, trust_files=trust_files)


def activations_for(detectors: Iterable[str]) -> tuple[str, ...]:
    """The activations that a program must have for detectors.

    Raises:
        UsageError: there is no such detector.
    """
    reads = {array for each in detectors for array in detector_class(each).reads}
    return (PENULTIMATE,) if PENULTIMATE in reads else ()


def _loaded(folder: Path, root: str | None = None, *, trust_files: bool) -> Run:
    """A run, with the weights with which its plain model was best, or its last ones."""
    validated = RunFolder(folder).read().best is not None
    changes = None if root is None else {"data.root": str(Path(root).absolute())}
    return load_run(folder, last=not validated, exit=-1, trust_files=trust_files, changes=changes)


def _program_of(run: Run, activations: Sequence[str]) -> Program:
    return _with_weights(run.origin, run.config.get("model.input_size"), activations, run.program)


def _saved_program(folder: Path, activations: Sequence[str], *, trust_files: bool) -> Program:
    program = load(folder, trust_files=trust_files)
    if set(activations) <= set(program.facts.activations):
        return program
    saved = Description.read(folder / DESCRIPTION)
    return _with_weights(Origin(saved.model, saved.options), None, activations, program)


def _with_weights(
    origin: Origin, size: Any, activations: Sequence[str], trained: Program
) -> Program:
    """The plain model that a program is of, compiled as a whole, with its weights."""
    target = open_target(origin.model, options=origin.options, input_size=size)
    program = _compiled(target, activations)
    state = model_state(trained)
    match_dtypes(program, state, origin.model)
    program.load_state_dict(state)
    return program


def _compiled(target: Target, activations: Sequence[str]) -> Program:
    program = compile_target(target, compile_passes(activations=tuple(activations)))
    program.eval()
    return program


def _with_data(program: Program, source: DataSource, prepared: Mapping[str, Any]) -> Subject:
    size = tuple(program.facts.example.inputs[0].shape[1:])
    preprocessing = preprocessing_of(source.load(size, prepared))
    return Subject(program, preprocessing, source.pixels(preprocessing), source)
