"""What images look like after each block of a run, as the decoder of an autoencoder shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fxtransport.errors import MODEL_ERRORS, UsageError, first_line
from fxtransport.models import submodule_of
from fxtransport.report.words import shape
from fxtransport.runs.autoencoders import Saved
from fxtransport.runs.load import Run

_TOLERANCE = 1e-3
"""How far what the first block is given may be from what the encoder returns, of the largest."""


@dataclass(frozen=True, eq=False)
class Decoding:
    """Images, and what the decoder shows of them.

    Attributes:
        images: N×C×H×W, pixels from 0 to 1.
        decoded: The same from what the first block is given, and after each block.
    """

    images: Tensor
    decoded: tuple[Tensor, ...]

    @property
    def error(self) -> float:
        """How far the autoencoder alone is from the images: the root mean square over pixels."""
        return _distance(self.decoded[0], self.images)

    @property
    def changes(self) -> tuple[float, ...]:
        """How far the image after each block is from that before the first, likewise."""
        return tuple(_distance(each, self.decoded[0]) for each in self.decoded[1:])


@torch.no_grad()
def decode(run: Run, file: Path, images: Tensor, states: Sequence[Tensor]) -> Decoding:
    """Decode what the blocks of a run return.

    Args:
        run: The run, whose model has the autoencoder's encoder.
        file: The autoencoder.
        images: N×C×H×W, as the run's model takes them.
        states: What the first block is given, and what each block returns.

    Raises:
        UsageError: the run is of points or its encoder is another one, a block changes the shape,
            or the file holds no autoencoder.
    """
    transform = run.inputs.transform
    if transform is None:
        raise UsageError(f"the run is of points: an autoencoder is of images, leave out {file}")
    saved = Saved.read(file)
    _check_images(saved, file, images)
    _check_shapes(run, saved, file, states)
    _check_encoder(run, saved, file, images, states[0])
    mean, std = (torch.tensor(transform[name]).reshape(-1, 1, 1) for name in ("mean", "std"))

    def pixels(normalized: Tensor) -> Tensor:
        return (normalized * std + mean).clamp(0, 1)

    return Decoding(pixels(images), tuple(pixels(saved.decoder(each)) for each in states))


def one_of_each(classes: Tensor, count: int) -> list[int]:
    """The indices of samples of as many classes as there are, in turn.

    >>> one_of_each(torch.tensor([1, 1, 0, 2, 1]), 4)
    [2, 0, 3, 1]
    """
    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(classes.tolist()):
        of_class.setdefault(label, []).append(index)
    turns = [(turn, label, i) for label, own in of_class.items() for turn, i in enumerate(own)]
    return [index for _, _, index in sorted(turns)[:count]]


def _check_images(saved: Saved, file: Path, images: Tensor) -> None:
    if tuple(images.shape[1:]) != saved.decoder.image:
        raise UsageError(
            f"the autoencoder in {file} is of images of {shape(saved.decoder.image)}, and the run "
            f"of {shape(images.shape[1:])}: make one with the model and the input size of the run"
        )


def _check_shapes(run: Run, saved: Saved, file: Path, states: Sequence[Tensor]) -> None:
    blocks = run.program.facts.blocks
    if not states:
        raise UsageError("the program has no residual block, so there is nothing to decode")
    for number, state in enumerate(states):
        if tuple(state.shape[1:]) != saved.decoder.hidden:
            what = f"the block {blocks[number - 1].path!r} returns" if number else "blocks begin at"
            raise UsageError(
                f"{what} {shape(state.shape[1:])}, and the decoder in {file} takes "
                f"{shape(saved.decoder.hidden)}: all blocks must keep the shape that the encoder "
                "returns, as those of nets:resnet_m do"
            )


def _check_encoder(run: Run, saved: Saved, file: Path, images: Tensor, given: Tensor) -> None:
    """See that the first block is given what the encoder of the file makes of the images."""
    encoder = submodule_of(run.recipe.target().model, saved.path).eval()
    remedy = (
        f"begin a run with it (model.initial_checkpoint={file}) and keep it "
        f"(trainer.freeze={saved.path})"
    )
    try:
        encoder.load_state_dict(saved.encoder)
        expected = encoder(images)
    except MODEL_ERRORS as error:
        raise UsageError(
            f"the encoder in {file} is not one of the run's model ({first_line(error):.200}): "
            f"{remedy}"
        ) from error
    if not float((given - expected).abs().max()) <= _TOLERANCE * float(expected.abs().max()):
        raise UsageError(
            f"the first block of the run is given something else than what the encoder in {file} "
            f"returns, so the decoder does not fit: {remedy}"
        )


def _distance(images: Tensor, others: Tensor) -> float:
    return float((images - others).square().mean(dtype=torch.float64).sqrt())
