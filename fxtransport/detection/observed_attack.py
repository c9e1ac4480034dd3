"""What detectors see of attacked images, and what became of these."""

from dataclasses import dataclass, replace
from typing import Self

from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.detection.attacks.outcome import Outcome
from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError


@dataclass(frozen=True, eq=False)
class ObservedAttack:
    """Observations of attacked images, in the order of the clean ones.

    Attributes:
        name: The name of the attack.
        observed: Of all N images after the attack; their sources are the clean images' hashes.
        outcome: What became of each.

    Raises:
        UsageError: there are other numbers of images, or no sources.
    """

    name: str
    observed: Observations
    outcome: Outcome

    def __post_init__(self) -> None:
        if not self.observed.sources:
            raise UsageError(f"{self.name}: attacked images need the hashes of their originals")
        if len(self.outcome) != len(self.observed):
            raise UsageError(
                f"{self.name}: {len(self.outcome)} images were attacked, and "
                f"{len(self.observed)} were observed"
            )

    @classmethod
    def of(cls, attacked: AttackedSet, observed: Observations, clean: Observations) -> Self:
        """Put together what an attack did and what was observed.

        Args:
            attacked: Of N images.
            observed: Of the attacked images, in the same order.
            clean: Of the clean images, in the same order, with hashes.

        Raises:
            UsageError: there are other numbers of images, or no hashes.
        """
        if not len(attacked) == len(observed) == len(clean.hashes):
            raise UsageError(
                f"{attacked.attack}: {len(attacked)} images were attacked, {len(observed)} were "
                f"observed, and there are hashes of {len(clean.hashes)} clean ones"
            )
        sourced = replace(observed, sources=clean.hashes)
        return cls(attacked.attack, sourced, attacked.outcome)
