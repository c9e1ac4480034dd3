"""Which layer of the student is compared with which of the teacher."""

from collections.abc import Mapping, Sequence

from fxtransport.analysis.activations import PENULTIMATE
from fxtransport.errors import UsageError
from fxtransport.objectives.neurons import Pool
from fxtransport.objectives.transfer import PairedLayer
from fxtransport.pairing.sites import AUTO, Pairing, Site, named_pairs


def match(
    layers: Pairing, own: Mapping[str, Site], others: Mapping[str, Site], pool: Pool
) -> tuple[PairedLayer, ...]:
    """The pairs, in the order in which the student computes its layers.

    Args:
        layers: ``penultimate``, ``auto``, or pairs of names.
        own: The student's layers.
        others: The teacher's.
        pool: How maps and tokens become activations of neurons.

    Raises:
        UsageError: a layer is no tensor with channels, the two of a pair have other positions
            and are not pooled, or there is nothing to pair.
    """
    pairs = _automatic(own, others, pool) if layers == AUTO else named_pairs(layers)
    for names, sites, whose in ((0, own, "student"), (1, others, "teacher")):
        for pair in pairs:
            if pair[names] not in sites:
                raise UsageError(
                    f"{pair[names]} of the {whose} is no tensor with a batch and channels; name "
                    "another layer"
                )
    order = [*own]
    pairs = sorted(dict.fromkeys(pairs), key=lambda pair: order.index(pair[0]))
    found = []
    for one, other in pairs:
        _check_positions(own[one], others[other], pool)
        found.append(PairedLayer(own[one].layer, others[other].layer, own[one].part))
    return tuple(found)


def _automatic(
    own: Mapping[str, Site], others: Mapping[str, Site], pool: Pool
) -> list[tuple[str, str]]:
    """Pairs by spatial size and depth.

    Of a student in several parts, the last layer of each part; else the last of each stage. What
    enters the classifier goes with what enters the other classifier.
    """
    if not own or not others:
        whose = "student" if not own else "teacher"
        raise UsageError(
            f"the {whose} has no residual site and no classifier to pair; name layers, such as "
            "[('layer3', 'stages.2')]"
        )
    candidates = [site for name, site in others.items() if name != PENULTIMATE]
    pairs = []
    for site in _ends([*own.values()]):
        name = site.layer.name
        if name == PENULTIMATE and PENULTIMATE in others:
            pairs.append((name, PENULTIMATE))
            continue
        pool_of = candidates or [*others.values()]
        alike = [other for other in pool_of if other.positions == site.positions]
        if not alike and pool == "none":
            continue
        pairs.append((name, _nearest(site, [*own.values()], alike or pool_of).layer.name))
    if not pairs:
        raise UsageError(
            "no layers of the two models have the same positions, which pool='none' needs; take "
            "pool='mean' or a number"
        )
    return pairs


def _nearest(site: Site, own: Sequence[Site], others: Sequence[Site]) -> Site:
    """Of some layers of the teacher, that of the nearest depth; of two, the deeper one.

    Where they have the size of the student's, the depth is that among the layers of this size, so
    that the last of a stage goes with the last of a stage.
    """
    if all(other.positions == site.positions for other in others):
        peers = [s for s in own if s.positions == site.positions and s.layer.name != PENULTIMATE]
        depth = (peers.index(site) + 1) / len(peers) if site in peers else 1.0
        depths = [(i + 1) / len(others) for i in range(len(others))]
    else:
        depth, depths = site.depth, [other.depth for other in others]
    distances = [(round(abs(d - depth), 9), -i) for i, d in enumerate(depths)]
    return others[-min(distances)[1]]


def _ends(sites: Sequence[Site]) -> list[Site]:
    """The last site of each part, or, in one part, of each run of one shape."""
    several = len({site.part for site in sites}) > 1
    last: dict[object, Site] = {}
    stage = 0
    for before, site in zip((None, *sites), sites, strict=False):
        if before is not None and before.layer.shape != site.layer.shape:
            stage += 1
        last[site.part if several else stage] = site
    return [*last.values()]


def _check_positions(own: Site, other: Site, pool: Pool) -> None:
    if pool == "none" and own.positions != other.positions:
        raise UsageError(
            f"{own.layer.name} of the student has {_size(own)} and {other.layer.name} of the "
            f"teacher {_size(other)}: with pool='none' they must be the same; take pool='mean' or "
            "a number"
        )
    if isinstance(pool, int) and bool(own.positions) != bool(other.positions):
        raise UsageError(
            f"{own.layer.name} of the student has {_size(own)} and {other.layer.name} of the "
            f"teacher {_size(other)}: pool={pool} samples positions of both; take pool='mean'"
        )


def _size(site: Site) -> str:
    if not site.positions:
        return "a single vector"
    return f"{'×'.join(map(str, site.positions))} positions"
