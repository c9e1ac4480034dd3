"""The layout of timm's hub, which timm loads alone."""

from pathlib import Path

import pytest
import timm
import torch
from timm.data import resolve_model_data_config

from fxtransport.errors import UsageError, VerificationError
from fxtransport.exits import ExitModel
from fxtransport.origin import Origin
from fxtransport.runs.formats import example_inputs
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.timm_folder import write_timm
from fxtransport.targets import compile_named
from fxtransport.weights import model_state

INPUTS = Inputs(
    (1, 48, 48),
    ("ant", "bee", "cat"),
    "images",
    {"mean": (0.25,), "std": (0.5,), "interpolation": "bicubic", "crop_pct": 0.9},
)
OPTIONS = {"in_chans": 1, "num_classes": 3}
SIZED = {**OPTIONS, "img_size": 48}


@pytest.mark.parametrize(
    ("name", "options"), [("test_resnet", OPTIONS), ("test_vit", SIZED)], ids=["cnn", "vit"]
)
def test_timm_loads_it_with_its_classes_and_its_preprocessing(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    program = compile_named(f"timm:{name}", options=options, input_size=(1, 48, 48), verify=False)
    program.eval()
    whole = ExitModel(program, 0)
    write_timm(
        tmp_path / "net", Origin(f"timm:{name}", options), INPUTS, model_state(program), whole
    )
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    loaded = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    images = example_inputs((1, 48, 48), 3)
    assert torch.equal(loaded(images), program(images))
    found = resolve_model_data_config(loaded)
    assert found["input_size"] == (1, 48, 48)
    assert (tuple(found["mean"]), tuple(found["std"])) == ((0.25,), (0.5,))
    assert (found["interpolation"], found["crop_pct"]) == ("bicubic", 0.9)
    assert list(loaded.pretrained_cfg["label_names"]) == ["ant", "bee", "cat"]


def test_models_of_others_are_refused(tmp_path: Path) -> None:
    program = compile_named("nets:resnet_m", input_size=8, verify=False)
    with pytest.raises(UsageError, match=r"is for models of timm, and this run's is nets:resnet_m"):
        write_timm(tmp_path / "x", Origin("nets:resnet_m"), INPUTS, {}, ExitModel(program, 0))
    assert not list(tmp_path.iterdir())


def test_what_computes_other_numbers_is_not_written(tmp_path: Path) -> None:
    program = compile_named(
        "timm:test_resnet", options=OPTIONS, input_size=(1, 48, 48), verify=False
    )
    state = model_state(program)
    whole = ExitModel(program.eval(), 0)
    state["fc.bias"] += 1
    with pytest.raises(VerificationError, match="what timm loads computes other logits"):
        write_timm(tmp_path / "x", Origin("timm:test_resnet", OPTIONS), INPUTS, state, whole)
    assert not list(tmp_path.iterdir())
