"""What the exits of a run say of images."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.exits import exit_logits
from fxtransport.modes import eval_mode
from fxtransport.report.words import plural
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.load import Run
from fxtransport.runs.pictures import Picture, read_pictures
from fxtransport.training.devices import move_program, move_to
from fxtransport.training.learner import autocast


@dataclass(frozen=True)
class Guess:
    """A class and its probability: the softmax of the logits."""

    name: str
    probability: float


@dataclass(frozen=True)
class ExitGuesses:
    """What an exit says of an image.

    Attributes:
        exit: The index of its part.
        top: The most probable classes, the first the one that is predicted.
    """

    exit: int
    top: tuple[Guess, ...]


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        image: Its path.
        exits: By each exit that was asked, in order; empty where it cannot be read.
        error: Why it cannot be read.
    """

    image: str
    exits: tuple[ExitGuesses, ...] = ()
    error: str = ""


@dataclass
class Tally:
    """How many images were predicted, and how long it took.

    Attributes:
        images: Those that could be read.
        refused: Those that could not.
        seconds: Of all, reading included.
        model_seconds: Of the model alone.
    """

    images: int = 0
    refused: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def add(self, images: int, refused: int, seconds: float) -> None:
        """A batch was predicted, for which the model took some seconds."""
        self.images, self.refused = self.images + images, self.refused + refused
        self.model_seconds += seconds
        self.seconds = time.perf_counter() - self._began

    def __str__(self) -> str:
        refused = f", {self.refused} could not be read" if self.refused else ""
        line = f"{plural(self.images, 'image')}{refused}"
        if not self.images:
            return line
        whole, model = (self.images / max(s, 1e-9) for s in (self.seconds, self.model_seconds))
        return f"{line} in {self.seconds:.2f} s: {whole:.0f}/s, the model alone {model:.0f}/s"


def predict(
    run: Run,
    paths: Sequence[Path],
    *,
    exits: Sequence[int],
    topk: int = 1,
    batch_size: int = 64,
    num_workers: int = 0,
    tally: Tally | None = None,
) -> Iterator[Prediction]:
    """Ask exits about images in files. One that cannot be read is told, and the others follow.

    Images are prepared as those of the run's validation split were, without the run's data.

    Args:
        run: The run, with the weights that are asked.
        paths: Of files; see :func:`fxtransport.runs.pictures.find_pictures`.
        exits: The indices of the parts whose heads are asked.
        topk: How many classes are told; all, if there are fewer.
        batch_size: How many images are in one forward.
        num_workers: How many processes read images; with 0 this process does.
        tally: Is told of the images and of the time.

    Raises:
        UsageError: the run is not of images, there is no such exit, or a number is out of range.
    """
    for name, value in (("topk", topk), ("batch_size", batch_size)):
        if value < 1:
            raise UsageError(f"{name} is 1 or more, not {value}")
    tally = Tally() if tally is None else tally
    device = move_program(run.program, run.settings.objective, run.settings.trainer)
    for batch in read_pictures(run.inputs, paths, batch_size=batch_size, num_workers=num_workers):
        pixels = [each.pixels for each in batch if each.pixels is not None]
        began = time.perf_counter()
        found = _ask(run, torch.stack(pixels), exits, device) if pixels else {}
        tally.add(len(pixels), len(batch) - len(pixels), time.perf_counter() - began)
        yield from _named(batch, found, run.inputs, topk)


@torch.no_grad()
def _ask(run: Run, images: Tensor, exits: Sequence[int], device: torch.device) -> dict[int, Tensor]:
    """The probabilities of each exit, B×classes, on the CPU."""
    settings = run.settings.trainer
    with eval_mode(run.program), autocast(device, settings.amp):
        logits = exit_logits(run.program, move_to(images, device, settings.channels_last), exits)
    return {k: logits[k].float().softmax(1).cpu() for k in exits}


def _named(
    batch: Sequence[Picture], found: dict[int, Tensor], inputs: Inputs, topk: int
) -> Iterator[Prediction]:
    """The predictions of a batch, whose images that could be read have a row each."""
    most = min(topk, inputs.num_classes)
    tops = {k: probabilities.topk(most) for k, probabilities in found.items()}
    row = 0
    for each in batch:
        if each.pixels is None:
            yield Prediction(each.name, error=each.reason)
            continue
        said = (
            ExitGuesses(
                k,
                tuple(
                    Guess(inputs.class_names[place], probability)
                    for probability, place in zip(
                        top.values[row].tolist(), top.indices[row].tolist(), strict=True
                    )
                ),
            )
            for k, top in tops.items()
        )
        yield Prediction(each.name, tuple(said))
        row += 1
