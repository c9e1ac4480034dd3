"""All that detectors read of images, taken from a program in one forward."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from fxtransport.detection.features import Moments, TransportFeatures, check_mode, logits_of
from fxtransport.detection.hashes import image_hashes
from fxtransport.detection.head import PENULTIMATE
from fxtransport.detection.observations import Array, Observations
from fxtransport.errors import UsageError
from fxtransport.ir import Block, Kind
from fxtransport.modes import eval_mode
from fxtransport.process import device_of
from fxtransport.program import Program
from fxtransport.residue import Measures, Residue

LAYERS = 4
"""How many blocks are layers, where the stages of the model are not."""

_FEWEST, _MOST = 3, 8
_SLACK = 1e-3
"""How far pixels may lie outside of [0, 1], by rounding."""


class Extractor(nn.Module):
    """From images to the arrays that detectors read.

    ========================= =====================================================================
    ``transport``             B×2M, see :class:`TransportFeatures`
    ``logits``                B×C
    ``penultimate``           B×F, what enters the classifier; where the program was compiled with
                              the option ``activations=("penultimate",)``
    ``layer.0``, ``layer.1``… B×channels, what leaves the blocks :attr:`layers`, averaged over space
    ========================= =====================================================================

    All are float32, without gradients by default, and computed in eval mode, as by
    :class:`TransportFeatures`, also under ``torch.compile`` and ``torch.export``. A call does not
    look at the values of the images; :meth:`observe` does.

    Args:
        program: The program, which is shared, not copied.
        mean: The mean of each channel, which is subtracted from pixels in [0, 1]. None: images
            are given as the model takes them.
        std: The standard deviation of each channel, by which is divided after that.
        kinds: The kinds of additions that ``transport`` is made of; by default all.
        directions: How many directions ``transport`` has.
        layers: Which blocks are layers, by their indices in :attr:`blocks`. By default, the last
            of each stage where there are three to eight stages, and else four at equal distances.
        differentiable: Whether gradients can be taken of what a call returns.

    Raises:
        UsageError: as :class:`TransportFeatures`; or mean and std do not fit, or there is no such
            block.
    """

    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __init__(
        self,
        program: Program,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        kinds: Iterable[Kind | str] | None = None,
        directions: int = 1,
        layers: Sequence[int] | None = None,
        differentiable: bool = False,
    ) -> None:
        super().__init__()
        self.features = TransportFeatures(program, kinds, directions, differentiable)
        self.training = program.training
        self.layers = default_layers(self.blocks) if layers is None else tuple(sorted(set(layers)))
        for index in self.layers:
            if not 0 <= index < len(self.blocks):
                raise UsageError(f"there are blocks 0 to {len(self.blocks) - 1}, and no {index}")
        _check_normalization(mean, std)
        for name, values in (("mean", mean), ("std", std)):
            tensor = None if values is None else torch.tensor(values).reshape(-1, 1, 1)
            self.register_buffer(name, tensor)

    @property
    def program(self) -> Program:
        """The program that runs."""
        return self.features.program

    @property
    def differentiable(self) -> bool:
        """Whether gradients can be taken."""
        return self.features.differentiable

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that are measured."""
        return self.features.blocks

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arrays of B images, by name.

        Raises:
            UsageError: the model returns no logits, or a residue has not one row for each image.
        """
        if torch.compiler.is_compiling():
            check_mode(self.program)
            return self._extract(images)
        with eval_mode(self.program):
            return self._extract(images)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """What the model is given for images: they themselves, if there is no mean."""
        if self.mean is None or self.std is None:
            return images
        return ((images - self.mean) / self.std).to(images.dtype)

    def place(self, images: torch.Tensor) -> torch.Tensor:
        """Images on the model's device, in the dtype of its weights, without a gradient."""
        floating = (p.dtype for p in self.program.parameters() if p.is_floating_point())
        return images.detach().to(device_of(self.program), next(floating, images.dtype))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of B images alone, B×C, with gradients where they are on, in any mode.

        Raises:
            UsageError: the model returns none.
        """
        return logits_of(self.program(self.normalize(images)))

    def observe(
        self,
        batches: Iterable[Any],
        progress: Callable[[int], None] = lambda _: None,
        further: Mapping[str, Callable[[torch.Tensor], Any]] = MappingProxyType({}),
    ) -> Observations:
        """The observations of many images, with their hashes.

        Args:
            batches: Each B×C×H×W, floating-point; or a tuple or list that starts with that, such
                as images and classes. They are converted to the dtype of the model's weights.
            progress: Called after each batch with the number of images so far.
            further: What else is observed: functions of the images, on the model's device, that
                return B×F tensors or arrays, by name.

        Raises:
            UsageError: there are no images; or they hold NaN or infinities, are no pixels in
                [0, 1] where there is a mean, or are not of the shape that the model takes; or
                what the model computes of them holds NaN or infinities.
        """
        found: list[dict[str, Array]] = []
        hashes: list[str] = []
        for batch in batches:
            images = images_of(batch)
            self._check(images, len(hashes))
            if len(images):
                placed = self.place(images)
                arrays = {name: value.detach() for name, value in self(placed).items()}
                arrays |= {name: torch.as_tensor(take(placed)) for name, take in further.items()}
                found.append({name: value.cpu().numpy() for name, value in arrays.items()})
                hashes += image_hashes(images)
                progress(len(hashes))
        if not found:
            raise UsageError("there are no images to look at")
        joined = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        return Observations(joined, tuple(hashes))

    def _extract(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            return self._measured(images)

    def _measured(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = _Seen(Moments(self.features), self.layers, self.features.kinds)
        measures = Measures(residue=seen.residue, activation=seen.activation)
        output, _ = self.program(self.normalize(images), measure=measures)
        logits = logits_of(output)
        found = {"transport": seen.moments.features(logits), "logits": logits}
        found |= seen.penultimate
        for k, (index, value) in enumerate(zip(self.layers, seen.outputs, strict=True)):
            found[f"layer.{k}"] = _averaged(value, self.blocks[index].channels)
        return {name: value.float() for name, value in found.items()}

    def _check(self, images: torch.Tensor, before: int) -> None:
        """Check the values of images, of which there were some before.

        Raises:
            UsageError: they cannot be judged.
        """
        example = self.program.facts.example.inputs[0]
        shape = tuple(example.shape[1:])
        if images.dim() != len(shape) + 1 or images.shape[1] != shape[0]:
            raise UsageError(
                f"images are of shape {tuple(images.shape[1:])}; the model takes {shape}"
            )
        finite = images.isfinite().flatten(1).all(1)
        if not finite.all():
            raise UsageError(
                f"image {before + int(finite.int().argmin())} holds NaN or infinities "
                f"({int((~finite).sum())} of {len(images)} images do); leave out these images"
            )
        if self.mean is None or not images.numel():
            return
        low, high = images.min().item(), images.max().item()
        if low < -_SLACK or high > 1 + _SLACK:
            raise UsageError(
                f"images are pixels from 0 to 1, which are normalized here, and these are from "
                f"{low:.3g} to {high:.3g}; divide by 255, or leave out mean and std"
            )


class _Seen:
    """Takes what is read of the blocks and activations of one forward."""

    def __init__(
        self, moments: Moments, layers: Sequence[int], kinds: frozenset[Kind] | None
    ) -> None:
        self.moments = moments
        self.outputs: list[torch.Tensor] = []
        self.penultimate: dict[str, torch.Tensor] = {}
        self._layers, self._kinds = layers, kinds
        self._index = 0

    def residue(self, residue: Residue) -> None:
        """The moments of a block, and what leaves it, if it is a layer."""
        self.moments(residue)
        if self._kinds is None or residue.kind in self._kinds:
            if self._index in self._layers:
                self.outputs.append(residue.output)
            self._index += 1

    def activation(self, name: str, value: torch.Tensor) -> None:
        """What enters the classifier."""
        if name == PENULTIMATE:
            self.penultimate[name] = value.flatten(1)


def default_layers(blocks: Sequence[Block]) -> tuple[int, ...]:
    """The indices of the blocks that are layers, where nobody says otherwise."""
    last = {block.stage: index for index, block in enumerate(blocks)}
    stages = tuple(sorted(last.values()))
    if _FEWEST <= len(stages) <= _MOST:
        return stages
    count = min(LAYERS, len(blocks))
    return tuple((k + 1) * len(blocks) // count - 1 for k in range(count))


def _averaged(value: torch.Tensor, channels: int) -> torch.Tensor:
    """The mean over space of B×channels, in float32 at least."""
    if value.dim() <= 2:
        return value.reshape(value.shape[0], -1)
    space = [d for d in range(1, value.dim()) if d != channels]
    return value.mean(space, dtype=torch.float64 if value.dtype == torch.float64 else torch.float32)


def images_of(batch: Any) -> torch.Tensor:
    """The images of a batch, which may be followed by classes.

    Raises:
        UsageError: there are none, or they are no floating-point numbers.
    """
    images = batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise UsageError(f"a batch of images is a tensor of floating-point numbers, not {found}")
    return images


def _check_normalization(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if (mean is None) != (std is None):
        raise UsageError("give both mean and std, or neither")
    if mean is not None and std is not None:
        good = len(mean) == len(std) and all(map(math.isfinite, [*mean, *std]))
        if not good or not all(value > 0 for value in std):
            raise UsageError(
                f"mean {tuple(mean)} and std {tuple(std)} are as many finite numbers, with "
                "deviations above 0"
            )
