"""Detected images are those that fool the network and not the detector."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.data import load
from fxtransport.detection import TransportFeatures
from fxtransport.detection.adaptive import (
    Evasion,
    FeatureMatch,
    GradientEvasion,
    Surrogate,
    Watched,
    evade_by_decisions,
    evade_by_features,
    evade_by_gradients,
)
from fxtransport.detection.adaptive.watched import detected_rows, evasion
from fxtransport.detection.attacks import attack_images, make_attack
from fxtransport.detection.attacks.decision_attacks import HopSkipJump
from fxtransport.detection.forest import TransportForest
from fxtransport.errors import UsageError
from fxtransport.nets import resnet_m
from tests.detection.adaptive.conftest import Scene


def test_judging_does_not_depend_on_the_batches(scene: Scene) -> None:
    images = scene.attacked.attacked
    whole, parts = scene.watched.judge(images), scene.watched.judge(images, batch_size=7)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    assert whole[2].dtype == torch.bool


def test_rows_are_of_successful_images_that_are_detected(scene: Scene) -> None:
    rows = detected_rows(scene.watched, scene.attacked)
    flags = scene.watched.judge(scene.attacked.attacked)[2]
    expected = [i for i in range(60) if scene.attacked.successful[i] and flags[i]]
    assert rows.tolist() == expected
    assert len(expected) > 10
    other = replace(scene.attacked, after=(scene.attacked.after + 1) % 10)
    with pytest.raises(UsageError, match=r"predicts other classes .* for 60 of 60 images"):
        detected_rows(scene.watched, other)


def test_new_images_are_judged(scene: Scene) -> None:
    rows = detected_rows(scene.watched, scene.attacked)[:3]
    images = scene.attacked.attacked[rows].clone()
    images[0] = float("nan")
    images[1] = scene.attacked.clean[rows[1]]
    found = evasion(scene.watched, scene.attacked, rows, images)
    assert torch.equal(found.images[0], scene.attacked.attacked[rows[0]])
    # nothing, the clean image, which fools nobody, and the one that is detected
    assert found.evaded.tolist() == [False, False, False]
    assert found.after[1] == 0
    assert torch.equal(found.after[::2], found.before[::2])
    assert found.rate == 0


def test_rates() -> None:
    found = Evasion(
        rows=torch.arange(4),
        images=torch.zeros(4, 1, 2, 2),
        evaded=torch.tensor([True, True, True, False]),
        before=torch.ones(4),
        after=torch.tensor([1.0, 2.0, 5.0, 1.0]),
    )
    assert found.rate == 0.75
    assert (found.rate_within(1), found.rate_within(2), found.rate_within(9)) == (0.25, 0.5, 0.75)
    none = Evasion(*(tensor[:0] for tensor in vars(found).values()))
    assert none.rate != none.rate
    assert none.rate_within(2) != none.rate_within(2)


def test_a_program_is_watched_by_its_transport_forest() -> None:
    """The features of the library, its forest, and all three attacks on them."""
    torch.manual_seed(0)
    pixels = {"mean": (0.0,), "std": (1.0,)}
    splits = load("digits", seed=0, batch_size=64, eval_batch_size=360, transform=pixels)
    model = resnet_m(3, channels=8, image_size=8)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for epoch in range(4):
        for images, labels in splits.train.epoch(epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    [(images, labels)] = splits.test
    program = transportify(model.eval(), images[:2])
    extract = TransportFeatures(program, differentiable=True)
    attack = make_attack("ddn", steps=30)
    fitted = attack_images(attack, program, images[30:], labels[30:])
    with torch.no_grad():
        clean, moved = (extract(one)[1].numpy() for one in (fitted.clean, fitted.attacked))
    forest = TransportForest(rule="general").fit(clean, moved[fitted.successful.numpy()])

    def flag(logits: Tensor, features: Tensor) -> Tensor:
        return torch.from_numpy(forest.score(features.numpy()) > 0.5)

    attacked = attack_images(attack, program, images[:30], labels[:30])
    watched = Watched(extract, flag)
    search = HopSkipJump(steps=2, evaluations=10)
    logits, features, _ = watched.judge(images)
    surrogate = Surrogate.fit(logits, features.detach())
    found = [
        evade_by_decisions(watched, attacked, search),
        evade_by_features(watched, attacked, FeatureMatch(search, iterations=5)),
        evade_by_gradients(watched, attacked, surrogate, GradientEvasion(epsilon=0.3, steps=30)),
    ]
    assert len(found[0].rows) > 5
    assert all(torch.equal(one.rows, found[0].rows) for one in found)
    for one in found:
        _, _, flags = watched.judge(one.images)
        assert not flags[one.evaded].any()
        assert 0 <= one.rate <= 1
    assert max(one.rate for one in found) > 0.3
