"""Networks that are compared: from a run, a saved program, a file of weights, or a name."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fxtransport.compiler import compile_passes
from fxtransport.data import Splits
from fxtransport.detecting.source import DataSource
from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize, SizeLike
from fxtransport.names import check_trusted, resolve
from fxtransport.program import Program
from fxtransport.randomness import seed_all
from fxtransport.runs.config import CONFIG
from fxtransport.runs.load import load_run
from fxtransport.storage import DESCRIPTION, load
from fxtransport.submodule import Target
from fxtransport.targets import compile_target, open_target
from fxtransport.training.checkpoint import RunFolder
from fxtransport.weights import match_dtypes

PREPARED = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
"""What timm says of the images that weights were trained on."""
_AT_EPOCH = re.compile(r"(?P<run>.+)@(?P<epoch>\d+)")


@dataclass(frozen=True, eq=False)
class Network:
    """A network, and how its inputs are prepared.

    Attributes:
        name: What the user calls it.
        program: With its weights, in eval mode.
        transform: Options of ``timm.data.create_transform``; empty: the defaults of
            :func:`fxtransport.data.load`.
        source: The data that it was trained on, where that is known.
    """

    name: str
    program: Program
    transform: Mapping[str, Any]
    source: DataSource | None = None

    def data(self, source: DataSource) -> Splits:
        """A set, prepared for this network.

        Raises:
            UsageError: the set cannot be loaded.
        """
        return source.load(self.input_size, self.transform)

    @property
    def input_size(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.program.facts.example.tensors[0].shape[1:])


def open_network(
    name: str,
    *,
    epoch: int | None = None,
    pretrained: bool = False,
    input_size: SizeLike | InputSize | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    trust_files: bool = False,
) -> Network:
    """Build a network with its weights.

    Args:
        name: The folder of a run of ``fxtransport train`` (its best weights; ``RUN@2`` means those
            that it kept after 2 epochs), or of a saved program; a file that ``fxtransport
            export`` wrote; or the name of a model.
        epoch: The weights of a run after so many epochs; as ``RUN@EPOCH``.
        pretrained: Fetch weights, of a model that is named.
        input_size: The size of its input.
        options: What its constructor is given.
        seed: The seed of its weights, of a model that is named and not pretrained.
        trust_files: Whether a Python file that a run, program or file of weights names may be run.

    Raises:
        FxTransportError: there is no such network, or its model cannot be built.
    """
    kept = _AT_EPOCH.fullmatch(name)
    if kept and Path(kept["run"]).is_dir() and not Path(name).exists():
        name, epoch = kept["run"], int(kept["epoch"])
    path = Path(name)
    if path.exists() and (pretrained or input_size is not None or options):
        raise UsageError(f"{name} has its weights and its size; leave out what sets others")
    if (path / CONFIG).is_file():
        return _of_run(path, epoch, trust_files=trust_files)
    if epoch is not None:
        raise UsageError(f"{name} is not a run, which alone has weights of epochs")
    if (path / DESCRIPTION).is_file():
        return _evaluating(Network(name, load(path, trust_files=trust_files), {}))
    if path.is_dir():
        raise UsageError(
            f"{name} holds neither a run of fxtransport train nor a saved program: it has no "
            f"{CONFIG} and no {DESCRIPTION}"
        )
    if path.is_file() and path.suffix == ".safetensors":
        return _of_file(path, trust_files=trust_files)
    seed_all(seed)
    target = open_target(name, options=options, pretrained=pretrained, input_size=input_size)
    described: Any = (pretrained and getattr(target.model, "pretrained_cfg", None)) or {}
    prepared = {each: described[each] for each in PREPARED if described.get(each)}
    return _evaluating(Network(name, _compiled(target), prepared))


def _of_run(folder: Path, epoch: int | None, *, trust_files: bool) -> Network:
    last = epoch is None and RunFolder(folder).read().best is None
    run = load_run(folder, last=last, epoch=epoch, trust_files=trust_files)
    name = str(folder) if epoch is None else f"{folder}@{epoch}"
    source = DataSource.of(run.config)
    given = run.config.get("data.transform") or {}
    # pretrained weights need images as they were trained on
    prepared = run.inputs.transform if run.config["model.pretrained"] else None
    return _evaluating(Network(name, run.program, {**(prepared or {}), **given}, source))


def _of_file(path: Path, *, trust_files: bool) -> Network:
    """The model that an exported file names, with its weights."""
    try:
        with safe_open(path, "pt") as file:
            described: Mapping[str, str] = file.metadata() or {}
            # pyrefly: the object has these methods and no type
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not {"model", "options", "input_size"} <= described.keys():
        raise UsageError(
            f"{path} does not say which model its weights are of: give a file that fxtransport "
            "export wrote, or the run itself"
        )
    spec = resolve(described["model"])
    check_trusted(spec, str(path), trust_files=trust_files)
    size = tuple(json.loads(described["input_size"]))
    options = json.loads(described["options"])
    target = open_target(spec, options=options, input_size=size if len(size) == 3 else None)
    program = _compiled(target)
    match_dtypes(program, state, path)
    try:
        program.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(f"{path} belongs to another model: {error}") from error
    return _evaluating(Network(str(path), program, {}))


def _compiled(target: Target) -> Program:
    return compile_target(target, compile_passes(verify=False))


def _evaluating(network: Network) -> Network:
    network.program.eval()
    return network
