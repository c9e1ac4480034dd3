"""What passes hand on: facts by their types, a graph, an example."""

import pytest
import torch
from torch import fx, nn

from fxtransport.errors import PipelineError
from fxtransport.ir import Layers, Residuals
from fxtransport.unit import Example, Unit


def unit() -> Unit:
    return Unit(nn.Identity(), Example((torch.empty(2, 3), torch.empty(2, dtype=torch.int64))))


def test_facts_are_added_to_another_unit() -> None:
    before = unit()
    after = before.with_facts(Residuals(()))
    assert after.has(Residuals)
    assert after.fact(Residuals) == Residuals(())
    assert not before.has(Residuals)
    assert not after.has(Layers)


def test_a_fact_replaces_an_earlier_one_of_its_type() -> None:
    one, other = Layers(()), Layers(())
    found = unit().with_facts(one, Residuals(())).with_facts(other)
    assert found.fact(Layers) is other
    assert found.facts.keys() == {Layers, Residuals}


def test_what_is_missing_is_named() -> None:
    with pytest.raises(PipelineError, match="no pass has provided Residuals yet"):
        unit().fact(Residuals)
    with pytest.raises(PipelineError, match="run the pass trace first"):
        unit().traced()


def test_a_graph_comes_with_its_facts() -> None:
    graph = fx.Graph()
    found = unit().with_graph(graph, Residuals(()))
    assert found.traced() is graph
    assert found.has(Residuals)
