"""A run is loaded with its program, its data and its settings, and goes on in Python."""

from pathlib import Path

import pytest
import torch

import fxtransport
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.origin import Origin
from fxtransport.runs.load import Run, kept_epochs, load_run
from fxtransport.training import Parallel, Trainer, evaluate
from tests.cli.running import in_process, state_of, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model is in a file; tests may not change it."""
    options = ["--method", "trgl", "--modules", "2", "--epochs", "2", "--lr", "0.1"]
    return trained(in_process, tmp_path_factory.mktemp("trained") / "run", *options)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """The run, loaded."""
    return fxtransport.load_run(folder, last=True, trust_files=True)


def test_a_run_has_its_program_data_and_settings(run: Run, folder: Path) -> None:
    assert len(run.program.parts) == 2
    assert run.program.facts.origin == run.origin == Origin(f"{folder.parent / 'net.py'}:DigitsNet")
    assert run.data.num_classes == 10
    assert run.input_size == run.data.input_size == (1, 8, 8)
    assert run.settings.schedule == Parallel(2)
    assert run.settings.optimizer.lr == 0.1
    assert run.settings.trainer.device == "cpu"
    assert (run.epochs, run.exits, run.averaged) == (2, (0, 1), False)


def test_its_weights_are_those_that_were_measured(run: Run, folder: Path) -> None:
    assert run.data.validation is not None
    found = [exit.accuracy for exit in evaluate(run.program, run.data.validation)]
    assert found == [exit["accuracy"] for exit in state_of(folder)["exits"]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("nn.BatchNorm2d(", "nn.BatchNorm2d(eps=1e-2, num_features="),
        (".relu()", ".tanh()"),
    ],
)
def test_a_model_whose_code_has_changed_is_refused(
    before: str, after: str, folder: Path, tmp_path: Path
) -> None:
    """Its weights would fit, and give other numbers."""
    file = folder.parent / "net.py"
    source = file.read_text()
    changed = source.replace(before, after)
    assert changed != source
    commands = (["evaluate", str(folder)], ["export", str(folder), "-o", str(tmp_path / "w")])
    try:
        file.write_text(changed)
        with pytest.raises(CheckpointError, match="the run trained another program"):
            load_run(folder, trust_files=True)
        for command in commands:
            result = in_process(*command, "--trust-files")
            assert result.exit_code == 2
            assert "a setting of its modules" in result.stderr
    finally:
        file.write_text(source)
    assert not list(tmp_path.iterdir())


def test_it_can_be_saved_as_a_program(run: Run, tmp_path: Path) -> None:
    fxtransport.save(run.program, tmp_path)
    loaded = fxtransport.load(tmp_path, trust_files=True)
    expected = run.program.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_it_goes_on_in_python(folder: Path, tmp_path: Path) -> None:
    run = load_run(folder, last=True, trust_files=True)
    settings = run.settings
    trainer = Trainer(
        run.program,
        settings.objective,
        settings.schedule,
        optimizer=settings.optimizer,
        settings=settings.trainer,
        run=folder,
    )
    assert trainer.restore().epochs == 2


def test_no_file_is_run_unless_it_is_trusted(folder: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load_run(folder)
    assert str(raised.value) == (
        f"{folder / 'config.toml'} names a model in a Python file, {folder.parent / 'net.py'}, "
        "and would run it: give trust_files=True if you trust that file"
    )


def test_only_what_does_not_change_the_numbers_may_change(folder: Path) -> None:
    run = load_run(folder, trust_files=True, changes={"data.num_workers": 1})
    assert run.config["data.num_workers"] == 1
    with pytest.raises(UsageError, match=r"optimizer\.lr 1\.0 would change the run"):
        load_run(folder, trust_files=True, changes={"optimizer.lr": 1.0})


def test_weights_that_there_are_not(folder: Path) -> None:
    with pytest.raises(UsageError, match="has no average of its weights"):
        load_run(folder, trust_files=True, average=True)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not hold a run"):
        load_run(tmp_path)


def test_weights_along_the_run_are_kept(tmp_path: Path) -> None:
    options = ["--method", "e2e", "--epochs", "3", "--lr", "0.1", "--keep-checkpoints", "2"]
    folder = trained(in_process, tmp_path / "run", *options)
    assert kept_epochs(folder) == (0, 2)
    first, later, last = (
        load_run(folder, trust_files=True, **which).program.state_dict()
        for which in ({"epoch": 0}, {"epoch": 2}, {"last": True})
    )
    name = "stem.weight"
    assert not torch.equal(first[name], later[name])
    assert not torch.equal(later[name], last[name])
    assert load_run(folder, epoch=2, trust_files=True).epochs == 2
    with pytest.raises(UsageError, match=r"no weights of epoch 1: it kept those of 0, 2$"):
        load_run(folder, epoch=1, trust_files=True)
    with pytest.raises(UsageError, match="leave out last"):
        load_run(folder, epoch=2, last=True, trust_files=True)


def test_a_run_that_kept_none_says_so(folder: Path) -> None:
    assert kept_epochs(folder) == ()
    with pytest.raises(UsageError, match="trained without keep_checkpoints"):
        load_run(folder, epoch=1, trust_files=True)
