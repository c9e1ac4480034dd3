"""Teachers are names, runs, saved programs, files of weights, and modules."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

import fxtransport
from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.example_inputs import example_of
from fxtransport.origin import Origin
from fxtransport.pairing.teachers import OpenTeacher, described, open_teacher
from fxtransport.training.teacher import hash_of
from tests.cli.running import in_process, trained
from tests.networks import Net, VectorNet

STUDENT = Net()
EXAMPLE = example_of(STUDENT)


def opened(source: Any, origin: Origin | None = None, **options: Any) -> OpenTeacher:
    return open_teacher(source, STUDENT, EXAMPLE, origin, **options)


def same(found: OpenTeacher, state: dict[str, torch.Tensor]) -> bool:
    return hash_of(found.model.state_dict()) == hash_of(state)


def test_a_module_is_taken_as_it_is() -> None:
    net = Net(2)
    found = opened(net)
    assert found.model is net
    assert found.example.tensors[0].shape == (2, 3, 8, 8)


def test_a_program_is_that_of_its_model() -> None:
    net = VectorNet()
    found = opened(transportify(net, torch.zeros(2, 6), verify=False))
    assert found.model is net
    assert found.example.tensors[0].shape == (2, 6)


def test_a_module_that_is_the_student_is_copied() -> None:
    found = opened(STUDENT)
    assert found.model is not STUDENT
    assert same(found, STUDENT.state_dict())
    part = copy.copy(STUDENT)
    assert opened(part).model is not part


def test_a_module_is_given_what_the_student_is_given_where_it_takes_it() -> None:
    convolutional = timm.create_model("test_resnet", num_classes=3)
    assert opened(convolutional).example.tensors[0].shape[2:] == (8, 8)
    fixed = timm.create_model("test_vit")
    assert opened(fixed).example.tensors[0].shape[2:] == (160, 160)


def test_normalization_is_what_timm_says() -> None:
    assert described(timm.create_model("test_resnet")) == ((0.5,) * 3, (0.5,) * 3)
    assert described(Net()) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network on digits."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return trained(in_process, folder, "--method", "e2e", "--epochs", "1")


def test_a_run_has_its_best_weights_and_its_normalization(run: Path) -> None:
    found = opened(run, trust_files=True)
    loaded = fxtransport.load_run(run, trust_files=True)
    assert same(found, loaded.program.model_state_dict())
    transform = loaded.data.transform
    assert transform is not None
    assert found.normalization == (tuple(transform["mean"]), tuple(transform["std"]))
    assert found.name == str(run)
    with pytest.raises(UsageError, match="trust_files=True"):
        opened(run)


def test_a_file_that_export_wrote_knows_its_model(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    result = in_process("export", str(run), "--output", str(file), "--trust-files")
    assert result.exit_code == 0, result.stderr
    found = opened(file, trust_files=True)
    assert same(found, fxtransport.load_run(run, trust_files=True).program.model_state_dict())
    with pytest.raises(UsageError, match="trust_files=True"):
        opened(file)


def test_other_files_are_for_the_student_s_model(nets: Path, tmp_path: Path) -> None:
    net, origin = Net(), Origin(f"{nets}:Net", {})
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        assert same(opened(tmp_path / name, origin), net.state_dict())
        with pytest.raises(UsageError, match="does not say which model its weights are for"):
            opened(tmp_path / name)
    other = Origin(f"{nets}:VectorNet", {})
    with pytest.raises(UsageError, match=r"are not for VectorNet, which differs in 0.linear.bias"):
        opened(tmp_path / "w.pth", other)


def test_a_saved_program(saved: Path) -> None:
    found = opened(saved, trust_files=True)
    program = fxtransport.load(saved, trust_files=True)
    assert same(found, program.model_state_dict())


def test_a_function_in_a_file_brings_its_weights(nets: Path) -> None:
    found = opened(f"{nets}:VectorNet")
    assert type(found.model).__name__ == "VectorNet"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nets:resnet_m", "nets:resnet_m has no weights to teach with: give the folder of a run"),
        ("absent.pth", "there is no file absent.pth; give a file of weights, a run or a name"),
        ("no_such_model", "no model is called 'no_such_model'"),
    ],
)
def test_what_is_no_teacher(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(source)


def test_files_and_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds neither a run nor a saved program"):
        opened(tmp_path)
    for name in ("bad.safetensors", "bad.pth"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(UsageError, match="cannot read the weights in"):
            opened(tmp_path / name, Origin("timm:test_resnet", {}))
