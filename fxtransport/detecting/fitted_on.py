"""What a detector was fitted on, as its folder tells."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fxtransport.detecting.source import DataSource
from fxtransport.errors import UsageError


@dataclass(frozen=True)
class AttackRecord:
    """An attack that detectors were fitted on.

    Attributes:
        name: Of the attack.
        settings: Its settings.
        success_rate: The share of images that it succeeded on, among those that were classified
            correctly; None if none were.
        counts: What became of the images, see ``Outcome.counts``.
    """

    name: str
    settings: Mapping[str, Any]
    success_rate: float | None
    counts: Mapping[str, int]


@dataclass(frozen=True)
class FittedOn:
    """What detectors were fitted on.

    Attributes:
        data: The set, and how it is split.
        split: Which split the images are of.
        clean: How many clean images were fitted on.
        calibration: How many clean images were held out of that, to calibrate.
        accuracy: The share of all of these that the model classifies correctly.
        attacks: The attacks on them.
        held_out: The share that was held out.
        seed: By which images were chosen and held out, and attacks drawn.
        count_all: Whether every image counted as attacked.
    """

    data: DataSource
    split: str
    clean: int
    calibration: int
    accuracy: float
    attacks: tuple[AttackRecord, ...]
    held_out: float
    seed: int
    count_all: bool = False

    def to_json(self) -> dict[str, Any]:
        """Values of JSON, which :meth:`of` reads."""
        return asdict(self)

    @classmethod
    def of(cls, found: Any) -> "FittedOn":
        """From what :meth:`to_json` returned.

        Raises:
            UsageError: it is of another kind.
        """
        try:
            attacks = tuple(AttackRecord(**each) for each in found["attacks"])
            return cls(**{**found, "data": DataSource(**found["data"]), "attacks": attacks})
        except (TypeError, KeyError) as error:
            raise UsageError(f"it does not say what it was fitted on: {error}") from error
