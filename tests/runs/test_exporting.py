"""What is exported of a run: which exit, with which figures."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fxtransport.errors import UsageError
from fxtransport.exits import ExitModel
from fxtransport.runs.exporting import EXTRA, compare_sizes, describe, export_run, measured_exit
from fxtransport.runs.load import Run, load_run
from fxtransport.training import evaluate
from tests.runs.photos import moved, photo_run


@pytest.fixture(scope="module")
def run() -> Run:
    """A run of two parts, without its images."""
    return load_run(photo_run(), exit=-1)


def test_it_is_described_in_full(run: Run) -> None:
    found = json.loads(json.dumps(describe(run, 1)))
    assert found["model"] == "timm:test_resnet"
    assert found["options"] == {"num_classes": 3}
    assert found["input_size"] == [3, 32, 32]
    assert found["class_names"] == sorted(path.name for path in moved().iterdir())
    assert found["preprocessing"] == {
        "input_size": [3, 32, 32],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    assert (found["exit"], found["exits"]) == (1, 2)
    assert run.whole is not None
    assert found["validation_accuracy"] == run.whole.exit.accuracy


@pytest.mark.parametrize("exit", [0, 1])
def test_the_accuracy_that_is_said_is_that_of_what_is_exported(exit: int, tmp_path: Path) -> None:
    """On the run's own validation images, by nothing but torch."""
    found = load_run(photo_run(), exit=exit, changes={"data.root": str(moved())})
    export_run(found, tmp_path / "x.pt2", "torch", exit)
    extra = {EXTRA: ""}
    model = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    said = json.loads(extra[EXTRA])
    validation = found.data.validation
    assert validation is not None
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in validation)
    assert said["validation_accuracy"] == right / validation.num_samples
    measured = measured_exit(found, exit)
    assert measured is not None
    [again] = evaluate(found.program, validation, parts=[exit])
    assert measured == again


def test_weights_are_the_plain_models(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "x", "safetensors", 1)
    state = load_file(tmp_path / "x")
    expected = run.program.model_state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    with safe_open(tmp_path / "x", "pt") as opened:
        assert json.loads(opened.metadata()["class_names"]) == list(run.inputs.class_names)


@pytest.mark.parametrize("form", ["safetensors", "timm"])
def test_an_earlier_exit_is_not_the_plain_model(run: Run, form: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^{form} holds the plain model, .* part 0 with its head"):
        export_run(run, tmp_path / "x", form, 0)
    assert not list(tmp_path.iterdir())


def test_how_much_an_exit_saves(run: Run) -> None:
    found = compare_sizes(run, 0)
    early, whole = (ExitModel(run.program, k).parameters() for k in (0, 1))
    assert found.parameters == sum(p.numel() for p in early)
    assert found.whole_parameters == sum(p.numel() for p in whole)
    assert found.parameters < found.whole_parameters
    # the head may take longer than the parts that it replaces
    assert 0.1 < found.speedup < 10
