"""Goals, and settings that are out of range."""

from typing import Any

import pytest
import torch

from fxtransport.detection.attacks import ATTACKS, make_attack
from fxtransport.detection.attacks.attack import Goal, predict
from fxtransport.errors import UsageError
from tests.detection.attacks.conftest import Trained


def test_a_goal_is_any_other_class_or_a_given_one() -> None:
    labels, predicted = torch.tensor([0, 1, 2]), torch.tensor([0, 2, 1])
    assert Goal(labels).reached(predicted).tolist() == [False, True, True]
    aimed = Goal(labels, torch.tensor([1, 2, 0]))
    assert aimed.reached(predicted).tolist() == [False, True, False]
    some = aimed.take(torch.tensor([2, 1]))
    assert (some.labels.tolist(), some.targets.tolist()) == ([2, 1], [0, 2])  # type: ignore[union-attr]
    assert Goal(labels).take(torch.tensor([True, False, True])).labels.tolist() == [0, 2]


def test_predictions_do_not_depend_on_the_batches(trained: Trained) -> None:
    whole = trained.model(trained.images).argmax(1)
    assert torch.equal(predict(trained.model, trained.images, 7), whole)


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [
        ("fgm", "epsilon", 0, "fgm: epsilon is above 0 to 1, not 0"),
        ("fgm", "epsilon", 8, "fgm: epsilon is above 0 to 1, not 8"),
        ("fgm", "epsilon", float("nan"), "not nan"),
        ("fgm", "epsilon", "0.1", "not '0.1'"),
        ("fgm", "norm", "l1", "fgm: norm is linf or l2, not 'l1'"),
        ("apgd", "loss", "mse", "apgd: loss is ce or dlr, not 'mse'"),
        ("bim", "steps", 0, "bim: steps is from 1 to 1e[+]06, not 0"),
        ("hsj", "steps", True, "not True"),
        ("cw", "confidence", -1, "cw: confidence is from 0 to 1000, not -1"),
        ("square", "queries", 0, "queries is from 1"),
    ],
)
def test_settings_are_checked(name: str, setting: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_attack(name, **{setting: value})


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_names_its_package_and_settings(name: str) -> None:
    attack = make_attack(name)
    assert attack.release.partition(" ")[0] in ("foolbox", "pyautoattack")
    assert attack.settings
    assert all(isinstance(value, int | float | str) for value in attack.settings.values())
    assert make_attack(name, **attack.settings) == attack
