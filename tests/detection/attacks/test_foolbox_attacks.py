"""Attacks by gradients equal those by hand, or reach the success that is known of them."""

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fxtransport.detection.attacks import attack_images, make_attack
from fxtransport.detection.attacks.attack import Goal, Pool
from fxtransport.detection.attacks.foolbox_attacks import CW, import_foolbox
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed, fork_rng
from tests.detection.attacks.conftest import Trained


def gradient(model: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    [found] = torch.autograd.grad(F.cross_entropy(model(images), classes, reduction="sum"), images)
    return found


def descend(
    trained: Trained, start: Tensor, classes: Tensor, steps: int, size: float, epsilon: float
) -> Tensor:
    """Steps along the sign of the gradient, each kept within ε and 0 to 1."""
    model, images, _ = trained
    moved = start
    for _ in range(steps):
        moved = moved + size * gradient(model, moved, classes).sign()
        moved = images + (moved - images).clamp(-epsilon, epsilon)
        moved = moved.clamp(0, 1)
    return moved


def test_fgm_is_one_step_along_the_sign(trained: Trained) -> None:
    model, images, labels = trained
    found = attack_images(make_attack("fgm", epsilon=0.1), model, images, labels)
    by_hand = (images + 0.1 * gradient(model, images, labels).sign()).clamp(0, 1)
    torch.testing.assert_close(found.attacked, by_hand, atol=1e-6, rtol=0)
    assert found.success_rate > 0.3


def test_fgm_in_the_euclidean_norm(trained: Trained) -> None:
    model, images, labels = trained
    attack = make_attack("fgm", epsilon=0.8, norm="l2")
    found = attack_images(attack, model, images, labels).attacked
    slope = gradient(model, images, labels)
    slope /= slope.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found, (images + 0.8 * slope).clamp(0, 1), atol=1e-5, rtol=0)


def test_bim_is_several_steps(trained: Trained) -> None:
    model, images, labels = trained
    attack = make_attack("bim", epsilon=0.1, steps=7, relative_step=0.3)
    found = attack_images(attack, model, images, labels)
    by_hand = descend(trained, images, labels, 7, 0.03, 0.1)
    torch.testing.assert_close(found.attacked, by_hand, atol=1e-6, rtol=0)
    assert (
        found.success_rate
        > attack_images(make_attack("fgm", epsilon=0.1), model, images, labels).success_rate
    )


def test_pgd_begins_at_random(trained: Trained) -> None:
    model, images, labels = trained
    attack = make_attack("pgd", epsilon=0.1, steps=5, relative_step=0.25)
    found = attack_images(attack, model, images, labels, seed=3)
    with fork_rng(derived_seed(3, 0)):
        start = images + 0.1 * (2 * torch.rand(images.shape) - 1)
    by_hand = descend(trained, start.clamp(0, 1), labels, 5, 0.025, 0.1)
    torch.testing.assert_close(found.attacked, by_hand, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["fgm", "bim", "pgd"])
def test_a_target_is_approached(name: str, trained: Trained) -> None:
    model, images, labels = trained
    targets = (labels + 1) % 10
    one_step = {"steps": 1, "relative_step": 1.0} if name == "bim" else {}
    attack = make_attack(name, epsilon=0.1, **one_step)
    found = attack_images(attack, model, images, labels, targets=targets).attacked
    wanted = torch.arange(len(labels)), targets
    assert (model(found)[wanted] - model(images)[wanted]).mean() > 0
    if name != "pgd":
        by_hand = (images - 0.1 * gradient(model, images, targets).sign()).clamp(0, 1)
        torch.testing.assert_close(found, by_hand, atol=1e-6, rtol=0)


MINIMAL: dict[str, dict[str, Any]] = {
    "deepfool": {},
    "deepfool in the Euclidean norm": {"norm": "l2"},
    "cw": {},
    "cw in few steps": {"search_steps": 5, "steps": 50, "first_weight": 1.0},
    "fmn": {"steps": 60},
    "ddn": {"steps": 60},
}


@pytest.mark.parametrize("case", MINIMAL)
def test_the_nearest_image_of_another_class_is_found(case: str, trained: Trained) -> None:
    """These reach all images on an undefended network; DeepFool is known for it, others too."""
    model, images, labels = trained
    attack = make_attack(case.partition(" ")[0], **MINIMAL[case])
    found = attack_images(attack, model, images, labels)
    assert found.success_rate == 1
    norm = "linf" if attack.name == "fmn" else attack.settings.get("norm", "l2")
    change = (found.attacked - images).flatten(1)
    lengths = change.norm(float("inf") if norm == "linf" else 2, dim=1)[found.successful]
    # one step of the median length fools about as many as are nearer than that, or fewer
    one_step = make_attack("fgm", epsilon=lengths.median().item(), norm=norm)
    assert attack_images(one_step, model, images, labels).success_rate < 0.65
    # clean images that are misclassified are left alone
    assert torch.equal(found.attacked[found.misclassified], images[found.misclassified])


@pytest.mark.parametrize("name", ["cw", "fmn", "ddn"])
def test_the_nearest_image_of_a_target_is_found(name: str, trained: Trained) -> None:
    model, images, labels = trained
    settings = {"search_steps": 6} if name == "cw" else {}
    targets = (labels + 3) % 10
    found = attack_images(make_attack(name, **settings), model, images, labels, targets=targets)
    assert found.success_rate > 0.95
    assert torch.equal(found.after[found.successful], targets[found.successful])


def test_where_cw_finds_nothing_the_image_is_unchanged(trained: Trained) -> None:
    """Foolbox returns a black image, which is another class than most."""
    model, images, labels = trained
    attack = CW(search_steps=1, steps=1)
    assert isinstance(attack.perturb(model, images, Goal(labels), Pool(images, labels)), Tensor)
    found = attack_images(attack, model, images, labels)
    assert found.counts["unchanged"] + found.counts["misclassified before"] == len(images)


def test_without_foolbox_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "foolbox":
            raise ImportError("No module named 'foolbox'")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"No module named.*pip install 'fxtransport\[attacks\]'"):
        attack_images(make_attack("fgm"), *trained)


def test_foolbox_is_imported_without_warnings_and_without_git(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its import warns of scipy's names, and fails where there is no program git."""
    monkeypatch.setenv("PATH", "/nowhere")
    code = (
        "import os, warnings\n"
        "from fxtransport.detection.attacks.foolbox_attacks import import_foolbox\n"
        "import_foolbox()\n"
        "assert 'GIT_PYTHON_REFRESH' not in os.environ\n"
        "print('imported')"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:`torch.jit:DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    assert result.stdout.strip() == "imported", result.stderr
    assert import_foolbox().__name__ == "foolbox"
