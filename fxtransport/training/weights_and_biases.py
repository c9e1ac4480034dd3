"""An observer that writes metrics for Weights & Biases, offline: nothing leaves the machine."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxtransport.errors import UsageError
from fxtransport.files import read_text
from fxtransport.training.checkpoint import RunFolder
from fxtransport.training.metrics import numbers_of
from fxtransport.training.reports import EpochReport, FitReport, Observer, Plan

NAME = "wandb.txt"
"""The file in a run's folder that holds its name there, which is the same after a resume."""
_LIMIT = 1000


class WeightsAndBiases(Observer):
    """Writes the numbers of ``metrics.csv`` into ``wandb`` in the run's folder.

    ``wandb sync`` uploads them, ``wandb sync --append`` those of a run that was resumed.

    Args:
        folder: The folder of the run.
        config: What the run's page says of its configuration.

    Raises:
        UsageError: wandb is not installed.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UsageError(
                "Weights & Biases is not installed: pip install 'fxtransport[wandb]'"
            ) from error
        self._init: Any = wandb.init
        self._folder = RunFolder(folder)
        self._config = dict(config)
        self._run: Any = None

    def on_start(self, plan: Plan) -> None:
        """Begin, or go on under the same name."""
        path = self._folder.path / NAME
        with self._folder.writing():
            known = path.exists() and plan.position.steps > 0
            name = read_text(path, limit=_LIMIT).strip() if known else uuid.uuid4().hex[:8]
            if not known:
                self._folder.write_text(NAME, f"{name}\n")
        self._run = self._init(
            project="fxtransport",
            id=name,
            name=self._folder.path.absolute().name,
            dir=str(self._folder.path),
            config=self._config,
            mode="offline",
        )

    def on_epoch(self, epoch: EpochReport) -> None:
        """Write the numbers of the epoch, for each part."""
        self._run.log(numbers_of(epoch), step=epoch.position.epochs)

    def on_end(self, report: FitReport) -> None:
        """Close its files."""
        self._run.finish()
