"""Where detectors are fitted and tested: on two parts of the images, which do not overlap."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.detector import FPR, HELD_OUT, Detector, Scores
from fxtransport.detection.observations import Observations
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.results import Row
from fxtransport.detection.splitting import FitAndTest, Rows, refuse_overlap, split_images
from fxtransport.detection.thresholds import choose_threshold
from fxtransport.errors import UsageError

Flags = NDArray[np.bool_]
Makers = Mapping[str, Callable[[], Detector]]
"""Makes new detectors, by their names."""
Measure = Callable[[Scores, Scores, float, Flags], Any]
"""The figures of one test, a dataclass of numbers: of the scores of clean images and of attacked
ones, the threshold, and whether each attack succeeded."""
CLEAN = "clean images"
MORE = "more clean images"


@dataclass(frozen=True, eq=False)
class Fitted:
    """A detector that was fitted.

    Attributes:
        name: Its name.
        fitted_on: What it was fitted on beside clean images; empty for nothing.
        detector: The detector.
        images: All that it was given, by what it is.
    """

    name: str
    fitted_on: str
    detector: Detector
    images: Mapping[str, Observations]


@dataclass(frozen=True, eq=False)
class Bench:
    """Clean images in two parts, detectors, and how they are judged.

    Detectors are fitted on B1 and tested on B2. An attacked image or a noisy copy is in the part
    of its original. Thresholds are chosen on images of B1 that are held out of the fitting.

    Args:
        clean: Of N clean images, with hashes.
        detectors: What is tested, by name.
        measure: Gives the figures, such as ``fxtransport.detection.metrics.metrics``.
        noisy: Of noisy copies of the clean images, in the same order. They count as clean, in
            fitting and in testing (THESIS 5.4); by default there are none.
        more: Of further clean images, to fit on with those of B1; nobody attacks them or tests on
            them. For detectors that need many images where attacks take time.
        test: The share of images to test on; the published one is 0.1.
        held_out: The share of the other images that thresholds are chosen on.
        fpr: The false-positive rate of thresholds that are chosen on clean images alone.
        seed: Determines the splits.

    Raises:
        UsageError: images have no hashes, or are too few to split.
    """

    clean: Observations
    detectors: Makers
    measure: Measure
    noisy: Observations | None = None
    more: Observations | None = None
    test: float = 0.1
    held_out: float = HELD_OUT
    fpr: float = FPR
    seed: int = 0
    parts: FitAndTest = field(init=False)
    """The rows of B1 and of B2."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", split_images(self.clean, self.test, self.seed))
        if self.noisy is not None and self.noisy.sources != self.clean.hashes:
            raise UsageError(
                "noisy copies are in the order of the clean images, and their sources are the "
                "hashes of these"
            )

    def fit(
        self, detector: str, fitted_on: str, attacked: ObservedAttack | Observations | None
    ) -> Fitted:
        """Fit a new detector on B1.

        Args:
            detector: Its name.
            fitted_on: What ``attacked`` is called.
            attacked: An attack on the clean images, or other data; None for clean images alone.

        Raises:
            UsageError: no image counts as attacked, or the detector cannot be fitted.
        """
        images = {CLEAN: self.clean_part(self.parts.fit)}
        others = None
        if isinstance(attacked, ObservedAttack):
            rows = self.counted(attacked, self.parts.fit)
            if not len(rows):
                raise UsageError(
                    f"{fitted_on} counts on none of {len(self.parts.fit)} images to fit on; "
                    "choose a stronger attack, or count all images"
                )
            others = attacked.observed.take(rows)
        elif attacked is not None:
            others = attacked
        if others is not None:
            images[f"images of {fitted_on}"] = others
        clean = images[CLEAN]
        if self.more is not None:
            images[MORE] = self.more
            clean = Observations.concatenated([clean, self.more])
        refuse_overlap(images, {CLEAN: self.clean_part(self.parts.test)})
        new = self.detectors[detector]()
        new.fit(clean, others, held_out=self.held_out, seed=self.seed)
        return Fitted(detector, fitted_on, new, images)

    def test_attack(self, fitted: Fitted, protocol: str, name: str, attack: ObservedAttack) -> Row:
        """Test on the images of an attack in B2; a row without figures if none counts.

        Raises:
            UsageError: the attack is on other images, or overlaps what was fitted on.
        """
        outcome = attack.outcome.take(self.parts.test)
        row = Row(
            protocol,
            fitted.name,
            fitted.fitted_on,
            name,
            outcome.success_rate,
            counts=outcome.counts,
        )
        rows = self.counted(attack, self.parts.test)
        if not len(rows):
            return row
        scores = self.scores(fitted, name, attack.observed.take(rows))
        return self.measured(row, fitted, scores, attack.outcome.successful[rows])

    def scores(self, fitted: Fitted, name: str, observed: Observations) -> Scores:
        """The scores of new images.

        Raises:
            UsageError: some were fitted on, or made from what was.
        """
        refuse_overlap(fitted.images, {f"images of {name}": observed})
        return fitted.detector.score(observed)

    def measured(self, row: Row, fitted: Fitted, scores: Scores, succeeded: Flags) -> Row:
        """A row with its figures: those scores against those of the clean images of B2."""
        own = self.scores(fitted, CLEAN, self.clean_part(self.parts.test))
        assert fitted.detector.calibration is not None
        threshold = choose_threshold(fitted.detector.calibration, self.fpr)
        figures = asdict(self.measure(own, scores, threshold, succeeded))
        return replace(
            row, metrics=figures, threshold=threshold, clean=len(own), attacked=len(scores)
        )

    def clean_part(self, rows: Rows) -> Observations:
        """Clean images, and noisy copies of them."""
        own = self.clean.take(rows)
        if self.noisy is None:
            return own
        return Observations.concatenated([own, self.noisy.take(rows)])

    def counted(self, attack: ObservedAttack, part: Rows) -> Rows:
        """The rows of a part that count as attacked.

        Raises:
            UsageError: the attack is not on the clean images.
        """
        if attack.observed.sources != self.clean.hashes:
            raise UsageError(
                f"{attack.name} is not an attack on these clean images: its sources are other "
                "hashes, or in another order"
            )
        return part[attack.outcome.counted[part]]
