"""Attacks that know the detector: on a model and one of its detectors together (THESIS 5.4.5)."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fxtransport.detecting.attacking import Progress, observe, silent
from fxtransport.detecting.senses import Senses
from fxtransport.detecting.trial import Trial
from fxtransport.detection import Detector, Extractor, Observations
from fxtransport.detection.adaptive import (
    Evasion,
    FeatureMatch,
    GradientEvasion,
    Reading,
    Surrogate,
    Watched,
    evade_by_decisions,
    evade_by_features,
    evade_by_gradients,
)
from fxtransport.detection.adaptive.reading import WITHOUT
from fxtransport.detection.adaptive.surrogate import FEWEST, log_energies
from fxtransport.detection.attacks import AttackedSet
from fxtransport.detection.attacks.cache import content_hash, fetch, store
from fxtransport.detection.attacks.decision_attacks import HopSkipJump
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.errors import UsageError

DECISIONS, FEATURES, GRADIENTS = "decisions", "features", "gradients"
KINDS = (DECISIONS, FEATURES, GRADIENTS)
RELEASE = 1
"""Changes when an attack is changed, so that images of before are not taken from a cache."""


@dataclass(frozen=True)
class AdaptiveSettings:
    """Which attacks are made on detectors, and how long they search.

    Attributes:
        only: One of :data:`KINDS`; all that fit a detector if empty.
        steps: Of HopSkipJump, on decisions and on features; the published ones are 50.
        evaluations: Of the model for its first gradient; the k-th takes √k times as many.
        iterations: Of L-BFGS-B for each image that shall have features.
        epsilon: The largest change of a pixel by gradients.
        descents: How many steps along gradients.

    Raises:
        UsageError: a value is out of range, or an attack is unknown.
    """

    only: str = ""
    steps: int = 10
    evaluations: int = 30
    iterations: int = 50
    epsilon: float = 0.1
    descents: int = 100

    def __post_init__(self) -> None:
        if self.only not in ("", *KINDS):
            raise UsageError(f"only is one of {', '.join(KINDS)}, not {self.only!r}")
        for name in ("steps", "evaluations", "iterations", "descents"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} is a whole number, 1 or more, not {value!r}")
        epsilon: Any = self.epsilon
        if type(epsilon) not in (int, float) or not 0 < epsilon <= 1:
            raise UsageError(f"epsilon is above 0 to 1, not {epsilon!r}")

    @classmethod
    def named(cls, values: Mapping[str, Any]) -> "AdaptiveSettings":
        """From values by name.

        Raises:
            UsageError: a setting is unknown; see also :class:`AdaptiveSettings`.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                raise UsageError(f"attacks on detectors have no setting {name!r}; {hint}")
        return cls(**values)


@dataclass(frozen=True)
class AdaptivePlan:
    """Which attacks fit which detectors.

    Attributes:
        pairs: The names of a detector and of an attack that fits it.
        refused: Why the others do not fit, with what to take in their place.
    """

    pairs: tuple[tuple[str, str], ...]
    refused: tuple[str, ...]


def plan_of(
    detectors: Mapping[str, Detector], settings: AdaptiveSettings, images: int = FEWEST
) -> AdaptivePlan:
    """Which attacks to make.

    Args:
        detectors: By name.
        settings: Which attacks are wanted.
        images: How many clean images the attacker has.

    Raises:
        UsageError: none fits any detector.
    """
    kinds = (settings.only,) if settings.only else KINDS
    pairs, refused = [], []
    for name, detector in detectors.items():
        for kind in kinds:
            reason = unfit(kind, detector, images)
            if reason:
                refused.append(reason)
            else:
                pairs.append((name, kind))
    if not pairs:
        raise UsageError("; ".join(refused))
    return AdaptivePlan(tuple(pairs), tuple(refused))


def unfit(kind: str, detector: Detector, images: int = FEWEST) -> str:
    """Why an attack does not fit a detector, and what does; empty if it does."""
    name = detector.name
    without = [array for array in WITHOUT if array in detector.reads]
    if kind != DECISIONS and without:
        return (
            f"{kind} does not fit the detector {name}, which reads {' and '.join(without)}: that "
            f"has no gradients here; take {DECISIONS}, which needs none"
        )
    if kind == GRADIENTS and detector.needs_attacked:
        return (
            f"{kind} does not fit the detector {name}, which is fitted on attacked images, too: "
            f"the attacker's own detector is one of clean images; take {DECISIONS} or {FEATURES}"
        )
    if kind == GRADIENTS and images < FEWEST:
        return (
            f"{kind} on the detector {name} needs {FEWEST} clean images, of which the attacker "
            f"learns, and there are {images}; take more images, or {DECISIONS}"
        )
    return ""


