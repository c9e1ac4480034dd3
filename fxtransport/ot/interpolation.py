"""The loss on the straight way between two networks, before and after their neurons are aligned.

Two networks that were trained apart are usually separated by a barrier on the straight line between
their weights, most of which is due to the order of their neurons: conditional OT takes it away.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from fxtransport.errors import UsageError
from fxtransport.outputs import find_logits

Batch = tuple[Tensor, Tensor]
"""Inputs and targets."""


def interpolate(
    one: Mapping[str, Tensor], two: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """A state on the straight line between two states of one network.

    With the state that :func:`fxtransport.ot.conditional.conditional_distance` has aligned as the
    second, this is the geodesic of conditional OT between the two networks.

    Args:
        one: A state.
        two: Another one, with the same keys.
        share: 0 for the first, 1 for the second. Integers are those of the nearer state.

    >>> interpolate({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)
    {'w': tensor([0.2500, 0.2500])}
    """
    found = {}
    for name, tensor in one.items():
        other = two[name].to(tensor.device)
        if tensor.is_floating_point():
            found[name] = torch.lerp(tensor, other.to(tensor.dtype), share)
        else:
            found[name] = (tensor if share < 0.5 else other).clone()
    return found


def losses_along(
    network: nn.Module,
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    batches: Sequence[Batch],
    *,
    points: int = 11,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    statistics: Iterable[Batch] | None = None,
) -> tuple[float, ...]:
    """The mean loss at evenly spaced points of the straight line between two states.

    Args:
        network: Of which both are states; it is not changed.
        one: The state at the first point.
        two: The state at the last.
        batches: What the loss is the mean over.
        points: How many points, at least 2.
        loss: The mean loss of logits and targets.
        statistics: Batches from which batch norms take their statistics again at each point: those
            between two networks are not those of the network between (arXiv 2211.08403).

    Raises:
        UsageError: there are fewer than 2 points or no batches, or the network returns no logits.
    """
    if points < 2 or not batches:
        raise UsageError("a path has at least 2 points and is measured on at least one batch")
    walker = copy.deepcopy(network)
    found = []
    for k in range(points):
        walker.load_state_dict(interpolate(one, two, k / (points - 1)))
        if statistics is not None:
            update_bn(statistics, walker)
        walker.eval()
        found.append(_mean_loss(walker, batches, loss))
    return tuple(found)


def barrier(losses: Sequence[float]) -> float:
    """The most by which the loss exceeds the straight line between its ends; 0 if it never does.

    >>> barrier([1.0, 4.0, 3.0])
    2.0
    """
    last = max(len(losses) - 1, 1)
    straight = [losses[0] + (losses[-1] - losses[0]) * k / last for k in range(len(losses))]
    return max(0.0, *(found - line for found, line in zip(losses, straight, strict=True)))


def _mean_loss(
    network: nn.Module, batches: Sequence[Batch], loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    total, samples = 0.0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            logits = find_logits(network(inputs), lambda value: isinstance(value, Tensor))
            if logits is None:
                raise UsageError("the network returns no logits, so its loss is not known")
            total += float(loss(logits, targets)) * len(targets)
            samples += len(targets)
    return total / samples
