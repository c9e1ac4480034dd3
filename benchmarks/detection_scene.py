"""What the detectors of one network are tested on: clean and attacked images, and other data."""

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detection_nets import DATA, Net, Pixels, other_images, pixels, trained
from detection_noise import Known, Magnitudes, chosen, moved
from torch import Tensor

from fxtransport.detection import Extractor, Observations
from fxtransport.detection.attacks import (
    ATTACKS,
    AttackedSet,
    PixelModel,
    attack_images,
    make_attack,
)
from fxtransport.detection.head import Head
from fxtransport.detection.laplacian import laplacian
from fxtransport.detection.mahalanobis import Mahalanobis
from fxtransport.detection.noise import noisy_copies
from fxtransport.detection.nss import nss
from fxtransport.detection.observed_attack import ObservedAttack
from fxtransport.detection.odin import OdinScores
from fxtransport.detection.splitting import split_images
from fxtransport.detection.stability import LogitStability

TEST = 0.3
BUDGETS: dict[str, dict[str, float]] = {
    "cw": {"search_steps": 4, "steps": 50, "first_weight": 1.0},
    "fmn": {"steps": 50},
    "ddn": {"steps": 50},
    "autoattack": {"steps": 20, "queries": 200},
    "square": {"queries": 500},
    "hsj": {"steps": 6, "evaluations": 30},
    "boundary": {"steps": 300},
}
QUICK: dict[str, dict[str, float]] = {
    "cw": {"search_steps": 5, "steps": 40, "first_weight": 1.0},
    "autoattack": {"steps": 3, "queries": 10},
    "square": {"queries": 30},
    "hsj": {"steps": 2, "evaluations": 10},
    "boundary": {"steps": 30},
}
BOUNDED = ("fgm", "bim", "pgd", "apgd", "autoattack", "square")
FITTED_ON = "fgm"
ADAPTIVE = 30
"""How many images of B2 are attacked again, together with a detector."""
OBSERVED = (
    "transport", "logits", "penultimate", "layer", "laplacian", "nss", "odin", "stability",
)  # fmt: skip


MORE_CLEAN = ("relative-mahalanobis",)
"""Detectors of clean images alone whose covariance has more columns than B1 has images: they are
fitted on further images, which nobody attacks, with those of B1."""


