"""AutoPGD, Square and AutoAttack reach what is known of them, and disturb nothing."""

import builtins
import logging
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.detection.attacks import attack_images, make_attack
from fxtransport.errors import UsageError
from tests.detection.attacks.conftest import Trained


def rate(name: str, trained: Trained, **settings: Any) -> float:
    return attack_images(make_attack(name, **settings), *trained).success_rate


def test_the_ensemble_is_as_strong_as_its_members(trained: Trained) -> None:
    """On small networks AutoAttack, AutoPGD and PGD agree within a few points; Square is close."""
    rates = {
        name: rate(name, trained, epsilon=0.1, **({"queries": 500} if name != "apgd" else {}))
        for name in ("apgd", "square", "autoattack")
    }
    by_pgd = rate("pgd", trained, epsilon=0.1)
    assert abs(rates["apgd"] - by_pgd) < 0.08
    assert rates["autoattack"] >= max(rates["apgd"], rates["square"])
    assert rates["apgd"] - 0.15 < rates["square"] < rates["autoattack"] + 0.01
    assert 0.3 < rates["autoattack"] < 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["apgd", "square", "autoattack"])
def test_changes_are_bounded_and_failures_unchanged(name: str, norm: str, trained: Trained) -> None:
    epsilon = 0.1 if norm == "linf" else 0.7
    steps = {} if name == "square" else {"steps": 10}
    queries = {} if name == "apgd" else {"queries": 50}
    attack = make_attack(name, epsilon=epsilon, norm=norm, **steps, **queries)
    found = attack_images(attack, *trained)
    change = (found.attacked - found.clean).flatten(1)
    size = change.norm(float("inf") if norm == "linf" else 2, dim=1)
    assert size.max() < epsilon * 1.0001
    assert found.counts["not fooled"] == 0
    assert found.counts["successful"] > 10


def test_apgd_on_the_ratio_of_logits(trained: Trained) -> None:
    both = [rate("apgd", trained, epsilon=0.1, loss=loss) for loss in ("ce", "dlr")]
    assert abs(both[0] - both[1]) < 0.1


def test_square_can_be_targeted(trained: Trained) -> None:
    targets = (trained.labels + 1) % 10
    attack = make_attack("square", epsilon=0.3, queries=400)
    found = attack_images(attack, *trained, targets=targets)
    assert found.success_rate > 0.2
    assert torch.equal(found.after[found.successful], targets[found.successful])


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes_are_enough(classes: int, trained: Trained) -> None:
    class Few(nn.Module):
        """Classes of the digits, taken together."""

        def __init__(self) -> None:
            super().__init__()
            self.whole = trained.model

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.whole(images)
            grouped = [logits[:, one::classes].logsumexp(1) for one in range(classes)]
            return torch.stack(grouped, 1)

    attack = make_attack("autoattack", epsilon=0.2, steps=10, queries=50)
    found = attack_images(attack, Few(), trained.images, trained.labels % classes)
    assert found.success_rate > 0.3


def test_the_tracer_and_the_log_are_as_they_were(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    """AutoAttack traces calls to find out about defenses, and logs its advice."""
    logger = logging.getLogger("auto-attack")
    before = logger.disabled
    seen = []

    def tracer(frame: Any, event: str, argument: Any) -> None:
        seen.append(event)

    previous = sys.gettrace()
    sys.settrace(tracer)
    try:
        rate("autoattack", trained, steps=2, queries=2)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(previous)
    assert logger.disabled == before
    assert caplog.records == []


def test_without_pyautoattack_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("pyautoattack"):
            raise ImportError("No module named 'pyautoattack'")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"No module named.*pip install 'fxtransport\[attacks\]'"):
        rate("apgd", trained)
