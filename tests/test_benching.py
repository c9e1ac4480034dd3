"""Forwards, steps and memory of a model, its program and its parts."""

import pytest
import torch
from torch import nn

import fxtransport
from fxtransport.bench_subjects import open_bench
from fxtransport.benching import PARTS, PLAIN, PROGRAM, Subject, _forwards, bench
from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize


@pytest.fixture
def subject() -> Subject:
    return open_bench("test_resnet", input_size=InputSize.parse("32"))


def test_all_three_are_measured_and_trained(subject: Subject) -> None:
    before = {k: v.clone() for k, v in subject.program.named_parameters()}
    found = {each.what: each for each in bench(subject, batch_size=4, seconds=0.01)}
    assert list(found) == [PLAIN, PROGRAM, PARTS]
    for each in found.values():
        assert 0 < each.latency < 4 / each.throughput * 4
        assert each.step > each.latency
        assert each.compiled is None
    after = dict(subject.program.named_parameters())
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_memory_is_that_of_tensors(subject: Subject) -> None:
    """Weights, their gradients and momenta are held at the end of a step."""
    found = {each.what: each for each in bench(subject, batch_size=4, seconds=0.01)}
    weights = sum(p.numel() * p.element_size() for p in subject.model.parameters())
    plain, program = (found[name].peak_bytes for name in (PLAIN, PROGRAM))
    assert plain is not None
    assert program is not None
    assert plain > 3 * weights
    assert program == pytest.approx(plain, rel=0.05)
    larger = {each.what: each for each in bench(subject, batch_size=32, seconds=0.01)}
    assert larger[PLAIN].peak_bytes is not None
    assert larger[PLAIN].peak_bytes > plain


def test_more_parts_than_torch_compiles_of_one_function() -> None:
    """And both sizes of batches: with the code of one function, the last would not be compiled."""
    graphs: list[int] = []

    def counted(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(next(len(x) for x in inputs if not isinstance(x, nn.Parameter)))
        return graph

    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(5)))
    program = fxtransport.transportify(model, torch.zeros(2, 4), modules=5)
    forwards = _forwards(Subject("five", model, program, (4,)), counted)
    with torch.no_grad():
        for images in (torch.zeros(1, 4), torch.zeros(3, 4)):
            forwards[PARTS](images)
    assert graphs == [1] * 5 + [3] * 5


@pytest.mark.slow
def test_compiled_code_is_measured_too(subject: Subject) -> None:
    found = bench(subject, batch_size=4, seconds=0.01, compiled="aot_eager")
    assert [(each.what, each.compiled) for each in found] == [
        (name, backend) for backend in (None, "aot_eager") for name in (PLAIN, PROGRAM, PARTS)
    ]
    assert [each.peak_bytes is None for each in found] == [False] * 3 + [True] * 3


def test_what_cannot_be_measured(subject: Subject) -> None:
    with pytest.raises(UsageError, match="batch_size is 2 or more, as training needs, not 1"):
        bench(subject, batch_size=1)
    with pytest.raises(UsageError, match="the device 'x' cannot be used"):
        bench(subject, device="x")
