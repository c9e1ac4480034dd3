"""The Polyak-Łojasiewicz inequality is watched, and holds."""

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.errors import UsageError
from fxtransport.training import EndToEnd
from fxtransport.training.monitors import DegenerateFeaturesWarning, PolyakLojasiewicz
from tests.networks import Net
from tests.training.runs import program_of, samples, train_stream, trainer_of


class Branch(nn.Module):
    """A residual block of one hidden layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.outer(self.inner(x).tanh())
        return y


def on_vectors(hidden: int = 32) -> tuple[Program, nn.Sequential]:
    net = nn.Sequential(Branch(5, hidden), Branch(5, hidden), nn.Linear(5, 3))
    return transportify(net, torch.zeros(2, 5)), net


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 5), torch.arange(count) % 3


def test_the_numbers_are_those_by_hand() -> None:
    program, net = on_vectors()
    inputs, targets = batch()
    found = PolyakLojasiewicz(inputs, targets).measure(program)
    x, kernels = inputs, []
    for block in net[:2]:
        features = block.get_submodule("inner")(x).tanh()
        kernels.append((features @ features.T).detach().double())
        x = block(x)
    loss = nn.functional.cross_entropy(net[2](x), targets)
    loss.backward()
    squares = sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None)
    mean = (kernels[0] + kernels[1]) / 2
    assert found["pl_eigenvalue"] == pytest.approx(float(torch.linalg.eigvalsh(mean)[0]), rel=1e-4)
    assert found["pl_ratio"] == pytest.approx(squares / loss.item(), rel=1e-4)


def test_the_bound_holds() -> None:
    for _ in range(5):
        program, _ = on_vectors()
        found = PolyakLojasiewicz(*batch()).measure(program)
        bound, ratio = found["pl_bound"], found["pl_ratio"]
        assert bound is not None
        assert ratio is not None
        assert 0 < bound <= ratio


def test_nothing_of_the_program_changes() -> None:
    program, net = on_vectors()
    program.train()
    PolyakLojasiewicz(*batch()).measure(program)
    assert program.training
    assert all(p.grad is None for p in program.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_more_samples_than_features_are_warned_of_once() -> None:
    program, _ = on_vectors(hidden=2)
    monitor = PolyakLojasiewicz(*batch(12))
    with pytest.warns(DegenerateFeaturesWarning, match="of the 12 samples are linearly dependent"):
        found = monitor.measure(program)
    assert found["pl_eigenvalue"] == pytest.approx(0, abs=1e-10)
    assert monitor.measure(program)["pl_bound"] == pytest.approx(0, abs=1e-10)


def test_maps_have_no_bound() -> None:
    images = torch.randn(4, 3, 8, 8)
    program = transportify(Net(width=16), images)
    found = PolyakLojasiewicz(images, torch.arange(4)).measure(program)
    assert found["pl_bound"] is None
    assert found["pl_eigenvalue"] is not None
    assert found["pl_eigenvalue"] > 0


def test_what_cannot_be_watched() -> None:
    with pytest.raises(UsageError, match="not 2 and 3"):
        PolyakLojasiewicz(torch.zeros(2, 5), torch.zeros(3))
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    program = transportify(net, torch.zeros(2, 5))
    with pytest.raises(UsageError, match="needs logits, and residual blocks"):
        PolyakLojasiewicz(*batch()).measure(program)


def test_the_trainer_writes_what_it_measures(tmp_path: Path) -> None:
    monitor = PolyakLojasiewicz(*samples(4).batch(range(4)))
    trainer = trainer_of(EndToEnd(2), tmp_path, program=program_of(modules=1), monitors=[monitor])
    trainer.fit(train_stream())
    with (tmp_path / "metrics.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 2
    assert all(float(row["pl_ratio"]) > 0 and row["pl_bound"] == "" for row in rows)
    assert rows[0]["pl_eigenvalue"] != rows[1]["pl_eigenvalue"]
