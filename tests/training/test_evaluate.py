"""Accuracy and loss of every exit, as computed by hand."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.training import evaluate
from tests.training.runs import SHAPE, SmallNet, program_of, samples, validation_stream


def test_every_exit_by_hand() -> None:
    program = program_of(modules=3)
    program(samples(8).inputs)  # so that running statistics are not those of nothing
    found = evaluate(program, validation_stream())
    hidden, targets = samples(16, seed=1).inputs, samples(16, seed=1).targets
    program.eval()
    assert [exit.part for exit in found] == [0, 1, 2]
    for part, exit in zip(program.parts, found, strict=True):
        hidden, logits, _ = part(hidden)
        assert exit.accuracy == (logits.argmax(1) == targets).double().mean().item()
        assert exit.loss == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6)
        assert exit.samples == 16
    assert torch.equal(hidden, program(samples(16, seed=1).inputs))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_losses_are_as_precise_as_logits(dtype: torch.dtype) -> None:
    program = program_of(modules=2).to(dtype)
    inputs, targets = samples(16, seed=1).inputs.to(dtype), samples(16, seed=1).targets
    [_, found] = evaluate(program, [(inputs, targets)])
    with torch.no_grad():
        logits = program.eval()(inputs)
    wide = logits if dtype is torch.float64 else logits.float()
    assert found.loss == F.cross_entropy(wide, targets, reduction="sum").item() / 16
    exact = F.cross_entropy(logits.double(), targets, reduction="sum").item() / 16
    assert found.loss == pytest.approx(exact, rel=1e-14 if dtype is torch.float64 else 1e-6)


def test_modes_and_statistics_stay() -> None:
    program = program_of()
    program.get_submodule("blocks.1").eval()
    modes = {name: module.training for name, module in program.named_modules()}
    state = {name: value.clone() for name, value in program.state_dict().items()}
    evaluate(program, validation_stream())
    assert modes == {name: module.training for name, module in program.named_modules()}
    assert all(torch.equal(value, state[name]) for name, value in program.state_dict().items())


def test_only_the_heads_asked_for_run() -> None:
    program = program_of(modules=3)
    calls = []
    for part in program.parts[:2]:
        assert part.auxiliary_head is not None
        part.auxiliary_head.register_forward_hook(lambda *_, k=part.index: calls.append(k))
    program.parts[2].register_forward_hook(lambda *_: calls.append(2))
    [found] = evaluate(program, validation_stream(), parts=[1])
    assert found.part == 1
    assert calls == [1, 1]


def test_programs_on_several_devices() -> None:
    program = program_of()
    program.parts[1].to("meta")
    with pytest.raises(UsageError, match=r"on cpu and meta; move it to .* trainer.collect\(\)"):
        evaluate(program, validation_stream())


def test_programs_without_auxiliary_heads() -> None:
    program = program_of(head="none")
    assert [exit.part for exit in evaluate(program, validation_stream())] == [1]
    with pytest.raises(UsageError, match="part 0 has no head"):
        evaluate(program, validation_stream(), parts=[0])


def test_there_must_be_batches() -> None:
    with pytest.raises(UsageError, match="nothing to evaluate on"):
        evaluate(program_of(), [])


class Answer(NamedTuple):
    logits: Tensor
    features: Tensor


class Answering(SmallNet):
    def forward(self, x: Tensor) -> Answer:  # type: ignore[override]
        features = self.blocks(self.stem(x)).mean((2, 3))
        return Answer(self.head(features), features)


def test_models_that_return_more_than_logits() -> None:
    torch.manual_seed(0)
    program = transportify(Answering(), torch.zeros(2, *SHAPE), verify=False)
    program.get_parameter("head.bias").data[1] = 1e3
    [exit] = evaluate(program, validation_stream())
    assert exit.accuracy == (samples(16, seed=1).targets == 1).double().mean().item()


class Dense(nn.Module):
    """A class for every position."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.net.blocks(self.net.stem(x)))
        return logits


def test_every_position_counts() -> None:
    torch.manual_seed(0)
    program = transportify(Dense(), torch.zeros(2, *SHAPE), verify=False)
    program.get_parameter("head.bias").data[2] = 1e3
    targets = torch.full((5, *SHAPE[1:]), 2)
    targets[0] = 0
    [exit] = evaluate(program, [(torch.randn(5, *SHAPE), targets)])
    assert (exit.accuracy, exit.samples) == (0.8, 5 * 16)


class Scores(nn.Module):
    """Takes logits for images."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        return x + x.relu()


def test_the_class_is_among_the_five_largest_logits() -> None:
    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(200) % 12
    program = transportify(Scores(), logits[:2])
    [found] = evaluate(program, [(logits[:150], targets[:150]), (logits[150:], targets[150:])])
    places = (logits > logits.gather(1, targets.unsqueeze(1))).sum(1)
    assert found.accuracy == (places < 1).double().mean().item()
    assert found.top5 == (places < 5).double().mean().item()
    assert 0.3 < found.top5 < 0.55
