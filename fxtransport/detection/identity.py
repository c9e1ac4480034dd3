"""Which model a detector belongs to, and how that model's images are prepared."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from fxtransport.detection.checks import State
from fxtransport.errors import SavedDetectorError, UsageError
from fxtransport.program import Program
from fxtransport.weights import model_state

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_CROP_MODES = ("center", "squash", "border")
_LARGEST_SIDE = 1 << 16


@dataclass(frozen=True)
class Preprocessing:
    """From an image to the model's input.

    Attributes:
        size: (C, H, W) of the input.
        mean: Subtracted from pixels in [0, 1], by channel.
        std: Divided by after that, by channel.
        interpolation: How images are resized.
        crop: The share of the resized image, in the middle, that is taken.
        crop_mode: How images of another shape are fitted: ``center``, ``squash`` or ``border``,
            as timm names it.

    Raises:
        UsageError: a value is invalid.
    """

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop: float = 1.0
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        given = {
            f"{name} {at}": value
            for name in ("size", "mean", "std")
            for at, value in enumerate(getattr(self, name))
        }
        names = ("interpolation", "crop", "crop_mode")
        state = State({}, {**{name: getattr(self, name) for name in names}, **given})
        state.choice("interpolation", _INTERPOLATIONS)
        state.choice("crop_mode", _CROP_MODES)
        state.number("crop", 1e-3, 1)
        channels, *_ = [state.integer(f"size {at}", 1, _LARGEST_SIDE) for at in range(3)]
        if {len(self.mean), len(self.std)} != {channels}:
            raise UsageError(f"mean and std are not of {channels} numbers, one for each channel")
        for at in range(channels):
            state.number(f"mean {at}")
            state.number(f"std {at}", 1e-12)
        state.finish()


@dataclass(frozen=True)
class ModelIdentity:
    """The model on whose activations a detector was fitted.

    Attributes:
        graph_hash: ``program.graph_hash``.
        weights_hash: :func:`weights_hash` of its weights. After
            fine-tuning the graph is the same, but the weights are others, and the detector is
            not valid.
        classes: The names of its classes, in the order of its logits.
        preprocessing: How images become its input.

    Raises:
        UsageError: a value is invalid.
    """

    graph_hash: str
    weights_hash: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        if not self.graph_hash:
            raise UsageError("the model's graph_hash is empty")
        if not _SHA256.fullmatch(self.weights_hash):
            raise UsageError(f"the model's weights_hash is not a SHA-256: {self.weights_hash!r}")
        if not self.classes:
            raise UsageError("the model has no classes: a name for each logit is needed")

    def to_json(self) -> dict[str, Any]:
        """Values of JSON, which :meth:`of` reads."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found

    @classmethod
    def of(cls, found: Any) -> "ModelIdentity":
        """From what :meth:`to_json` returned, all of which is checked.

        Raises:
            UsageError: it is of another kind.
        """
        outer = _fields(found, "model", ("graph_hash", "weights_hash", "classes", "preprocessing"))
        inner = _fields(
            outer["preprocessing"],
            "preprocessing",
            tuple(each.name for each in fields(Preprocessing)),
        )
        names = [outer["graph_hash"], outer["weights_hash"], inner["interpolation"]]
        lists = [outer["classes"], inner["size"], inner["mean"], inner["std"]]
        if not all(isinstance(each, list) for each in lists):
            raise UsageError("the model's classes, size, mean and std are not lists")
        if not all(isinstance(each, str) for each in [*names, *outer["classes"]]):
            raise UsageError("the model's hashes, interpolation and classes are not text")
        preprocessing = Preprocessing(
            size=tuple(inner["size"]),
            mean=tuple(inner["mean"]),
            std=tuple(inner["std"]),
            interpolation=inner["interpolation"],
            crop=inner["crop"],
            crop_mode=inner["crop_mode"],
        )
        return cls(
            outer["graph_hash"], outer["weights_hash"], tuple(outer["classes"]), preprocessing
        )

    def check(self, program: Program) -> None:
        """See that a program is of the model that the detector was fitted for.

        Raises:
            SavedDetectorError: it is of another, or has other weights.
        """
        if program.graph_hash != self.graph_hash:
            raise SavedDetectorError(
                "the detector was fitted for another model: the graphs differ; fit a detector for "
                "this model, or load the model that is saved with the detector"
            )
        if weights_hash(model_state(program)) != self.weights_hash:
            raise SavedDetectorError(
                "the detector was fitted for other weights of this model, before it was trained "
                "further perhaps, and is not valid for these; fit it again"
            )


def weights_hash(state: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of a model's weights: of names, types, shapes and values, in order of names.

    Args:
        state: By name; those of a program without heads are
            :func:`fxtransport.weights.model_state`. Equal weights have equal hashes on any device.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def identity_of(
    program: Program, classes: Sequence[str], preprocessing: Preprocessing
) -> ModelIdentity:
    """The model that a program was compiled of, with its weights as they are now.

    Raises:
        UsageError: there are no classes.
    """
    return ModelIdentity(
        program.graph_hash, weights_hash(model_state(program)), tuple(classes), preprocessing
    )


def _fields(found: Any, what: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(found, dict) or set(found) != set(names):
        raise UsageError(f"{what} is not described by {', '.join(names)}")
    return found