def budgets_name(quick: bool) -> str:
    """A name of the settings of all attacks: cells of others are not taken for those of these."""
    text = json.dumps([QUICK if quick else BUDGETS, ADAPTIVE], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


class Job(NamedTuple):
    """A cell to compute."""

    data: str
    how: str
    seed: int
    kind: str
    """``attack``, ``detector``, ``other data`` or ``adaptive``."""
    name: str
    images: int | None
    epochs: int | None
    quick: bool
    count_all: bool
    noisy: bool
    folder: str

    @property
    def count(self) -> int:
        """How many images are attacked."""
        return self.images or DATA[self.data].images

    @property
    def key(self) -> str:
        """What names the cell in the file of results."""
        counted = "all" if self.count_all else "successful"
        size = f"{self.count} images, {self.epochs or DATA[self.data].epochs} epochs"
        budget = ("quick " if self.quick else "full ") + budgets_name(self.quick)
        where = f"{self.data}/{self.how}/{self.seed}"
        noisy = "/noisy copies" if self.noisy else ""
        more = "/more clean images" if self.fits_on_more else ""
        return f"{where}/{self.kind}/{self.name}/{size}/{budget}/{counted}{noisy}{more}"

    @property
    def fits_on_more(self) -> bool:
        """Whether a detector is fitted on further clean images."""
        return self.kind == "detector" and self.name in MORE_CLEAN

    @property
    def network(self) -> "Job":
        """The same for all cells of a network."""
        return self._replace(kind="", name="")


@lru_cache(1)
def net_of(data: str, how: str, seed: int, folder: str, epochs: int | None) -> Net:
    """The network of a cell; one process has all cells of a network, one after the other."""
    return trained(data, how, seed, Path(folder) / "nets", epochs)


def images_of(job: Job) -> Pixels:
    """The images that are attacked: some that the network was not trained on."""
    return _rest(job, slice(job.count))


def _rest(job: Job, places: slice) -> Pixels:
    """Some of the images that the network was not trained on, in an order of the seed."""
    _, rest = pixels(job.data, job.seed)
    order = torch.randperm(len(rest.labels), generator=torch.Generator().manual_seed(job.seed))
    some = order[places]
    return Pixels(rest.images[some], rest.labels[some])


def budget(job: Job, attack: str) -> dict[str, Any]:
    """The settings of an attack."""
    settings: dict[str, Any] = dict((QUICK if job.quick else BUDGETS).get(attack, {}))
    if attack in BOUNDED:
        settings["epsilon"] = DATA[job.data].epsilon
    return settings


def attacked(job: Job, attack: str) -> AttackedSet:
    """The images of a cell after an attack, which are kept in the folder."""
    net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
    given = images_of(job)
    return attack_images(
        make_attack(attack, **budget(job, attack)),
        PixelModel(net.program, net.mean, net.std).eval(),
        given.images,
        given.labels,
        seed=job.seed,
        count_all=job.count_all,
        cache=Path(job.folder) / "attacked",
    )


class Scene(NamedTuple):
    """What the detectors of one network are tested on."""

    clean: Observations
    attacks: dict[str, ObservedAttack]
    near: Observations
    far: Observations
    noisy: Observations | None
    head: Head
    magnitudes: Magnitudes


class Shown(NamedTuple):
    """The images of a scene."""

    clean: Tensor
    attacks: dict[str, AttackedSet]
    near: Tensor
    far: Tensor
    noisy: Tensor | None

    @classmethod
    def of(cls, job: Job) -> "Shown":
        """Those of a network."""
        about = DATA[job.data]
        clean = images_of(job).images
        sets = {name: attacked(job, name) for name in ATTACKS}
        near, far = (
            other_images(name, about.size, job.count, job.seed) for name in (about.near, about.far)
        )
        noisy = None
        if job.noisy:
            change = (sets[FITTED_ON].attacked - clean).flatten(1).norm(dim=1)
            noisy = noisy_copies(clean, change, job.seed)
        return cls(clean, sets, near, far, noisy)


@lru_cache(1)
def shown(job: Job) -> Shown:
    """The images of a network."""
    return Shown.of(job)


def extractor_of(job: Job, *, gradients: bool = False) -> Extractor:
    """The extractor of a network, perhaps with gradients, which take memory."""
    net = net_of(job.data, job.how, job.seed, job.folder, job.epochs)
    return Extractor(net.program, mean=net.mean, std=net.std, differentiable=gradients)


@lru_cache(1)
def scene(job: Job) -> Scene:
    """All observations of one network."""
    extractor, images = extractor_of(job), shown(job)
    plain = extractor.observe([images.clean])
    fgm = images.attacks[FITTED_ON]
    known = Known.of(plain, fgm, split_images(plain, TEST, job.seed).fit, job.seed)
    magnitudes = chosen(extractor_of(job, gradients=True), known)
    further = {
        "laplacian": laplacian,
        "nss": nss,
        "stability": LogitStability(extractor),
        "odin": OdinScores(extractor, magnitudes.odin),
    }

    def observe(some: Tensor) -> Observations:
        return extractor.observe(some.split(256), further=further)

    clean = observe(images.clean)
    attacks = {
        name: ObservedAttack.of(one, observe(one.attacked), clean)
        for name, one in images.attacks.items()
    }
    near, far = observe(images.near), observe(images.far)
    noisy = None
    if images.noisy is not None:
        noisy = replace(observe(images.noisy), sources=clean.hashes)
    return Scene(clean, attacks, near, far, noisy, Head.of(extractor.program), magnitudes)


@lru_cache(1)
def with_more_clean(job: Job) -> tuple[Observations, Observations]:
    """The clean images of a network, and all others that it was not trained on, never attacked.

    An image that is among the clean ones, too, is left out.
    """
    clean = scene(job).clean
    more = extractor_of(job).observe(_rest(job, slice(job.count, None)).images.split(256))
    known = {*clean.hashes}
    more = more.take(np.array([each not in known for each in more.hashes]))
    values = {name: clean[name] for name in more.values}
    return Observations(values, clean.hashes, clean.sources), more


@lru_cache(1)
def moved_scene(job: Job) -> Scene:
    """The same, with the layers of images that were moved toward the Gaussians of clean images.

    These are fitted on B1. Of attacked images those are moved that count; no others are read.
    """
    found, images = scene(job), shown(job)
    magnitude = found.magnitudes.mahalanobis
    if magnitude == 0:
        return found
    extractor = extractor_of(job, gradients=True)
    rows = split_images(found.clean, TEST, job.seed).fit
    gaussians = Mahalanobis().fit(found.clean.take(rows), held_out=0)

    def move(observed: Observations, some: Tensor, which: Any = None) -> Observations:
        every = np.arange(len(some)) if which is None else np.flatnonzero(which)
        return moved(gaussians, extractor, observed, some, every, magnitude)

    attacks = {
        name: replace(
            one, observed=move(one.observed, images.attacks[name].attacked, one.outcome.counted)
        )
        for name, one in found.attacks.items()
    }
    noisy = found.noisy
    if noisy is not None:
        assert images.noisy is not None
        noisy = move(noisy, images.noisy)
    return found._replace(
        clean=move(found.clean, images.clean),
        attacks=attacks,
        near=move(found.near, images.near),
        far=move(found.far, images.far),
        noisy=noisy,
    )
