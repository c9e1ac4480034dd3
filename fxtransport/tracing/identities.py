"""Which node computes a tensor or another object: found by the object's identity."""

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from fxtransport.module_copies import ATOMS
from fxtransport.tracing.value_proxy import is_proxy

Step = tuple[Callable[[Any, Any], Any], Any]
"""How what an object holds is read: ``operator.getitem`` or ``getattr``, and a key."""

_DEPTH = 6
"""How deep structures are searched for tensors."""
_OPAQUE = (type, FunctionType, MethodType, ModuleType, nn.Module, str, bytes, torch.Size)


class Held(NamedTuple):
    """A tensor in a structure that a node computes."""

    node: fx.Node
    steps: tuple[Step, ...]


class Identities:
    """The nodes of tensors and structures. Whatever is known is kept alive."""

    def __init__(self) -> None:
        self._nodes: dict[int, fx.Node] = {}
        self._held: dict[int, Held] = {}
        self._contents: dict[int, tuple[int, ...]] = {}
        self._kept: list[Any] = []

    def add(self, node: fx.Node, value: Any) -> None:
        """A node's value, and the tensors in it."""
        self._kept.append(value)
        if isinstance(value, torch.Tensor):
            self._nodes[id(value)] = node
            return
        found = False
        for steps, tensor in tensors_with_steps(value):
            found = True
            self._held.setdefault(id(tensor), Held(node, steps))
        if found:
            self.remember(node, value)

    def remember(self, node: fx.Node, value: Any) -> None:
        """A structure of tensors that is a node's value as long as nothing in it changes."""
        self._kept.append(value)
        self._nodes[id(value)] = node
        self._contents[id(value)] = _contents(value)

    def node_of(self, value: Any) -> fx.Node | None:
        """The node whose value an object is."""
        node = self._nodes.get(id(value))
        if node is None or isinstance(value, torch.Tensor):
            return node
        return node if self._contents[id(value)] == _contents(value) else None

    def changed(self, value: Any) -> bool:
        """Whether an object is a node's value that traced code has changed since."""
        return id(value) in self._contents and self._contents[id(value)] != _contents(value)

    def held(self, tensor: torch.Tensor) -> Held | None:
        """Where a tensor is in a node's value."""
        return self._held.get(id(tensor))

    def __contains__(self, value: object) -> bool:
        return id(value) in self._nodes or id(value) in self._held


def holding_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module, without most: flags, numbers, and registries that are empty."""
    for name, value in vars(module).items():
        kind = type(value)
        if kind not in ATOMS and (kind not in (dict, OrderedDict) or value):
            yield name, value


def tensors_with_steps(
    value: Any, steps: tuple[Step, ...] = ()
) -> Iterator[tuple[tuple[Step, ...], torch.Tensor]]:
    """The tensors in an object, and how each is reached from it."""
    if isinstance(value, torch.Tensor):
        yield steps, value
    elif len(steps) < _DEPTH:
        for step, inner in _inside(value):
            yield from tensors_with_steps(inner, (*steps, step))


def _inside(value: Any) -> Iterator[tuple[Step, Any]]:
    if is_proxy(value) or isinstance(value, _OPAQUE):
        return
    if isinstance(value, tuple | list):
        for i in range(tuple.__len__(value) if isinstance(value, tuple) else len(value)):
            got = tuple.__getitem__(value, i) if isinstance(value, tuple) else value[i]
            yield (operator.getitem, i), got
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield (operator.getitem, key), inner
    elif hasattr(value, "__dict__"):
        for name, inner in vars(value).items():
            yield (getattr, name), inner


def _contents(value: Any) -> tuple[int, ...]:
    return tuple(id(inner) for _, inner in _inside(value))
