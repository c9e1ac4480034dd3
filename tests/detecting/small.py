"""A small network that was trained on digits, and detectors for it; made once for all tests."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from fxtransport.detecting.attack_text import parse_attacks
from fxtransport.detecting.attacking import Labeled, collect
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.detecting.folder import save_detector
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.subject import Subject, open_subject
from tests.cli.running import in_process

DETECTORS = ("transport", "one-class", "knn")
NET = ("--model-arg", "blocks=3", "--model-arg", "channels=8", "--image-size", "8")


@cache
def folder() -> Path:
    """A folder for what tests share; nothing of it is changed."""
    made = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def trained_run() -> Path:
    """The folder of a run: 575 digits are for validation, 360 for the test."""
    run = folder() / "run"
    options = ["--method", "e2e", "--epochs", "4", "--lr", "0.05", "--batch-size", "32"]
    split = ["--validation", "0.4", "--device", "cpu", "--no-verify", "--output", str(run)]
    result = in_process("train", "nets:resnet_m", *NET, *options, *split)
    assert result.exit_code == 0, result.stderr
    return run


@cache
def subject() -> Subject:
    """The network of the run, with its data."""
    return open_subject(str(trained_run()), detectors=DETECTORS)


@cache
def detector() -> ImageDetector:
    """Detectors that are fitted on FGM."""
    attacks = parse_attacks(["fgm{epsilon=0.1}"])
    return fit_detectors(subject(), FitSettings(detectors=DETECTORS, attacks=attacks))


@cache
def saved() -> Path:
    """The folder of these detectors; a test that changes it copies it first."""
    made = folder() / "det"
    save_detector(detector(), made)
    return made


@cache
def new_images() -> Labeled:
    """Images of the test split, 60 of them."""
    return collect(subject().data.test, 60, seed=0)


def write_pictures(folder: Path, images: Tensor) -> list[Path]:
    """Write images as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        levels = (image[0].numpy() * 255).round().astype(np.uint8)
        Image.fromarray(levels).save(path)
    return paths
