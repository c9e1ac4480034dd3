"""Which weights of a run are loaded, and what was measured with them."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.runs.load import load_run
from fxtransport.training import Exit, evaluate
from tests.cli.running import in_process, state_of, trained
from tests.training.runs import rewrite_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first exit becomes worse, so that it is not best when the last is."""
    options = ["--method", "vangl", "--modules", "3", "--epochs", "4", "--lr", "0.2"]
    return trained(in_process, tmp_path_factory.mktemp("chosen") / "run", *options)


@pytest.mark.parametrize("exit", [None, 0, 1, 2, -1])
def test_what_is_said_of_weights_is_what_they_measure(folder: Path, exit: int | None) -> None:
    run = load_run(folder, exit=exit, trust_files=True)
    assert run.data.validation is not None
    assert run.measured == evaluate(run.program, run.data.validation)
    assert run.best is not None
    assert run.whole is not None
    if exit is None:
        assert run.best.exit in run.measured
        assert run.epochs == run.best.epoch
    if exit in (-1, 2):
        assert run.measured[-1] == run.whole.exit
        assert run.epochs == run.whole.epoch


def test_the_last_checkpoint_has_its_own_figures(folder: Path) -> None:
    run = load_run(folder, last=True, trust_files=True)
    assert [asdict(exit) for exit in run.measured] == list(state_of(folder)["exits"])
    assert run.epochs == 4


def test_the_last_exit_when_it_was_best_is_that_of_all_epochs(folder: Path) -> None:
    rows = (folder / "metrics.csv").read_text().splitlines()
    names = rows[0].split(",")
    of_last = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    found = [float(row["validation_accuracy"]) for row in of_last if row["part"] == "2"]
    run = load_run(folder, exit=-1, trust_files=True)
    assert run.whole is not None
    assert run.whole.exit.accuracy == pytest.approx(max(found), abs=1e-6)
    assert run.whole.epoch == 1 + found.index(max(found))


def test_weights_that_were_not_measured_say_so(tmp_path: Path) -> None:
    options = ["--method", "e2e", "--epochs", "1", "--ema", "0.5"]
    folder = trained(in_process, tmp_path / "run", *options)
    assert load_run(folder, last=True, trust_files=True).measured
    assert load_run(folder, last=True, average=False, trust_files=True).measured == ()


def test_a_run_of_an_earlier_version_kept_those_of_the_best_exit_alone(
    folder: Path, tmp_path: Path
) -> None:
    import shutil

    old = Path(shutil.copytree(folder, tmp_path / "old"))

    def forget(content: dict[str, object]) -> None:
        content.pop("whole")
        state = content["state"]
        assert isinstance(state, dict)
        state["dict"] = [pair for pair in state["dict"] if pair[0] != "whole"]
        best = next(pair[1] for pair in state["dict"] if pair[0] == "best")
        best["dict"] = [pair for pair in best["dict"] if pair[0] != "exits"]

    rewrite_checkpoint(old, forget)
    best, last = (load_run(old, exit=exit, trust_files=True) for exit in (None, -1))
    assert last.whole is None
    assert best.best is not None
    assert last.measured == (Exit(**asdict(best.best.exit)),)
    pairs = zip(best.program.state_dict().values(), last.program.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_an_exit_that_there_is_not(folder: Path) -> None:
    with pytest.raises(UsageError, match="there is no trained exit 3: there are 0, 1, 2"):
        load_run(folder, exit=3, trust_files=True)
