"""Images before and after an attack."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor

from fxtransport.detection.attacks.outcome import Outcome
from fxtransport.errors import UsageError


@dataclass(frozen=True, eq=False)
class AttackedSet:
    """Images before and after an attack.

    Which images count as attacked is told by their :class:`Outcome`.

    Attributes:
        attack: The name of the attack.
        settings: Its settings.
        clean: N×C×H×W, float32, pixels from 0 to 1.
        attacked: The same images after the attack.
        labels: The true classes, N, int64.
        before: The predicted classes of the clean images, N.
        after: The predicted classes of the attacked images, N.
        targets: The classes that were wanted, N; None if any but the true one was.
        broken: Which images the attack could not be run on or gave NaN for, N, bool; they are
            there unchanged.
        count_all: Whether every image counts as attacked.

    Raises:
        UsageError: the lengths or shapes do not agree.
    """

    attack: str
    settings: dict[str, Any]
    clean: Tensor
    attacked: Tensor
    labels: Tensor
    before: Tensor
    after: Tensor
    targets: Tensor | None = None
    broken: Tensor | None = field(default=None, repr=False)
    count_all: bool = False

    def __post_init__(self) -> None:
        if self.clean.shape != self.attacked.shape:
            raise UsageError(
                f"{tuple(self.clean.shape)} are clean and {tuple(self.attacked.shape)} attacked"
            )
        for name in ("labels", "before", "after", "targets", "broken"):
            value = getattr(self, name)
            if value is not None and value.shape != self.clean.shape[:1]:
                raise UsageError(f"{name}: {tuple(value.shape)} for {len(self)} images")

    def __len__(self) -> int:
        return len(self.clean)

    def take(self, rows: Tensor) -> Self:
        """The same of some images, given by their indices or a mask."""
        return replace(
            self,
            clean=self.clean[rows],
            attacked=self.attacked[rows],
            labels=self.labels[rows],
            before=self.before[rows],
            after=self.after[rows],
            targets=None if self.targets is None else self.targets[rows],
            broken=None if self.broken is None else self.broken[rows],
        )

    @property
    def misclassified(self) -> Tensor:
        """Which clean images the model was wrong about: N, bool."""
        return self.before != self.labels

    @property
    def unchanged(self) -> Tensor:
        """Which images came back as they were: N, bool."""
        return (self.clean == self.attacked).flatten(1).all(1)

    @property
    def fooled(self) -> Tensor:
        """For which attacked images the model predicts what was wanted: N, bool."""
        if self.targets is None:
            return self.after != self.labels
        return self.after == self.targets

    @property
    def outcome(self) -> Outcome:
        """What became of each image."""
        flags = (self.misclassified, self.unchanged, self.fooled)
        misclassified, unchanged, fooled = (flag.cpu().numpy() for flag in flags)
        return Outcome(misclassified, unchanged, fooled, self.count_all)

    @property
    def successful(self) -> Tensor:
        """Which were classified correctly, were changed, and fool the model: N, bool."""
        return ~self.misclassified & ~self.unchanged & self.fooled

    @property
    def success_rate(self) -> float:
        """The share of successful images among those that were classified correctly; 0 to 1.

        NaN if none was.
        """
        return self.outcome.success_rate

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are of each kind; the first four make up all of them.

        Broken ones, if it is known which are, are among the unchanged.
        """
        broken = {} if self.broken is None else {"broken": int(self.broken.sum())}
        return self.outcome.counts | broken
