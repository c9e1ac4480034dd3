"""Attacks are reproducible, cached by content, and leave everything as it was."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxtransport.detection.attacks import ATTACKS, PixelModel, attack_images, make_attack
from fxtransport.detection.attacks import run as runner
from fxtransport.errors import UsageError
from tests.detection.attacks.conftest import Trained

QUICK: dict[str, dict[str, Any]] = {
    "apgd": {"epsilon": 0.1, "steps": 10},
    "autoattack": {"epsilon": 0.1, "steps": 3, "queries": 5},
    "boundary": {"steps": 20},
    "cw": {"search_steps": 2, "steps": 5},
    "hsj": {"steps": 1, "evaluations": 5},
    "square": {"epsilon": 0.1, "queries": 20},
}
RANDOM = ("pgd", "apgd", "autoattack", "square", "hsj", "boundary")


def quick(name: str) -> Any:
    return make_attack(name, **QUICK.get(name, {}))


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_disturbed_and_the_seed_decides(name: str, trained: Trained) -> None:
    model = copy.deepcopy(trained.model).train()
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    weights = copy.deepcopy(model.state_dict())
    images, labels = trained.images[:20].clone(), trained.labels[:20].clone()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    found = attack_images(quick(name), model, images, labels, seed=1)
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert [parameter.grad for parameter in list(model.parameters())[1:]] == [None] * 7
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(images, trained.images[:20])
    assert torch.equal(labels, trained.labels[:20])
    with torch.no_grad():
        again = attack_images(quick(name), model, images, labels, seed=1)
    assert torch.equal(again.attacked, found.attacked)
    assert not found.attacked.requires_grad
    other = attack_images(quick(name), model, images, labels, seed=2)
    assert torch.equal(other.attacked, found.attacked) == (name not in RANDOM)
    assert found.attacked.min() >= 0
    assert found.attacked.max() <= 1


def test_the_model_is_attacked_in_eval_mode(trained: Trained) -> None:
    training = copy.deepcopy(trained.model).train()
    chosen = make_attack("bim", epsilon=0.1)
    found = attack_images(chosen, training, trained.images, trained.labels)
    expected = attack_images(chosen, trained.model, trained.images, trained.labels)
    assert torch.equal(found.attacked, expected.attacked)


def test_misclassified_images_are_attacked_where_the_attack_can(trained: Trained) -> None:
    right = trained.model(trained.images).argmax(1)
    wrong = right.where(torch.arange(80) < 15, (right + 1) % 10)
    bounded = attack_images(make_attack("fgm"), trained.model, trained.images, wrong)
    assert bounded.counts["misclassified before"] == 65
    assert not bounded.unchanged.any()
    minimal = attack_images(make_attack("ddn"), trained.model, trained.images, wrong)
    assert torch.equal(minimal.unchanged, minimal.misclassified)
    assert minimal.counts["successful"] == 15
    none = attack_images(make_attack("ddn"), trained.model, trained.images, (right + 1) % 10)
    assert none.unchanged.all()
    assert none.counts["successful"] == 0


def test_images_that_become_nan_are_left_as_they_were(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ATTACKS["fgm"]

    def half(self: Any, model: Any, images: Tensor, goal: Any, pool: Any) -> Tensor:
        moved = (images + 0.5).clone()
        moved[::2] = float("nan")
        return moved

    monkeypatch.setattr(kind, "perturb", half)
    found = attack_images(make_attack("fgm"), *trained)
    assert found.broken is not None
    assert found.broken.tolist() == [True, False] * 40
    assert torch.equal(found.unchanged, found.broken)
    assert found.attacked.isfinite().all()
    assert found.attacked.max() == 1


def test_progress_is_told(trained: Trained) -> None:
    told: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        told.append((done, total))

    attack_images(make_attack("fgm"), *trained, batch_size=30, progress=note)
    assert told == [(30, 80), (60, 80), (80, 80)]
    told.clear()
    found = attack_images(quick("cw"), *trained, batch_size=50, progress=note)
    skipped = found.counts["misclassified before"]
    assert told == [(skipped + 50, 80), (80, 80)]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of attacks that were run."""
    ran: list[str] = []
    original = runner._attack_all

    def note(attack: Any, *rest: Any) -> Any:
        ran.append(attack.name)
        return original(attack, *rest)

    monkeypatch.setattr(runner, "_attack_all", note)
    return ran


