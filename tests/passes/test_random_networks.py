"""Random networks, built with a known answer, are found out and rebuilt exactly."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fxtransport.ir import PartitionPlan, Residuals
from fxtransport.lowered import Lowered
from fxtransport.residue import mean_square, mean_square_branch
from fxtransport.tracing.recorder import tensors_in
from tests.compiling import Call, assert_identical, compiled, forward, original, transport
from tests.passes.blocks import recording_residues
from tests.passes.networks import Network, networks

SHAPE = (4, 8, 8)
Gradients = dict[str, Tensor | None] | None


class Step(NamedTuple):
    """What one forward and backward pass of a network left."""

    returned: Any
    buffers: dict[str, Tensor]
    gradients: Gradients
    """None where the network overwrites what its own backward pass needs."""


def step(call: Call, network: Network, training: bool) -> Step:
    """Run a function on a copy of a network, forward and backward."""
    fresh = copy.deepcopy(network).train(training)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *SHAPE, generator=generator).requires_grad_()
    torch.manual_seed(0)
    returned = call(fresh, x.clone())
    loss = torch.zeros(())
    for tensor in tensors_in(returned):
        loss = loss + (tensor * torch.randn(tensor.shape, generator=generator)).sum()
    leaves = {"x": x, **dict(fresh.named_parameters())}
    return Step(returned, dict(fresh.named_buffers()), gradients(loss, leaves))


def gradients(loss: Tensor, leaves: dict[str, Tensor]) -> Gradients:
    try:
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return None
    return dict(zip(leaves, found, strict=True))


def assert_same_step(found: Step, expected: Step) -> None:
    """Every bit is the same, but for gradients, which are sums whose order is not fixed."""
    assert_identical(found[:2], expected[:2])
    if expected.gradients is not None:
        torch.testing.assert_close(found.gradients, expected.gradients, rtol=1e-4, atol=1e-4)


def noting(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a network returns, and the residues that it notes itself."""
    with recording_residues() as residues:
        return model(x), residues


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny convolutions wait longer for a second thread than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@settings(max_examples=40)
@given(networks())
def test_additions_are_found_exactly(network: Network) -> None:
    found = compiled(network, *SHAPE).fact(Residuals).tapped
    assert [(r.path, r.kind) for r in found] == network.known()


@settings(max_examples=30)
@given(networks(), st.booleans())
def test_the_program_is_the_network(network: Network, training: bool) -> None:
    unit = compiled(network, *SHAPE)
    found, expected = (step(call, network, training) for call in (forward(unit), original))
    assert_same_step(found, expected)
    if expected.gradients is not None:
        assert_identical(found.gradients, expected.gradients)


@settings(max_examples=30)
@given(networks(), st.booleans())
def test_residues_are_those_that_the_network_notes(network: Network, training: bool) -> None:
    call = transport(compiled(network, *SHAPE))
    assert_same_step(step(call, network, training), step(noting, network, training))


@settings(max_examples=30)
@given(networks(), st.booleans(), st.data())
def test_modules_in_a_row_are_the_network(
    network: Network, training: bool, data: st.DataObject
) -> None:
    modules = data.draw(st.integers(1, len(network.known())))
    unit = compiled(network, *SHAPE, modules=modules)
    lowered, plan = unit.fact(Lowered), unit.fact(PartitionPlan)
    assert len(lowered.parts) == modules
    assert sum(s.residuals for s in plan.segments) == len(network.known())

    def chain(model: nn.Module, x: Tensor) -> tuple[Any, list[Tensor]]:
        state: Any = (x,)
        energies: list[Tensor] = []
        for module in lowered.parts:
            state, found = module.function.call(model, *state, mean_square_branch)
            energies += found
        return state, energies

    def expected(model: nn.Module, x: Tensor) -> tuple[Any, list[Tensor]]:
        output, residues = noting(model, x)
        return output, [mean_square(residue) for residue in residues]

    assert_same_step(step(chain, network, training), step(expected, network, training))
