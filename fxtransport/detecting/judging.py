"""Judge images in files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.image_files import Found, find_images, read_images
from fxtransport.detecting.source import BATCH
from fxtransport.detection.detector import FPR
from fxtransport.errors import UsageError


@dataclass(frozen=True)
class Judged:
    """What is said of one image.

    Attributes:
        image: Its path, with its number where a file holds several.
        verdict: ``clean`` or ``suspicious``; empty where it cannot be judged.
        p_value: The conformal p-value.
        score: The larger, the more suspicious.
        predicted: The name of the class that the model predicts.
        error: Why it cannot be judged.
    """

    image: str
    verdict: str = ""
    p_value: float = float("nan")
    score: float = float("nan")
    predicted: str = ""
    error: str = ""


def judge_files(
    detector: ImageDetector, paths: Iterable[Path], name: str | None = None, *, fpr: float = FPR
) -> Iterator[Judged]:
    """Judge the images in files and folders, one after the other.

    An image that cannot be judged is yielded with its error, and the others follow.

    Args:
        detector: With its model.
        paths: Files, and folders whose files are read, those in folders inside included.
        name: Which of the detectors judges; by default the first.
        fpr: At most this share of clean images is flagged, in expectation.

    Raises:
        UsageError: there is no such file or detector, a folder holds no image, or too few images
            were calibrated with for this rate.
    """
    # what is wrong with the question is said before anything is read
    detector.named(name).threshold(fpr=fpr)
    found = read_images(detector, find_images(paths))
    while batch := list(islice(found, BATCH)):
        yield from _judged(detector, batch, name, fpr)


def _judged(
    detector: ImageDetector, batch: Sequence[Found], name: str | None, fpr: float
) -> Iterator[Judged]:
    good = [each for each in batch if each.pixels is not None]
    said = iter(_ask(detector, good, name, fpr))
    for each in batch:
        yield Judged(each.name, error=each.reason) if each.pixels is None else next(said)


def _ask(
    detector: ImageDetector, batch: Sequence[Found], name: str | None, fpr: float
) -> list[Judged]:
    """What is said of images that were read; if one of them is refused, each is asked alone."""
    pixels = [each.pixels for each in batch if each.pixels is not None]
    if not pixels:
        return []
    try:
        said = detector.score(torch.stack(pixels), name, fpr=fpr)
    except UsageError as error:
        if len(batch) == 1:
            return [Judged(batch[0].name, error=str(error))]
        return [judged for each in batch for judged in _ask(detector, [each], name, fpr)]
    rows = zip(batch, said.words, said.p_values, said.scores, said.predicted_names, strict=True)
    return [Judged(each.name, word, float(p), float(s), own) for each, word, p, s, own in rows]
