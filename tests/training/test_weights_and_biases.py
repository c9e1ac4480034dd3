"""The numbers of ``metrics.csv`` for Weights & Biases, offline."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.training import Parallel
from tests.training.runs import train_stream, trainer_of, validation_stream


class Recorder:
    """Stands for the module ``wandb``: keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **options: Any) -> "Recorder":
        self.begun.append(options)
        return self

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.logged.append((step, numbers))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=found.init))
    return found


def test_every_epoch_is_told_offline(tmp_path: Path, recorder: Recorder) -> None:
    config = {"optimizer.lr": 0.05}
    trainer = trainer_of(Parallel(2), tmp_path / "a", wandb=True, about={"config": config})
    trainer.fit(train_stream(), validation_stream())
    [begun] = recorder.begun
    assert (begun["mode"], begun["name"], begun["config"]) == ("offline", "a", config)
    assert [step for step, _ in recorder.logged] == [1, 2]
    assert {"loss/part0", "validation_accuracy/part1", "lr/part1"} <= {*recorder.logged[0][1]}
    assert recorder.finished == 1


def test_a_run_that_goes_on_has_its_name(tmp_path: Path, recorder: Recorder) -> None:
    trainer_of(Parallel(2), tmp_path, wandb=True).fit(train_stream(), validation_stream())
    again = trainer_of(Parallel(2), tmp_path, wandb=True)
    again.restore()
    again.fit(train_stream(), validation_stream())
    other = trainer_of(Parallel(1), tmp_path / "b", wandb=True)
    other.fit(train_stream(), validation_stream())
    names = [begun["id"] for begun in recorder.begun]
    assert names[0] == names[1] != names[2]
    assert (tmp_path / "wandb.txt").read_text() == f"{names[0]}\n"


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"pip install 'fxtransport\[wandb\]'"):
        trainer_of(Parallel(1), tmp_path, wandb=True)


def test_it_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="Weights & Biases needs a run folder"):
        trainer_of(Parallel(1), wandb=True)
