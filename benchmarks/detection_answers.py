"""What the detection benchmark answers: who beats whom, by differences of AUROC within a network.

A value is the mean over attacks, of one network and one protocol, of the difference of two AUROCs
on the same images; its interval is over seeds. Yes and no are intervals that exclude 0.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from intervals import mean_of

Cell = dict[str, Any]
PROTOCOLS = ("seen", "unseen", "clean only")
FITTED_ON_CLEAN = ("one-class", "mahalanobis")
"""Those below that are compared where they are fitted on clean images alone, and only there."""
RIVALS = {
    "transport": ("mahalanobis-noise", "mahalanobis-logistic", "nss", "logits", "laplacian"),
    "combined": ("mahalanobis-noise", "nss", "logits", "laplacian"),
    "one-class": ("mahalanobis", "layer-inconsistency", "odin", "energy", "max-softmax"),
}
"""Ours, and what they are compared with."""
HELPED = ("transport", "combined", "one-class", "mahalanobis-noise", "mahalanobis")
"""The detectors that LAP and RCE may help."""

Area = dict[str, float]
"""AUROCs by attack."""


class Place(NamedTuple):
    """Where AUROCs were measured."""

    protocol: str
    detector: str
    how: str
    seed: int


def areas(cells: Sequence[Cell]) -> dict[Place, Area]:
    """The AUROCs of all detectors of one set of images, by attack."""
    found: dict[Place, Area] = defaultdict(dict)
    for cell in cells:
        for row in cell["rows"]:
            if row["protocol"] in PROTOCOLS and row["metrics"]:
                place = Place(row["protocol"], cell["name"], cell["how"], cell["seed"])
                found[place][row["tested_on"]] = 100 * row["metrics"]["auroc"]
    return found


def answers(cells: Sequence[Cell]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Tables of one set of images, each with its title and columns; those without lines are not."""
    found = areas(cells)
    hows = list(dict.fromkeys(cell["how"] for cell in cells))
    lines = []
    for own, rivals in RIVALS.items():
        for rival in rivals:
            for protocol in protocols_of(own):
                pairs = [_against(found, protocol, (own, rival), how) for how in hows]
                if any(pairs):
                    lines.append([f"{own} − {rival}, {protocol}", *map(_answer, pairs)])
    if lines:
        title = "Do transport features beat the others? Difference of AUROC, points"
        yield title, hows, lines
    trained = [how for how in hows if how != "VAN"]
    lines = []
    for name in HELPED:
        for protocol in protocols_of(name):
            pairs = [_helped(found, protocol, name, how) for how in trained]
            if any(pairs):
                lines.append([f"{name}, {protocol}", *map(_answer, pairs)])
    if lines:
        title = "Does training help to detect? AUROC minus that of VAN, points"
        yield title, [f"{how} − VAN" for how in trained], lines


def protocols_of(name: str) -> tuple[str, ...]:
    """Where a detector is compared: where it learns of what it may."""
    return PROTOCOLS[2:] if name in FITTED_ON_CLEAN else PROTOCOLS[:2]


def _against(
    found: dict[Place, Area], protocol: str, names: tuple[str, str], how: str
) -> list[float]:
    """The difference of two detectors, for each seed."""
    own, rival = names
    seeds = [place.seed for place in found if place[:3] == (protocol, own, how)]
    pairs = [(Place(protocol, own, how, s), Place(protocol, rival, how, s)) for s in seeds]
    return list(_differences(found, pairs))


def _helped(found: dict[Place, Area], protocol: str, name: str, how: str) -> list[float]:
    """What a way of training adds to a detector, for each seed."""
    seeds = [place.seed for place in found if place[:3] == (protocol, name, how)]
    pairs = [(Place(protocol, name, how, s), Place(protocol, name, "VAN", s)) for s in seeds]
    return list(_differences(found, pairs))


def _differences(found: dict[Place, Area], pairs: Iterable[tuple[Place, Place]]) -> Iterator[float]:
    for one, other in pairs:
        both = found[one].keys() & found.get(other, {}).keys()
        if both:
            yield statistics.fmean(found[one][name] - found[other][name] for name in both)


def _answer(values: Sequence[float]) -> str:
    """``+3.1 ± 1.0: yes``."""
    if not values:
        return "–"
    found = mean_of(values)
    if math.isinf(found.half):
        return f"{found.mean:+.1f}"
    return f"{found.mean:+.1f} ± {found.half:.1f}: {('no', 'open', 'yes')[found.sign + 1]}"