def attack_detectors(
    trial: Trial,
    senses: Senses,
    before: AttackedSet,
    settings: AdaptiveSettings,
    *,
    seed: int,
    cache: Path | None = None,
    progress: Progress = silent,
) -> AdaptivePlan:
    """Test detectors on images that attack them, too; each is a row of the trial.

    The attacker has images that fool the model. Those that a detector finds are moved until
    they fool the model and are not found. Where that succeeds, they take the place of what they
    were moved from.

    Args:
        trial: Of the detectors, on clean images.
        senses: The model.
        before: The clean images of the trial, with an attack on the model alone.
        settings: Which attacks, and how.
        seed: Determines what is random.
        cache: A folder of images that were attacked before.
        progress: Is told how many images are attacked.

    Raises:
        UsageError: no attack fits, foolbox is not installed, or a file of the cache is damaged.
    """
    plan = plan_of(trial.detectors, settings, len(before))
    for name, kind in plan.pairs:
        detector = trial.detectors[name]
        threshold = detector.threshold(fpr=trial.fpr)
        told = partial(progress, f"{kind} on {name}")
        attack = _Attack(kind, detector, threshold, senses, before, settings, seed)
        found = attack.cached(cache, told)
        seen = _observed(kind, found, before, senses, trial.observed)
        trial.evasion(name, seen, found)
    return plan


def _observed(
    kind: str, found: Evasion, before: AttackedSet, senses: Senses, clean: Observations
) -> ObservedAttack:
    """The images of the attack before, but those that evade in their place."""
    images = before.attacked.clone()
    rows = found.rows[found.evaded]
    images[rows] = found.images[found.evaded]
    observed = observe(senses, images)
    after = torch.from_numpy(observed.predicted).to(before.after)
    return ObservedAttack.of(
        replace(before, attack=kind, attacked=images, after=after), observed, clean
    )


@dataclass(frozen=True, eq=False)
class _Attack:
    """One attack on a model and one of its detectors."""

    kind: str
    detector: Detector
    threshold: float
    senses: Senses
    before: AttackedSet
    settings: AdaptiveSettings
    seed: int

    def cached(self, cache: Path | None, progress: Callable[[int, int], None]) -> Evasion:
        """What it finds, or what it has found before."""
        if cache is None:
            return self.run(progress)
        key = self._key()
        path = cache / f"{self.kind}-{self.detector.name}-{key[:32]}.safetensors"
        known = fetch(path, key)
        if known is None:
            found = self.run(progress)
            store(path, key, {field.name: getattr(found, field.name) for field in fields(found)})
            return found
        device = self.before.clean.device
        return Evasion(**{name: value.to(device) for name, value in known.items()})

    def run(self, progress: Callable[[int, int], None]) -> Evasion:
        """What it finds."""
        watched, settings, seed = self._watched(), self.settings, self.seed
        search = HopSkipJump(steps=settings.steps, evaluations=settings.evaluations)
        if self.kind == DECISIONS:
            return evade_by_decisions(watched, self.before, search, seed=seed, progress=progress)
        if self.kind == FEATURES:
            match = FeatureMatch(search, iterations=settings.iterations)
            return evade_by_features(watched, self.before, match, seed=seed, progress=progress)
        logits, features, _ = watched.judge(self.before.clean)
        plain = self.detector.reads != ("transport",)
        surrogate = Surrogate.fit(logits, features, _same if plain else log_energies)
        climb = GradientEvasion(epsilon=settings.epsilon, steps=settings.descents)
        return evade_by_gradients(
            watched, self.before, surrogate, climb, seed=seed, progress=progress
        )

    def _watched(self) -> Watched:
        """The model and the detector, with gradients where the attack takes them."""
        own = self.senses.extractor
        mean, std = (None if one is None else one.flatten().tolist() for one in (own.mean, own.std))
        extractor = Extractor(
            own.program, mean=mean, std=std, differentiable=self.kind != DECISIONS
        )
        extractor.to(self.before.clean.device)
        reading = Reading(extractor, self.detector.reads, self.senses.further)
        return reading.watched_by(self.detector, self.threshold)

    def _key(self) -> str:
        """What the images are made of."""
        arrays, state = self.detector.state()
        text = {
            "attack": [self.kind, RELEASE, HopSkipJump().release],
            "settings": asdict(self.settings),
            "seed": self.seed,
            "detector": [self.detector.name, state, self.threshold],
        }
        model = self.senses.extractor.state_dict()
        tensors = {f"model.{name}": tensor for name, tensor in model.items()}
        tensors |= {
            f"detector.{name}": torch.from_numpy(np.ascontiguousarray(array))
            for name, array in arrays.items()
        }
        tensors |= dict(_images(self.before))
        return content_hash(text, tensors)


def _images(before: AttackedSet) -> Iterator[tuple[str, torch.Tensor]]:
    for name in ("clean", "attacked", "labels", "after"):
        yield name, getattr(before, name)


def _same(features: torch.Tensor) -> torch.Tensor:
    """Features as they are."""
    return features
