"""How one detector of the detection benchmark is fitted, and what it is tested on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from detection_nets import DATA
from detection_scene import FITTED_ON, TEST, Job, Scene, moved_scene, scene, with_more_clean

from fxtransport.detection import Observations
from fxtransport.detection.bench import Bench, Fitted
from fxtransport.detection.metrics import metrics
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.protocols import (
    clean_only,
    out_of_distribution,
    seen,
    unseen,
    worst_case,
)
from fxtransport.detection.registry import detector_class, make_detector
from fxtransport.detection.results import Row
from fxtransport.detection.splitting import split_images

OOD_ATTACK = "cw"
KNOW_OTHER_DATA = ("transport", "mahalanobis", "mahalanobis-logistic", "mahalanobis-noise")
"""Those that the thesis tests on other data that they were fitted on."""


class Variant(NamedTuple):
    """A detector with options, perhaps on images that are moved along the gradient."""

    detector: str
    options: dict[str, Any]
    needs_attacked: bool
    moved: bool = False


VARIANTS = {
    "knn": Variant("knn", {"k": 5}, False),
    "mahalanobis-logistic": Variant("mahalanobis", {"combine": "logistic"}, True),
    "mahalanobis-noise": Variant("mahalanobis", {"combine": "logistic"}, True, True),
}
"""Of the nearest neighbors the fifth counts, not the 50th: a class has fewer clean images than 50.
Mahalanobis is there as Lee et al. fit it, too: layers are weighted by attacked images, without and
with noise. Without these options it is fitted on clean images alone, and the largest distance
counts."""


def variant_of(name: str) -> Variant:
    """What a name stands for."""
    if name in VARIANTS:
        return VARIANTS[name]
    return Variant(name, {}, detector_class(name).needs_attacked)


class Remembering(Bench):
    """A bench that fits a detector once on what it was fitted on before."""

    def fit(
        self, detector: str, fitted_on: str, attacked: ObservedAttack | Observations | None
    ) -> Fitted:
        """See :meth:`Bench.fit`."""
        known: dict[tuple[str, str], Fitted] = self.__dict__.setdefault("known", {})
        key = (detector, fitted_on)
        if key not in known:
            known[key] = super().fit(detector, fitted_on, attacked)
        return known[key]


def bench_of(job: Job, found: Scene) -> Bench:
    """Where the detector of a cell is fitted and tested."""
    variant = variant_of(job.name)

    def make() -> Any:
        return make_detector(variant.detector, found.head, **variant.options)

    clean, more = with_more_clean(job.network) if job.fits_on_more else (found.clean, None)
    noisy = found.noisy
    if noisy is not None and more is not None:
        noisy = replace(noisy, values={name: noisy[name] for name in more.values})
    return Remembering(
        clean, {job.name: make}, metrics, noisy=noisy, more=more, test=TEST, seed=job.seed
    )


def scene_of(job: Job) -> Scene:
    """What the detector of a cell is tested on."""
    return (moved_scene if variant_of(job.name).moved else scene)(job.network)


def tests_of(job: Job) -> Iterator[tuple[str, Iterator[Row]]]:
    """All tests of one detector, by what is fitted on."""
    variant, found = variant_of(job.name), scene_of(job)
    bench = bench_of(job, found)
    near, far = DATA[job.data].near, DATA[job.data].far
    others: Any = {near: ("near", found.near), far: ("far", found.far)}
    attack = found.attacks[OOD_ATTACK]
    yield "seen", seen(bench, found.attacks)
    yield "unseen", unseen(bench, found.attacks, FITTED_ON)
    yield "worst case", worst_case(bench, found.attacks, FITTED_ON)
    yield "near", out_of_distribution(bench, {near: others[near]}, (far, found.far))
    yield "far", out_of_distribution(bench, {far: others[far]}, (near, found.near))
    yield f"after {OOD_ATTACK}", out_of_distribution(bench, others, (OOD_ATTACK, attack))
    if not variant.needs_attacked:
        yield "clean only", clean_only(bench, found.attacks)
        yield "worst case, clean only", worst_case(bench, found.attacks, None)
        yield "other data, clean only", out_of_distribution(bench, others)


def seen_other_data(job: Job) -> Iterator[tuple[str, Iterator[Row]]]:
    """The test of one detector on the near set, of which another part was fitted on."""
    found, near = scene_of(job), DATA[job.data].near
    parts = split_images(found.near, TEST, job.seed)
    fitted_on, tested_on = (found.near.take(rows) for rows in (parts.fit, parts.test))
    tests = out_of_distribution(
        bench_of(job, found), {near: ("near", tested_on)}, (near, fitted_on)
    )
    yield "near, seen", tests
