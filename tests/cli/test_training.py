"""Errors of training say how to go on."""

import warnings
from pathlib import Path

import pytest
import torch

from fxtransport.cli import training
from fxtransport.errors import RunInterruptedError, TrainingError, UsageError
from fxtransport.runs.config import Config, complete_config
from fxtransport.training.metrics import LostMetricsWarning
from fxtransport.training.saver import ThreadsWarning
from tests.cli.running import write_net


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return complete_config({"model.name": write_net(tmp_path), "trainer.device": "cpu"})


def test_warnings_of_a_run_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="of torch") as others, training._show_warnings():
        warnings.warn("the run was on 1 threads", ThreadsWarning, stacklevel=1)
        warnings.warn("metrics.csv is damaged", LostMetricsWarning, stacklevel=1)
        warnings.warn("of torch", UserWarning, stacklevel=1)
    assert capsys.readouterr().err.splitlines() == [
        "warning: the run was on 1 threads",
        "warning: metrics.csv is damaged",
    ]
    assert [str(other.message) for other in others] == ["of torch"]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RunInterruptedError("SIGINT ended", 2), RunInterruptedError, "SIGINT ended; go on with: "),
        (torch.OutOfMemoryError("CUDA"), TrainingError, "the device has too little memory; train"),
        (
            RuntimeError("bad shape.\nmore"),
            TrainingError,
            "training failed: RuntimeError: bad shape; a run that is resumed comes to the same",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            TrainingError,
            "the device has too little memory; train",
        ),
        (MemoryError(), TrainingError, "the device has too little memory; train"),
        (
            RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."),
            TrainingError,
            "training failed: RuntimeError: DataLoader worker (pid 3) is killed by signal: Killed; "
            "go on with: fxtransport train --resume ",
        ),
        (
            torch.AcceleratorError("CUDA error: unspecified launch failure"),
            TrainingError,
            "training failed: AcceleratorError: CUDA error: unspecified launch failure; go on with",
        ),
        (UsageError("as it is"), UsageError, "as it is"),
    ],
)
def test_errors_say_how_to_go_on(
    config: Config, error: Exception, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught, training._explain(Path("runs/my run"), config):
        raise error
    assert str(caught.value).startswith(words)
    if "go on with" in words:
        assert str(caught.value).endswith("--resume 'runs/my run' --trust-files")


def test_other_errors_pass_as_they_are(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt), training._explain(Path("run"), config):
        raise KeyboardInterrupt
