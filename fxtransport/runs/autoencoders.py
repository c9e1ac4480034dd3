"""Autoencoders: the encoder of a run's model, and a decoder that gives images back.

A run that begins with the encoder, and keeps it frozen, has blocks whose outputs the decoder shows
as images (LAP, supplementary; THESIS F.2, figures 28 to 30).
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport.data.streams import Batch, TrainStream
from fxtransport.errors import MODEL_ERRORS, TrainingError, UsageError, first_line
from fxtransport.files import check_writable
from fxtransport.models import submodule_of
from fxtransport.nets import Decoder
from fxtransport.randomness import deterministic_algorithms, seed_all
from fxtransport.runs.formats import write_tensors
from fxtransport.runs.recipe import Recipe

METADATA = "fxtransport.autoencoder"
"""The entry of a file that describes it, as JSON."""
ENDING = ".safetensors"
"""By which timm knows what is in a file."""
DECODER = "image_decoder"
"""What the names of the decoder's weights begin with; those of the encoder have its path."""


class Autoencoder(nn.Module):
    """decoder(encoder(x)), which is to be x.

    Args:
        encoder: Makes maps, B×C×H×W, of images.
        decoder: Makes images of such maps.
        path: Where the encoder is in the model that it is from.
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder, path: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.path = path

    def forward(self, images: Tensor) -> Tensor:
        """The images, B×C×H×W, as the decoder gives them back."""
        decoded: Tensor = self.decoder(self.encoder(images))
        return decoded


@dataclass(frozen=True)
class Saved:
    """What the file of an autoencoder holds.

    Attributes:
        path: Where the encoder is in its model.
        encoder: Its weights, by their names in it.
        decoder: The decoder, in eval mode.
    """

    path: str
    encoder: dict[str, Tensor]
    decoder: Decoder

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what :func:`save_autoencoder` wrote.

        Raises:
            UsageError: there is no such file, or it holds something else.
        """
        if not file.is_file():
            raise UsageError(f"there is no file {file}: fxtransport autoencode writes one")
        try:
            with safe_open(file, "pt") as content:
                described = (content.metadata() or {}).get(METADATA)
                state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise UsageError(f"cannot read the autoencoder in {file}: {reason}") from error
        if described is None:
            raise UsageError(
                f"{file} holds no autoencoder: give a file that fxtransport autoencode wrote"
            )
        try:
            found = json.loads(described)
            path = str(found["encoder"])
            decoder = Decoder(tuple(found["hidden"]), tuple(found["image"]))
            decoder.load_state_dict(_below(state, DECODER))
        except MODEL_ERRORS as error:
            raise UsageError(f"{file} is damaged: {first_line(error):.300}") from error
        return cls(path, _below(state, path), decoder.eval())


def check_target(file: Path) -> None:
    """Check that an autoencoder can be written into a file, before it is trained.

    Raises:
        UsageError: the name does not end in .safetensors, or nothing can be written there.
    """
    if file.suffix != ENDING:
        raise UsageError(f"name the file {file.stem}{ENDING}, not {file.name}: runs begin with it")
    check_writable(file.parent, UsageError)


def make_autoencoder(recipe: Recipe, path: str) -> Autoencoder:
    """An autoencoder with the encoder of a run's model. Its weights depend on the run's seed.

    Args:
        recipe: The model, and the data.
        path: Where the encoder is in the model: the module that is given images, and whose output
            the first block is given.

    Raises:
        UsageError: there is no such module, it is given no images or returns no maps that can be
            decoded, or the data is points.
    """
    if recipe.inputs.transform is None:
        name = recipe.config["data.name"]
        raise UsageError(f"{name} are points: an autoencoder is of images")
    seed_all(recipe.config["trainer.seed"])
    encoder = submodule_of(recipe.target().model, path)
    example = torch.zeros(2, *recipe.shape)
    try:
        with torch.no_grad():
            hidden = encoder.eval()(example)
    except MODEL_ERRORS as error:
        raise UsageError(
            f"{path} takes no images of {'×'.join(map(str, recipe.shape))} "
            f"({first_line(error):.200}): give the module that is given the images"
        ) from error
    shape = tuple(hidden.shape[1:]) if isinstance(hidden, Tensor) else ()
    try:
        return Autoencoder(encoder, Decoder(shape, recipe.shape), path)
    except UsageError as error:
        raise UsageError(
            f"{path} cannot be decoded: {error}; give another encoder or input_size"
        ) from error


def train_autoencoder(
    model: nn.Module,
    batches: TrainStream,
    *,
    epochs: int,
    lr: float = 1e-3,
    device: str | torch.device = "cpu",
    tell: Callable[[int, float], object] = lambda _, __: None,
) -> None:
    """Minimize the mean square error of the images that come back, by Adam.

    Nothing is random but the weights that the model has and the order of the batches.

    Args:
        model: Returns images of the shape of those that it is given. It is moved to the device.
        batches: Images, B×C×H×W; their classes are not looked at.
        epochs: How many.
        lr: The learning rate.
        device: Where.
        tell: Is told after each epoch which it was, from 1, and the mean error in it.

    Raises:
        UsageError: there is no such device.
        TrainingError: the error is not a number.
    """
    try:
        model.to(device).train()
    except (AssertionError, RuntimeError) as error:
        raise UsageError(
            f"the device {str(device)!r} cannot be used: {first_line(error)}"
        ) from error
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with deterministic_algorithms(True):
        for epoch in range(epochs):
            total, samples = torch.zeros((), device=device), 0
            for images, _ in batches.epoch(epoch):
                given = images.to(device)
                loss = F.mse_loss(model(given), given)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(given)
                samples += len(given)
            mean = float(total) / samples
            if not math.isfinite(mean):
                raise TrainingError(
                    f"the error is not a number in epoch {epoch + 1}: try a smaller lr"
                )
            tell(epoch + 1, mean)


@torch.no_grad()
def reconstruction_error(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The mean square error of the pixels that come back, as they are normalized, in eval mode.

    Args:
        model: Returns images of the shape of those that it is given.
        batches: Images, B×C×H×W, one at least, and their classes.
    """
    device = next(model.parameters()).device
    model.eval()
    total, pixels = 0.0, 0
    for images, _ in batches:
        given = images.to(device)
        total += float((model(given) - given).square().sum(dtype=torch.float64))
        pixels += given.numel()
    return total / pixels


def save_autoencoder(model: Autoencoder, file: Path) -> None:
    """Write an autoencoder as safetensors, which ``model.initial_checkpoint`` takes as well.

    The weights of the encoder have the names that they have in its model.

    Raises:
        CheckpointError: the file cannot be written.
    """
    parts = {model.path: model.encoder, DECODER: model.decoder}
    state = {
        f"{path}.{name}": tensor.detach().cpu().contiguous()
        for path, part in parts.items()
        for name, tensor in part.state_dict().items()
    }
    about: dict[str, Any] = {
        "encoder": model.path,
        "hidden": model.decoder.hidden,
        "image": model.decoder.image,
    }
    write_tensors(file, state, {"format": "pt", METADATA: json.dumps(about)})


def _below(state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a path, by the rest of their names."""
    start = f"{path}."
    return {n.removeprefix(start): t for n, t in state.items() if n.startswith(start)}
