"""A backward pass node by node, for a device that is not there.

Autograd's engine asks the driver of a device for its streams. Here the nodes run one after the
other in the order of the engine, which calls what was made last first, and each is freed after it
has run.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.autograd.function import BackwardCFunction

from fxtransport.peaks import MemoryLog

_numbers = itertools.count(2**40)
"""Those of backward passes without the engine, which begins at 0."""
Key = tuple[bool, int]


def key_of(node: Any) -> Key:
    """What tells a node from all others; no reference to it is kept."""
    variable = getattr(node, "variable", None)
    return (False, node._sequence_nr()) if variable is None else (True, id(variable))


def is_absent(device: torch.device) -> bool:
    """Whether there is no such device."""
    return device.type == "cuda" and not torch.cuda.is_available()


@contextmanager
def replayed(
    device: torch.device, log: MemoryLog, enter: Callable[[Key], None] = lambda _: None
) -> Iterator[None]:
    """A context in which ``Tensor.backward`` works for a device that is absent.

    Args:
        device: The device.
        log: The log that is told that a backward pass runs.
        enter: Called before every node.
    """
    if not is_absent(device):
        yield
        return

    def backward(total: torch.Tensor) -> None:
        log.replaying = True
        number = next(_numbers)
        # a checkpoint computes again once for each backward pass, which it knows by its number
        known = mock.patch.object(torch._C, "_current_graph_task_id", lambda: number)
        try:
            with torch.no_grad(), known:
                _replay(total, enter)
        finally:
            log.replaying = False

    with mock.patch.object(torch.Tensor, "backward", backward):
        yield


def _replay(total: torch.Tensor, enter: Callable[[Key], None]) -> None:
    root: Any = total.grad_fn
    left = _uses(root)
    pending: dict[Key, dict[int, torch.Tensor]] = {key_of(root): {0: torch.ones_like(total)}}
    # the tensor must not hold the graph
    total.detach_()
    ready = [(_order(root), root)]
    del root
    while ready:
        _, node = heapq.heappop(ready)
        given = pending.pop(key_of(node), {})
        enter(key_of(node))
        returned = _run(node, given)
        del given
        for (following, slot), gradient in zip(node.next_functions, returned, strict=False):
            if following is None:
                continue
            key = key_of(following)
            slots = pending.setdefault(key, {})
            if gradient is not None:
                fitting = _fitted(gradient, following, slot)
                slots[slot] = fitting if slot not in slots else slots[slot] + fitting
            left[key] -= 1
            if not left[key]:
                heapq.heappush(ready, (_order(following), following))
        del node, returned


def _uses(root: Any) -> dict[Key, int]:
    """How many nodes hand a gradient to each."""
    found: dict[Key, int] = {}
    ahead = [root]
    seen = {key_of(root)}
    while ahead:
        for following, _ in ahead.pop().next_functions:
            if following is None:
                continue
            key = key_of(following)
            found[key] = found.get(key, 0) + 1
            if key not in seen:
                seen.add(key)
                ahead.append(following)
    return found


def _order(node: Any) -> tuple[int, int]:
    """What the engine sorts nodes by: gradients of leaves first, then the latest."""
    accumulates, number = key_of(node)
    return (0, number) if accumulates else (1, -number)


def _run(node: Any, given: dict[int, torch.Tensor]) -> tuple[Any, ...]:
    expected = node._input_metadata
    gradients = [given.get(slot) for slot in range(len(expected))]
    if isinstance(node, BackwardCFunction):
        gradients = [
            torch.zeros(m.shape, dtype=m.dtype, device=m.device) if g is None else g
            for g, m in zip(gradients, expected, strict=True)
        ]
        returned = node.apply(*gradients)
    elif not given:
        return (None,) * len(node.next_functions)
    else:
        returned = node(*gradients)
    return returned if isinstance(returned, tuple) else (returned,)


def _fitted(gradient: torch.Tensor, node: Any, slot: int) -> torch.Tensor:
    """A gradient in the shape and dtype of what it belongs to."""
    metadata = node._input_metadata[slot]
    if gradient.shape != metadata.shape:
        gradient = gradient.sum_to_size(metadata.shape)
    return gradient if gradient.dtype == metadata.dtype else gradient.to(metadata.dtype)
