"""What a run notes of its data: a model needs no images to be loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.load import load_run
from tests.cli.running import in_process, write_net
from tests.training.runs import rewrite_checkpoint

CLASSES = ("ant", "bee")


def write_images(folder: Path, classes: tuple[str, ...] = CLASSES, count: int = 12) -> Path:
    """A folder of gray images, each of its own level."""
    for at, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), number + 100 * at).save(folder / name / f"{number}.png")
    return folder


def train_on(images: Path, run: Path, *options: str) -> Path:
    """A run on a folder of images."""
    net, sizes = write_net(run.parent), ("--batch-size", "4", "--validation", "0.4")
    shape = ("--model-arg", "classes=2", "--no-verify", "--epochs", "1", "--device", "cpu")
    arguments = ("train", net, "--data", str(images), *sizes, *shape, *options)
    result = in_process(*arguments, "--output", str(run))
    assert result.exit_code == 0, result.stderr
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose images are elsewhere now; tests may not change it."""
    folder = tmp_path_factory.mktemp("trained")
    images = write_images(folder / "images")
    run = train_on(images, folder / "run", "--transform", "mean=[0.25]", "--transform", "std=[0.5]")
    images.rename(folder / "moved")
    return run


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_run_is_loaded_without_its_images(trained: Path) -> None:
    run = load_run(trained, trust_files=True)
    assert run.inputs.class_names == CLASSES
    assert run.inputs.input_size == run.input_size == (1, 8, 8)
    assert run.inputs.transform is not None
    assert (run.inputs.transform["mean"], run.inputs.transform["std"]) == ((0.25,), (0.5,))
    assert run.program(torch.zeros(1, 1, 8, 8)).shape == (1, 2)
    with pytest.raises(UsageError, match=r"images' is neither.*; if a folder has moved, root="):
        _ = run.data


def test_data_that_has_moved_is_found_and_known_again(trained: Path) -> None:
    where = {"data.root": str(trained.parent / "moved")}
    run = load_run(trained, trust_files=True, changes=where)
    assert run.data.class_names == CLASSES
    assert Inputs.of(run.data).transform == run.inputs.transform


def test_other_images_are_noticed_when_they_are_asked_for(trained: Path, tmp_path: Path) -> None:
    other = write_images(tmp_path / "other", count=13)
    run = load_run(trained, trust_files=True, changes={"data.root": str(other)})
    with pytest.raises(CheckpointError, match="the run began with other data"):
        _ = run.data


def test_a_run_that_noted_nothing_needs_its_images(copy: Path, trained: Path) -> None:
    """As runs of earlier versions do."""
    rewrite_checkpoint(copy, lambda content: content["summary"]["about"].pop("inputs"))
    with pytest.raises(UsageError, match="neither a set nor a folder"):
        load_run(copy, trust_files=True)
    where = {"data.root": str(trained.parent / "moved")}
    assert load_run(copy, trust_files=True, changes=where).inputs.class_names == CLASSES


BAD: dict[str, Any] = {
    "nothing": {},
    "a list": [],
    "no size": {"input_size": []},
    "a size of nothing": {"input_size": [0]},
    "a true size": {"input_size": [True]},
    "classes of numbers": {"class_names": [1]},
    "no classes": {"class_names": []},
    "no text": {"description": None},
    "a transform that is none": {"transform": "none"},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_what_is_damaged_is_refused(change: Any) -> None:
    good = Inputs((1, 8, 8), CLASSES, "images", {"mean": (0.5,)})
    content = json.loads(json.dumps(good.to_json()))
    assert Inputs.read(content) == good
    with pytest.raises(CheckpointError):
        Inputs.read({**content, **change} if change else change)
