"""Nodes are found by the tensor itself, not by what is equal to it."""

import torch
from torch import fx

from fxtransport.tracing.identities import Identities, tensors_with_steps


def node() -> fx.Node:
    """A node of a graph."""
    return fx.Graph().placeholder("x")


def test_a_tensor_is_found_by_identity() -> None:
    known, made = Identities(), node()
    tensor = torch.zeros(2)
    known.add(made, tensor)
    assert known.node_of(tensor) is made
    assert tensor in known
    assert known.node_of(torch.zeros(2)) is None
    assert tensor.detach() not in known


def test_tensors_in_structures_are_held() -> None:
    known, made = Identities(), node()
    inner = torch.zeros(2)
    value = {"a": [inner, 1], "b": (torch.ones(1),)}
    known.add(made, value)
    assert known.node_of(value) is made
    held = known.held(inner)
    assert held is not None
    found = value
    for function, key in held.steps:
        found = function(found, key)
    assert found is inner
    assert held.node is made
    assert known.held(torch.zeros(2)) is None


def test_a_structure_that_changed_is_another_value() -> None:
    known, made = Identities(), node()
    value = [torch.zeros(2)]
    known.add(made, value)
    assert known.node_of(value) is made
    assert not known.changed(value)
    value.append(torch.ones(1))
    assert known.node_of(value) is None
    assert known.changed(value)


def test_structures_without_tensors_are_not_known() -> None:
    known = Identities()
    value = (1, 2)
    known.add(node(), value)
    assert value not in known


def test_cycles_and_modules_are_not_followed_for_ever() -> None:
    cyclic: list[object] = [torch.zeros(1)]
    cyclic.append(cyclic)
    assert tensors_with_steps(cyclic)
    assert len(list(tensors_with_steps(cyclic))) < 10
    assert list(tensors_with_steps(torch.nn.Linear(2, 2))) == []