def test_the_cache_knows_what_it_is_of(
    tmp_path: Path, trained: Trained, counted: list[str]
) -> None:
    model, images, labels = trained.model, trained.images[:10], trained.labels[:10]
    base: dict[str, Any] = {"cache": tmp_path, "seed": 0}
    first = attack_images(make_attack("pgd"), model, images, labels, **base)
    again = attack_images(make_attack("pgd"), model, images, labels, **base)
    assert counted == ["pgd"]
    assert torch.equal(first.attacked, again.attacked)
    assert first.counts == again.counts
    # how they are counted does not change them
    assert attack_images(
        make_attack("pgd"), model, images, labels, **base, count_all=True
    ).outcome.counted.all()
    assert counted == ["pgd"]
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.model[0].bias[0] += 1e-3  # type: ignore[index, union-attr]
    darker = images * 0.999
    others = [
        (make_attack("pgd", epsilon=0.031), model, images, labels, {}),
        (make_attack("pgd"), tuned, images, labels, {}),
        (make_attack("pgd"), PixelModel(model.model, (0.31,), (0.38,)), images, labels, {}),
        (make_attack("pgd"), model, darker, labels, {}),
        (make_attack("pgd"), model, images.flip(0), labels.flip(0), {}),
        (make_attack("pgd"), model, images, (labels + 1) % 10, {}),
        (make_attack("pgd"), model, images, labels, {"targets": (labels + 1) % 10}),
        (make_attack("pgd"), model, images, labels, {"batch_size": 5}),
        (make_attack("pgd"), model, images, labels, {"seed": 1}),
        (make_attack("bim"), model, images, labels, {}),
    ]
    for number, (attack, other, pixels, classes, options) in enumerate(others):
        attack_images(attack, other, pixels, classes, **{**base, **options})
        assert len(counted) == number + 2, number
    assert len(list(tmp_path.iterdir())) == len(others) + 1


def test_a_damaged_file_of_the_cache_is_said(tmp_path: Path, trained: Trained) -> None:
    attack_images(make_attack("fgm"), *trained, cache=tmp_path)
    [file] = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(UsageError, match="its checksum does not fit its content; delete it"):
        attack_images(make_attack("fgm"), *trained, cache=tmp_path)


def test_a_program_is_attacked_as_its_model_is(trained: Trained) -> None:
    from fxtransport import transportify
    from fxtransport.nets import resnet_m

    net = resnet_m(2, channels=8, image_size=8).eval()
    program = transportify(net, trained.images[:2])
    attack = make_attack("bim", epsilon=0.1)
    labels = net(trained.images).argmax(1)
    both = [attack_images(attack, one, trained.images, labels) for one in (net, program)]
    torch.testing.assert_close(both[0].attacked, both[1].attacked)
    assert both[0].success_rate == both[1].success_rate > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.rand(4, 8, 8)}, r"images are N×C×H×W of float32, not \(4, 8, 8\)"),
        ({"images": torch.rand(0, 1, 8, 8)}, r"images are N×C×H×W"),
        ({"images": torch.rand(4, 1, 8, 8).double()}, "not .* of torch.float64"),
        ({"images": torch.rand(4, 1, 8, 8) * 2}, "not from 0 to 1; .*PixelModel"),
        ({"images": torch.full((4, 1, 8, 8), float("nan"))}, "not from 0 to 1"),
        ({"labels": torch.zeros(3).long()}, r"labels are \(3,\) of torch.int64: give an int64"),
        ({"labels": torch.zeros(4)}, "labels are .* of torch.float32: give an int64"),
        ({"targets": torch.zeros(4).long()}, "targets must be other classes than labels"),
        ({"attack": make_attack("deepfool")}, "deepfool cannot be targeted; leave out targets"),
    ],
)
def test_what_cannot_be_attacked_is_refused(
    changes: dict[str, Any], message: str, trained: Trained
) -> None:
    given: dict[str, Any] = {
        "attack": make_attack("bim"),
        "images": torch.rand(4, 1, 8, 8),
        "labels": torch.zeros(4).long(),
        "targets": torch.ones(4).long(),
        **changes,
    }
    with pytest.raises(UsageError, match=message):
        attack_images(given.pop("attack"), trained.model, **given)


def test_model_and_images_must_be_in_one_place(trained: Trained) -> None:
    model = copy.deepcopy(trained.model).to("meta")
    with pytest.raises(UsageError, match="the model is on meta and images are on cpu; move"):
        attack_images(make_attack("fgm"), model, trained.images, trained.labels)


@pytest.mark.cuda
def test_on_cuda_the_generators_are_kept(trained: Trained) -> None:
    device = torch.device("cuda")
    model = copy.deepcopy(trained.model).to(device)
    images, labels = trained.images.to(device), trained.labels.to(device)
    for name in ATTACKS:
        state = torch.cuda.get_rng_state()
        found = attack_images(quick(name), model, images, labels)
        assert torch.equal(torch.cuda.get_rng_state(), state)
        again = attack_images(quick(name), model, images, labels)
        assert found.attacked.device == images.device
        assert torch.equal(found.after, again.after)


def test_nn_module_is_all_that_is_needed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = torch.rand(5, 1, 2, 2)
    found = attack_images(make_attack("fgm"), net, images, net(images).argmax(1))
    assert found.counts["misclassified before"] == 0
    assert not found.unchanged.any()
