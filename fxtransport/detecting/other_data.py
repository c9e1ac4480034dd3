"""Images of another distribution that detectors shall find, near or far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fxtransport.detecting.attacking import Labeled, collect, observe
from fxtransport.detecting.image_detector import ImageDetector
from fxtransport.detecting.senses import Senses
from fxtransport.detecting.source import DataSource
from fxtransport.detection import Observations
from fxtransport.detection.identity import Preprocessing
from fxtransport.errors import UsageError

Distance = Literal["near", "far"]
NEAR: Distance = "near"
FAR: Distance = "far"


@dataclass(frozen=True, eq=False)
class OtherData:
    """Images of another distribution.

    Attributes:
        images: As the model takes them; their classes do not matter.
        distance: How far they are from the clean images, as OpenOOD names it (Zhang et al.,
            *OpenOOD v1.5*, 2023): near where classes are others and all else is alike, far
            where the kind of image is another one. None if nobody says.
    """

    images: Labeled
    distance: Distance | None = None


@dataclass(frozen=True, eq=False)
class KnownData:
    """Images of another distribution that detectors are fitted on.

    Attributes:
        source: Where they are from.
        images: As the model takes them.
    """

    source: DataSource
    images: Labeled


@dataclass(frozen=True, eq=False)
class ObservedOther:
    """What is observed of them.

    Attributes:
        observed: Of the images, with hashes.
        distance: See :class:`OtherData`.
    """

    observed: Observations
    distance: Distance | None


def parse_others(texts: Sequence[str]) -> dict[str, Distance | None]:
    """How far each set is that texts name.

    >>> parse_others(["near=mnist5k", "far=patches", "photographs"])
    {'mnist5k': 'near', 'patches': 'far', 'photographs': None}

    Raises:
        UsageError: a set is named twice, or a text names none.
    """
    found: dict[str, Distance | None] = {}
    for text in texts:
        distance, name = _parsed(text)
        if not name:
            raise UsageError(f"write other data as NAME, near=NAME or far=NAME, not {text!r}")
        if name in found:
            raise UsageError(f"the other data {name} is named twice; sets to test on are disjoint")
        found[name] = distance
    return found


def _parsed(text: str) -> tuple[Distance | None, str]:
    for distance in (NEAR, FAR):
        if text.startswith(f"{distance}="):
            return distance, text.removeprefix(f"{distance}=")
    return None, text


def load_others(
    found: ImageDetector, texts: Sequence[str], most: int | None = None, seed: int = 0
) -> dict[str, OtherData]:
    """The test splits of other sets, as the model takes them.

    Args:
        found: The detectors, with their model.
        texts: The sets; see :func:`parse_others`.
        most: How many images of each at most; all if None.
        seed: By which they are chosen.

    Raises:
        UsageError: data cannot be loaded, or see :func:`parse_others`.
    """
    preprocessing = found.identity.preprocessing
    return {
        name: OtherData(images_of(DataSource.named(name), preprocessing, most, seed), distance)
        for name, distance in parse_others(texts).items()
    }


def images_of(
    source: DataSource, preprocessing: Preprocessing, most: int | None, seed: int
) -> Labeled:
    """The test split of other data, or a seeded choice of it, as a model takes it.

    Raises:
        UsageError: the data cannot be loaded.
    """
    return collect(source.pixels(preprocessing).require_test(), most, seed)


def load_known(
    names: Sequence[str], own: DataSource, preprocessing: Preprocessing, most: int | None, seed: int
) -> dict[str, KnownData]:
    """The test splits of other sets that detectors are fitted on.

    Args:
        names: Of the sets.
        own: The data that the model was trained for.
        preprocessing: Of the model.
        most: How many images of each at most; all if None.
        seed: By which they are chosen.

    Raises:
        UsageError: data cannot be loaded, is named twice, or is the model's own.
    """
    found: dict[str, KnownData] = {}
    for name in names:
        source = DataSource.named(name)
        if source.name == own.name:
            raise UsageError(f"{name} is what the model was trained for; name other data to find")
        if name in found:
            raise UsageError(f"the other data {name} is named twice")
        found[name] = KnownData(source, images_of(source, preprocessing, most, seed))
    return found


def observe_others(
    senses: Senses, clean: Observations, others: Mapping[str, OtherData]
) -> dict[str, ObservedOther]:
    """What is observed of other data, which shares no image with the clean ones or another set.

    Raises:
        UsageError: two sets share an image.
    """
    found: dict[str, ObservedOther] = {}
    known = {"the clean images": set(clean.hashes)}
    for name, other in others.items():
        observed = observe(senses, other.images.images)
        for what, hashes in known.items():
            refuse_shared(f"images of {name}", observed, what, hashes)
        known[f"the images of {name}"] = set(observed.hashes)
        found[name] = ObservedOther(observed, other.distance)
    return found


def refuse_shared(what: str, observed: Observations, among: str, hashes: set[str]) -> None:
    """Check that images are not among others.

    Raises:
        UsageError: some are.
    """
    shared = [row for row, name in enumerate(observed.hashes) if name in hashes]
    if shared:
        raise UsageError(
            f"{len(shared)} of {len(observed)} {what}, the first of them number {shared[0]}, are "
            f"among {among}; leave them out"
        )
