"""Decisions of network and detector are enough to evade both."""

import torch
from torch import Tensor

from fxtransport.detection.adaptive import Watched, evade_by_decisions
from fxtransport.detection.adaptive.black_box import WithDetectedClass
from fxtransport.detection.attacks.decision_attacks import HopSkipJump
from tests.detection.adaptive.conftest import Scene

SMALL = HopSkipJump(steps=4, evaluations=20)


def test_what_is_detected_is_a_class_of_its_own(scene: Scene) -> None:
    images = scene.attacked.attacked
    logits, _, flags = scene.watched.judge(images)
    decisions = WithDetectedClass(scene.watched)(images)
    assert decisions.shape == (60, 11)
    assert torch.equal(decisions.argmax(1) == 10, flags)
    assert torch.equal(decisions.argmax(1)[~flags], logits.argmax(1)[~flags])


def test_some_detected_images_become_undetected(scene: Scene) -> None:
    found = evade_by_decisions(scene.watched, scene.attacked, SMALL)
    assert len(found.rows) > 10
    assert found.rate > 0.4
    logits, _, flags = scene.watched.judge(found.images)
    moved = found.evaded
    assert not flags[moved].any()
    # it stays with the class that the first attack reached
    assert torch.equal(logits.argmax(1)[moved], scene.attacked.after[found.rows][moved])
    assert found.rate_within(2) > 0.3
    again = evade_by_decisions(scene.watched, scene.attacked, SMALL)
    assert torch.equal(again.images, found.images)


def test_a_detector_that_flags_everything_is_not_evaded(scene: Scene) -> None:
    def all_of_them(logits: Tensor, features: Tensor) -> Tensor:
        return torch.ones(len(logits), dtype=torch.bool)

    found = evade_by_decisions(Watched(scene.net, all_of_them), scene.attacked, SMALL)
    assert len(found.rows) == scene.attacked.successful.sum()
    assert found.rate == 0
    assert torch.equal(found.images, scene.attacked.attacked[found.rows])


def test_a_detector_that_flags_nothing_needs_no_evasion(scene: Scene) -> None:
    def none_of_them(logits: Tensor, features: Tensor) -> Tensor:
        return torch.zeros(len(logits), dtype=torch.bool)

    found = evade_by_decisions(Watched(scene.net, none_of_them), scene.attacked, SMALL)
    assert len(found.rows) == 0
    assert found.rate != found.rate
