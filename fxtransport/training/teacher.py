"""A network that does not train: what it says of the student's images."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F

from fxtransport.errors import UsageError
from fxtransport.modes import eval_mode
from fxtransport.objectives import logits_of
from fxtransport.objectives.neurons import Pool, activations_of
from fxtransport.objectives.transfer import LayerOf, Reference
from fxtransport.program import Program
from fxtransport.residue import Measures
from fxtransport.training.devices import program_device


@dataclass(frozen=True)
class Bridge:
    """From the student's input to the teacher's: other size, channels and normalization.

    Args:
        size: The shape of the teacher's input, without the batch; None: as the student's.
        own: The mean and the standard deviation of each channel by which the student's images
            were normalized; None: not known.
        other: Those that the teacher needs; None: as the student's.
    """

    size: tuple[int, ...] | None = None
    own: tuple[Sequence[float], Sequence[float]] | None = None
    other: tuple[Sequence[float], Sequence[float]] | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The teacher's input, as ``timm.task.DistillationTeacher`` normalizes it.

        Args:
            images: B×C×H×W of the student; anything where nothing is to be changed.
        """
        if self.own is not None and self.other is not None and self.own != self.other:
            mean, std = (_channels(values, images) for values in self.own)
            # timm's order, so that its numbers are the same
            images = images * std + mean
            mean, std = (_channels(values, images) for values in self.other)
            images = (images - mean) / std
        if self.size is None:
            return images
        if images.shape[-2:] != torch.Size(self.size[-2:]):
            images = F.interpolate(images, self.size[-2:], mode="bilinear", antialias=True)
        return (
            images if images.shape[1] == self.size[0] else images.expand(-1, self.size[0], -1, -1)
        )


class Teacher:
    """A program in eval mode, without gradients, as a reference for a student.

    Args:
        program: The teacher's, with its paired layers tapped by name.
        layers: Those layers.
        pool: How they are pooled.
        bridge: From the student's images to its own.
        logits: Whether its logits are asked for.
        name: What users call it.
    """

    def __init__(
        self,
        program: Program,
        layers: Sequence[LayerOf] = (),
        *,
        pool: Pool = "mean",
        bridge: Bridge | None = None,
        logits: bool = True,
        name: str = "the teacher",
    ) -> None:
        self.program = program
        self.layers = tuple({layer.name: layer for layer in layers}.values())
        self.pool = pool
        self.bridge = bridge or Bridge()
        self.logits = logits
        self.name = name
        self.sha256 = hash_of(program.model_state_dict())
        """Of its weights and buffers."""
        self._dims = {layer.name: layer.channels for layer in self.layers}
        self._order = tuple(name for name in program.facts.activations if name in self._dims)
        self._measures = Measures(activation=self._activations)

    def asked_for(self, *, logits: bool) -> Self:
        """The same teacher, of whose logits it is said whether they are asked for."""
        other = copy.copy(self)
        other.logits = logits
        return other

    def to(self, device: torch.device) -> Self:
        """Move it."""
        self.program.to(device)
        return self

    def _activations(self, name: str, value: torch.Tensor) -> torch.Tensor | None:
        if name not in self._dims:
            return None
        return activations_of(value, self._dims[name], self.pool)

    @torch.no_grad()
    def __call__(self, images: Any) -> Reference:
        """What it says of a batch of the student's images, on its own device.

        Raises:
            UsageError: a layer has no row for each image, or its number of classes is asked for
                and it returns no logits.
        """
        count = len(images[0]) if isinstance(images, tuple) else len(images)
        device = program_device(self.program)
        given = (
            tuple(x.to(device) for x in images)
            if isinstance(images, tuple)
            else (self.bridge(images.to(device)),)
        )
        with eval_mode(self.program):
            output, found = self.program(*given, measure=self._measures)
        for name, value in zip(self._order, found, strict=True):
            if len(value) != count:
                raise UsageError(
                    f"{name} of {self.name} has {len(value)} rows for {count} images; pair "
                    "another layer"
                )
        logits = logits_of(output).float() if self.logits else None
        return Reference(dict(zip(self._order, found, strict=True)), logits)


def hash_of(state: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of tensors: their names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        kept = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {kept.dtype} {tuple(kept.shape)}\n".encode())
        digest.update(kept.reshape(-1).view(torch.uint8).numpy().tobytes() if kept.numel() else b"")
    return digest.hexdigest()


def _channels(values: Sequence[float], images: torch.Tensor) -> torch.Tensor:
    return torch.tensor(tuple(values), dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
