"""Classification losses, against their definitions."""

import pytest
import torch

from fxtransport.errors import UsageError
from fxtransport.objectives import (
    CrossEntropy,
    ReverseCrossEntropy,
    TransportCost,
    WeightedCrossEntropy,
)
from fxtransport.objectives.multipliers import NoMultiplier
from fxtransport.objectives.objective import Objective

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]])
INDICES = torch.tensor([1, 0])
MIXED = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])


def one_hot(indices: torch.Tensor) -> torch.Tensor:
    return torch.eye(3)[indices]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("targets", [INDICES, MIXED], ids=["indices", "probabilities"])
def test_cross_entropy(smoothing: float, targets: torch.Tensor) -> None:
    """-Σ t log softmax(z), with t smoothed towards 1/C."""
    t = targets if targets.is_floating_point() else one_hot(targets)
    t = (1 - smoothing) * t + smoothing / 3
    expected = -(t * LOGITS.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(CrossEntropy(smoothing)(LOGITS, targets), expected)


@pytest.mark.parametrize("targets", [INDICES, MIXED], ids=["indices", "probabilities"])
def test_reverse_cross_entropy(targets: torch.Tensor) -> None:
    """-Σ (1 - t)/(C - 1) log softmax(-z)."""
    t = targets if targets.is_floating_point() else one_hot(targets)
    expected = -((1 - t) / 2 * (-LOGITS).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(ReverseCrossEntropy()(LOGITS, targets), expected)


def test_reverse_cross_entropy_makes_the_class_the_largest_logit() -> None:
    """And the others alike."""
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD([logits], lr=5)
    for _ in range(200):
        optimizer.zero_grad()
        ReverseCrossEntropy()(logits, targets).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), targets)
    wrong = torch.stack([row[row != row.max()] for row in logits.detach()])
    assert wrong.std(1).max() < 0.2


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), ReverseCrossEntropy()])
def test_images_have_a_class_at_every_position(loss: CrossEntropy) -> None:
    logits = torch.randn(2, 3, 4, 4)
    targets = torch.randint(3, (2, 4, 4))
    rows = logits.movedim(1, -1).reshape(-1, 3)
    torch.testing.assert_close(loss(logits, targets), loss(rows, targets.flatten()))


@pytest.mark.parametrize("loss", [CrossEntropy(0.1), ReverseCrossEntropy()])
@pytest.mark.parametrize("targets", [INDICES, MIXED], ids=["indices", "probabilities"])
def test_losses_are_in_single_precision_at_least(loss: CrossEntropy, targets: torch.Tensor) -> None:
    assert loss(LOGITS.bfloat16(), targets).dtype == torch.float32
    assert loss(LOGITS.double(), targets).dtype == torch.float64


@pytest.mark.parametrize("loss", [CrossEntropy(), ReverseCrossEntropy()])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([1, 0, 2]), r"shape \(3,\) do not match logits of shape \(2, 3\)"),
        (torch.rand(2, 4), "probabilities"),
        (torch.tensor([1, 0], dtype=torch.int32), r"are torch.int32, not int64; use targets.long"),
    ],
)
def test_targets_that_do_not_match(loss: CrossEntropy, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        loss(LOGITS, targets)


def test_options_that_are_not_valid() -> None:
    with pytest.raises(UsageError, match=r"label_smoothing must be in 0\.\.1, not 1\.5"):
        CrossEntropy(label_smoothing=1.5)
    with pytest.raises(UsageError, match="two classes"):
        ReverseCrossEntropy()(torch.zeros(2, 1), torch.tensor([0, 0]))


WEIGHTS = [0.5, 2.0, 0.25]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("targets", [INDICES, MIXED], ids=["indices", "probabilities"])
def test_weighted_cross_entropy(smoothing: float, targets: torch.Tensor) -> None:
    """-Σ w t log softmax(z), over the number of samples, with t smoothed towards 1/C."""
    t = targets if targets.is_floating_point() else one_hot(targets)
    t = (1 - smoothing) * t + smoothing / 3
    expected = -(torch.tensor(WEIGHTS) * t * LOGITS.log_softmax(1)).sum(1).mean()
    loss = WeightedCrossEntropy(WEIGHTS, smoothing)
    torch.testing.assert_close(loss(LOGITS, targets), expected)
    pieces = [loss(LOGITS[i : i + 1], targets[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(torch.stack(pieces).mean(), expected)


def test_equal_weights_change_nothing() -> None:
    found = WeightedCrossEntropy([1, 1, 1])(LOGITS, INDICES)
    torch.testing.assert_close(found, CrossEntropy()(LOGITS, INDICES))
    positions = LOGITS.unsqueeze(2).expand(-1, -1, 4)
    each = WeightedCrossEntropy([1, 1, 1])(positions, INDICES.unsqueeze(1).expand(-1, 4))
    torch.testing.assert_close(each, found)


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [float("nan"), 1]])
def test_what_are_no_weights(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="class weights are numbers of at least 0"):
        WeightedCrossEntropy(weights)


def test_weights_move_with_the_objective_and_are_in_its_description() -> None:
    objective = Objective(WeightedCrossEntropy([1, 2]), TransportCost(), NoMultiplier())
    assert "weights=[1.0, 2.0]" in repr(objective)
    assert objective.state_dict() == {}
    assert objective.to("meta").classification.weights.is_meta
    with pytest.raises(UsageError, match="2 class weights, and 3 classes"):
        WeightedCrossEntropy([1, 2])(LOGITS, INDICES)
