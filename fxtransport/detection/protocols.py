"""How detectors are tested: on seen and unseen attacks, the worst of all, and other data.

Each protocol yields a row for each test as soon as it is done. All of them use a :class:`Bench`,
which keeps what is fitted on and what is tested on apart.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from fxtransport.detection.bench import CLEAN, Bench, Fitted
from fxtransport.detection.observations import Observations
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.results import Row
from fxtransport.detection.splitting import refuse_overlap
from fxtransport.errors import UsageError

Attacks = Mapping[str, ObservedAttack]
"""Attacks on the clean images of a bench, by name."""
Distance = Literal["near", "far"]


def seen(bench: Bench, attacks: Attacks) -> Iterator[Row]:
    """Fit on each attack, and test on it.

    An attack of which nothing counts in B1 or B2 gives rows without figures.

    Raises:
        UsageError: attacks are not on the clean images, or a detector cannot be fitted.
    """
    for name, attack in attacks.items():
        for detector in bench.detectors:
            if len(bench.counted(attack, bench.parts.fit)):
                fitted = bench.fit(detector, name, attack)
                yield bench.test_attack(fitted, "seen", name, attack)
            else:
                outcome = attack.outcome.take(bench.parts.test)
                rate = outcome.success_rate
                yield Row("seen", detector, name, name, rate, counts=outcome.counts)


def unseen(bench: Bench, attacks: Attacks, fitted_on: str = "fgm") -> Iterator[Row]:
    """Fit on one attack, and test on each of the others.

    Raises:
        UsageError: there is no such attack, or see :func:`seen`.
    """
    for fitted in _fit_all(bench, attacks, fitted_on):
        for name, attack in attacks.items():
            if name != fitted_on:
                yield bench.test_attack(fitted, "unseen", name, attack)


def clean_only(bench: Bench, attacks: Attacks) -> Iterator[Row]:
    """Fit on clean images alone, and test on each attack.

    Raises:
        UsageError: a detector needs attacked images, or see :func:`seen`.
    """
    for fitted in _fit_all(bench, attacks, None):
        for name, attack in attacks.items():
            yield bench.test_attack(fitted, "clean only", name, attack)


def worst_case(bench: Bench, attacks: Attacks, fitted_on: str | None = "fgm") -> Iterator[Row]:
    """Let the attacker choose for each image the attack that is least suspicious.

    Of each image that counts as attacked by some attack, the smallest score counts: it is
    detected if all its attacked forms are (MEAD, arXiv 2206.15415).

    Args:
        bench: Images and detectors.
        attacks: All attacks that the attacker has.
        fitted_on: The attack to fit on; None for clean images alone.

    Raises:
        UsageError: there is no such attack, or see :func:`seen`.
    """
    part = bench.parts.test
    for fitted in _fit_all(bench, attacks, fitted_on):
        least = np.full(len(bench.clean), np.inf)
        succeeded = np.zeros(len(bench.clean), bool)
        for name, attack in attacks.items():
            rows = bench.counted(attack, part)
            if len(rows):
                scores = bench.scores(fitted, name, attack.observed.take(rows))
                least[rows] = np.minimum(least[rows], scores)
                succeeded |= attack.outcome.successful
        right = ~next(iter(attacks.values())).outcome.misclassified[part]
        rate = float(succeeded[part][right].mean()) if right.any() else float("nan")
        tested_on = f"{len(attacks)} attacks"
        row = Row("worst case", fitted.name, fitted.fitted_on, tested_on, rate)
        reached = np.isfinite(least)
        if reached.any():
            row = bench.measured(row, fitted, least[reached], succeeded[reached])
        yield row


def out_of_distribution(
    bench: Bench,
    others: Mapping[str, tuple[Distance, Observations]],
    fitted_on: tuple[str, Observations | ObservedAttack] | None = None,
) -> Iterator[Row]:
    """Test on other data, near or far as OpenOOD names them (Zhang et al., 2023).

    The clean images, what is fitted on, and each set to test on are disjoint.

    Args:
        bench: The images that are in the distribution, and detectors.
        others: Data to test on by name, with how far they are from the clean images.
        fitted_on: Other data, or an attack on the clean images, to fit on, with its name;
            None for clean images alone.

    Raises:
        UsageError: sets overlap, or see :func:`seen`.
    """
    name, known = ("", None) if fitted_on is None else fitted_on
    for other, (_, observed) in others.items():
        refuse_overlap({CLEAN: bench.clean}, {f"images of {other}": observed})
        if isinstance(known, Observations):
            refuse_overlap({f"images of {name}": known}, {f"images of {other}": observed})
    for detector in bench.detectors:
        fitted = bench.fit(detector, name, known)
        for other, (distance, observed) in others.items():
            scores = bench.scores(fitted, other, observed)
            row = Row(distance, detector, name, other)
            yield bench.measured(row, fitted, scores, np.ones(len(scores), bool))


def _fit_all(bench: Bench, attacks: Attacks, fitted_on: str | None) -> Iterator[Fitted]:
    """Each detector, fitted on one of the attacks, or on clean images alone."""
    if not attacks:
        raise UsageError("there are no attacks to test on")
    if fitted_on is not None and fitted_on not in attacks:
        raise UsageError(
            f"there is no attack {fitted_on!r} to fit on: there are {', '.join(attacks)}"
        )
    attack = None if fitted_on is None else attacks[fitted_on]
    for detector in bench.detectors:
        yield bench.fit(detector, fitted_on or "", attack)
