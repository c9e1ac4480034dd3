"""Attacks by decisions reach every image, and do not hang where they cannot be run."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.detection.attacks import attack_images, make_attack
from fxtransport.detection.attacks.attack import Goal, Pool
from fxtransport.detection.attacks.decision_attacks import HopSkipJump, find_starts
from tests.detection.attacks.conftest import Trained

SMALL: dict[str, dict[str, Any]] = {
    "hsj": {"steps": 5, "evaluations": 30},
    "boundary": {"steps": 400},
}


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_decisions_are_enough(name: str, targeted: bool, trained: Trained) -> None:
    model, images, labels = trained
    targets = (labels + 1) % 10 if targeted else None
    found = attack_images(make_attack(name, **SMALL[name]), model, images, labels, targets=targets)
    assert found.success_rate == 1
    assert found.counts["broken"] == 0
    pool = Pool(images, model(images).argmax(1))
    starts = find_starts(model, images, Goal(labels, targets), pool)
    first = (starts - images).flatten(1).norm(dim=1)[found.successful]
    last = (found.attacked - images).flatten(1).norm(dim=1)[found.successful]
    assert last.mean() < 0.75 * first.mean()


def test_hop_skip_jump_comes_closer_with_every_step(trained: Trained) -> None:
    model, images, labels = trained.model, trained.images[:16], trained.labels[:16]
    means = []
    for steps in (1, 4, 16):
        found = attack_images(make_attack("hsj", steps=steps), model, images, labels)
        moved = (found.attacked - found.clean).flatten(1).norm(dim=1)
        means.append(moved[found.successful].mean())
    assert means[2] < 0.8 * means[1] < 0.8 * means[0]
    nearest = attack_images(make_attack("ddn"), model, images, labels)
    moved = (nearest.attacked - nearest.clean).flatten(1).norm(dim=1)
    assert means[2] < 4 * moved[nearest.successful].mean()


def test_it_begins_at_a_clean_image_where_noise_is_of_no_use(trained: Trained) -> None:
    images, labels = trained.images, trained.labels
    bright = images.flatten(1).mean(1).argsort().argsort() < 20

    class Darkness(nn.Module):
        """Tells dark images; noise is never one."""

        def forward(self, given: Tensor) -> Tensor:
            dark = (
                given.flatten(1).mean(1) < images[bright].flatten(1).mean(1).max() + 1e-6
            ).float()
            return torch.stack([1 - dark, dark], 1)

    goal = Goal(torch.zeros(60, dtype=torch.int64))
    pool = Pool(images, Darkness()(images).argmax(1))
    light = images[~bright]
    starts = find_starts(Darkness(), light, goal, pool)
    assert Darkness()(starts).argmax(1).all()
    distances = (light[:, None] - images[bright]).flatten(2).norm(dim=2)
    assert torch.equal(starts, images[bright][distances.argmin(1)])
    assert labels.shape == (80,)
    # without a pool there is nothing to begin at
    nothing = find_starts(Darkness(), light, goal, Pool(light, torch.zeros(60, dtype=torch.int64)))
    assert nothing.isnan().all()


class Constant(nn.Module):
    """Always of the same opinion."""

    def forward(self, given: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(given), -1)


@pytest.mark.parametrize("name", SMALL)
def test_where_there_is_no_other_class_images_are_broken(name: str, trained: Trained) -> None:
    labels = torch.zeros(80, dtype=torch.int64)
    found = attack_images(make_attack(name), Constant(), trained.images, labels)
    assert found.counts == {
        "successful": 0,
        "misclassified before": 0,
        "unchanged": 80,
        "not fooled": 0,
        "counted": 0,
        "broken": 80,
    }


def test_a_model_that_changes_its_mind_does_not_hang(trained: Trained) -> None:
    """HopSkipJump would halve its step for ever."""

    class Fickle(nn.Module):
        calls = 0

        def forward(self, given: Tensor) -> Tensor:
            self.calls += 1
            # another class until the gradient is known, and never after that
            wrong = float(self.calls < 17)
            return torch.tensor([[1 - wrong, wrong]]).expand(len(given), -1)

    fickle = Fickle()
    attack = HopSkipJump(steps=1, evaluations=5)
    images = trained.images[:2]
    goal = Goal(torch.zeros(2, dtype=torch.int64))
    found = attack.approach(fickle, images, 1 - images, goal)
    assert found.isnan().all()
    # both together, and then each alone
    limit = attack.limit(images[0])
    assert limit <= fickle.calls <= 3 * limit


def test_rows_without_a_start_are_left_out(trained: Trained) -> None:
    model, images, labels = trained.model, trained.images[:8], trained.labels[:8]
    right = model(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    starts = find_starts(model, images, Goal(labels), Pool(images, labels))
    starts[0] = math.nan
    found = HopSkipJump(steps=1, evaluations=5).approach(model, images, starts, Goal(labels))
    assert found[0].isnan().all()
    assert found[1:].isfinite().all()
    assert (model(found[1:]).argmax(1) != labels[1:]).all()
