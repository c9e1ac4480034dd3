"""What ends a fit at its beginning."""

from pathlib import Path

import pytest

from fxtransport.errors import CheckpointError, UsageError
from fxtransport.training import Parallel
from tests.training.runs import train_stream, trainer_of


def test_data_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        trainer_of(Parallel(1)).fit([])
    with pytest.raises(UsageError, match="nothing to evaluate on"):
        trainer_of(Parallel(1)).fit(train_stream(), [])


def test_a_folder_that_cannot_be_written_is_noticed_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot write"):
        trainer_of(Parallel(1), tmp_path / "file" / "run").fit(train_stream())
