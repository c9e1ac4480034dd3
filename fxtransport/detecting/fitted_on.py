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
class OtherRecord:
    """Other data that detectors were fitted on, as images to find.

    Attributes:
        name: As it was named.
        data: The set, and how it is split.
        images: How many of its test split, chosen by the seed.
    """

    name: str
    data: DataSource
    images: int


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
        others: Other data that was to be found, like attacked images.
        noisy: How many noisy copies counted as clean; None if there were to be none.
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
    others: tuple[OtherRecord, ...] = ()
    noisy: int | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """The names of attacks and other data that were fitted on."""
        others = [each.name for each in self.others]
        return (*(each.name for each in self.attacks), *others)

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
            others = tuple(
                OtherRecord(**{**each, "data": DataSource(**each["data"])})
                for each in found.get("others", ())
            )
            data = DataSource(**found["data"])
            return cls(**{**found, "data": data, "attacks": attacks, "others": others})
        except (TypeError, KeyError) as error:
            raise UsageError(f"it does not say what it was fitted on: {error}") from error
