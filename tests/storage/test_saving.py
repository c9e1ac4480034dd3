"""A save is all there or not at all, and what cannot be saved is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fxtransport import compile_named, load, save, transportify
from fxtransport.errors import ModelNameError, SavedProgramError
from fxtransport.files import check_writable
from fxtransport.models import build, resolve
from fxtransport.saved import CODE, WEIGHTS
from fxtransport.storage import DESCRIPTION
from tests.storage.programs import assert_same, program_of, refused


class StopSaveError(Exception):
    pass


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_an_interrupted_save_leaves_the_old_or_nothing_that_loads(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    before = load(folder, trust_files=True)
    other = program_of(f"{file}:Net", modules=2)
    with torch.no_grad():
        other.get_parameter("3.bias").fill_(5.0)
    replace, done = Path.replace, 0

    def interrupted(path: Path, target: Path) -> Path:
        nonlocal done
        if done == moves:
            raise StopSaveError
        done += 1
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(StopSaveError):
        save(other, folder, model=f"{file}:Net")
    assert {path.name for path in folder.iterdir()} == {DESCRIPTION, WEIGHTS, CODE}
    if moves == 0:
        assert_same(load(folder, trust_files=True), before)
    else:
        refused(folder)


def test_a_save_replaces_an_older_one(folder: Path, file: Path) -> None:
    program = program_of(f"{file}:Net", modules=3)
    save(program, folder, model=f"{file}:Net")
    assert_same(load(folder, trust_files=True), program)


def test_a_folder_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    program = program_of(f"{file}:Net")
    for target in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(SavedProgramError, match=rf"^cannot write into {target}: Not a dir"):
            check_writable(target, SavedProgramError)
        with pytest.raises(SavedProgramError, match=r"^cannot write into "):
            save(program, target, model=f"{file}:Net")


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b", SavedProgramError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": nn.ReLU}, "^options are saved as JSON: "),
        ({"pretrained": True}, "^the option 'pretrained' says where weights come from"),
        ({"checkpoint_path": "x"}, "^the option 'checkpoint_path' says where weights"),
    ],
)
def test_options_that_cannot_be_saved(
    file: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SavedProgramError, match=words):
        save(program_of(f"{file}:Net"), tmp_path, model=f"{file}:Net", **options)
    assert not list(tmp_path.iterdir())


def test_a_program_on_the_meta_device_is_refused(tmp_path: Path) -> None:
    spec = resolve("torchvision:mobilenet_v3_small")
    program = transportify(
        build(spec, device="meta"), torch.zeros(2, 3, 32, 32, device="meta"), verify=False
    )
    with pytest.raises(SavedProgramError, match="is on the meta device and has no weights"):
        save(program, tmp_path, model=spec.canonical)


def test_an_unknown_name_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNameError, match="no model is called 'no_such_model'"):
        save(program_of(f"{file}:Net"), tmp_path, model="no_such_model")
    assert not list(tmp_path.iterdir())


def test_a_program_that_knows_no_name_says_what_to_give(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SavedProgramError, match=r"so give the name.*model=.*num_classes=10\)$"):
        save(program_of(f"{file}:Net"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no options is another model than the program's: 0.linear.weight is (6, 6), not (5"),
        ({"width": 5, "depth": 2}, "2.linear.weight is missing, not (5, 5)"),
        ({"width": 5, "deep": 2}, "cannot be built|Net failed"),
    ],
)
def test_another_model_is_refused_at_save_time(
    file: Path, tmp_path: Path, options: dict[str, int], words: str
) -> None:
    program = program_of(f"{file}:Net", width=5, depth=4)
    with pytest.raises((SavedProgramError, ModelNameError)) as caught:
        save(program, tmp_path, model=f"{file}:Net", **options)
    assert any(word in str(caught.value) for word in words.split("|"))
    assert not list(tmp_path.iterdir())


def test_options_without_a_name_are_refused(file: Path, tmp_path: Path) -> None:
    program = compile_named(f"{file}:Net")
    with pytest.raises(SavedProgramError, match=r"^width: options go with the argument model"):
        save(program, tmp_path, width=5)
