"""What ends a fit at its beginning."""

from dataclasses import replace
from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.training import (
    EndToEnd,
    EpochReport,
    FitReport,
    Observer,
    OptimizerSettings,
    Parallel,
    Plan,
    Sequential,
)
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.progress import check_progress, read_progress
from tests.training.runs import train_stream, trainer_of, validation_stream


def test_data_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        trainer_of(Parallel(1)).fit([])
    with pytest.raises(UsageError, match="nothing to evaluate on"):
        trainer_of(Parallel(1)).fit(train_stream(), [])


def test_a_folder_that_cannot_be_written_is_noticed_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        trainer_of(Parallel(1), tmp_path / "file" / "run").fit(train_stream())


class Log(Observer):
    def __init__(self) -> None:
        self.epochs: list[EpochReport] = []
        self.plan: Plan | None = None

    def on_start(self, plan: Plan) -> None:
        self.plan = plan

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs.append(epoch)


def patient(run: Path | None, log: Log, epochs: int = 9) -> FitReport:
    """A run whose rate is 0, so that nothing becomes better after the first epoch."""
    trainer = trainer_of(
        EndToEnd(epochs), run, observers=[log], patience=3, optimizer=OptimizerSettings(lr=0.0)
    )
    if run is not None and RunFolder(run).has_checkpoint:
        trainer.restore()
    return trainer.fit(train_stream(), validation_stream(), validation_stream())


def test_a_run_ends_where_nothing_becomes_better(tmp_path: Path) -> None:
    log = Log()
    report = patient(tmp_path, log)
    assert report.best is not None
    waited = [e.position.epochs for e in log.epochs if e.position.epochs > report.best.epoch]
    assert len(waited) == 3
    assert report.stopped
    assert report.position.epochs == report.best.epoch + 3 < 9
    assert report.test is not None

    again = Log()
    assert patient(tmp_path, again) == report
    assert again.epochs == []
    assert again.plan is not None
    assert again.plan.finished
    progress = read_progress(RunFolder(tmp_path).read().state)
    check_progress(progress, EndToEnd(9).phases(1), exits=2)
    with pytest.raises(CheckpointError, match="phase 0 of 1 and has ended"):
        check_progress(replace(progress, stopped=False), EndToEnd(9).phases(1), exits=2)


def test_patience_is_the_same_in_two_processes(tmp_path: Path) -> None:
    class Stop(Log):
        def on_epoch(self, epoch: EpochReport) -> None:
            super().on_epoch(epoch)
            if len(self.epochs) == 2:
                raise KeyboardInterrupt

    log = Stop()
    with pytest.raises(KeyboardInterrupt):
        patient(tmp_path, log)
    assert patient(tmp_path, Log()) == patient(None, Log())


def test_a_run_that_is_shorter_than_its_patience() -> None:
    report = patient(None, Log(), epochs=2)
    assert report.position.epochs == 2
    assert not report.stopped


def test_patience_without_a_meaning() -> None:
    with pytest.raises(UsageError, match=r"patience waits for a better exit .* validation=0\.1"):
        trainer_of(Parallel(1), patience=1).fit(train_stream())
    with pytest.raises(UsageError, match="where they train in turn"):
        trainer_of(Sequential(1), patience=1)
    with pytest.raises(UsageError, match="patience is 0; it must be at least 1 epoch"):
        trainer_of(Parallel(1), patience=0)
