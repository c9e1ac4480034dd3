"""Images are transformed as named, and nothing else about them is random."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fxtransport.data import load
from fxtransport.data.transforms import make_mixup, make_transforms
from fxtransport.errors import UsageError
from tests.data.making import write_folder


def test_all_images_are_normalized_and_resized_alike(cifar: Path) -> None:
    splits = load("torch/cifar10", seed=0, batch_size=12, root=cifar, input_size=(3, 16, 24))
    [(images, _)] = splits.test
    assert images.shape == (12, 3, 16, 24)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    level = torch.arange(60, 72)[:, None] / 255
    torch.testing.assert_close(images.mean((2, 3)), (level - mean) / std, atol=1e-5, rtol=1e-5)
    assert images.std((2, 3)).max() < 1e-5
    gray = load("torch/cifar10", seed=0, batch_size=12, root=cifar, input_size=(1, 8, 8))
    assert next(iter(gray.test))[0].shape == (12, 1, 8, 8)


def test_nothing_is_random_but_what_is_named(cifar: Path) -> None:
    def train(**options: Any) -> torch.Tensor:
        splits = load("torch/cifar10", seed=0, batch_size=60, root=cifar, **options).train
        return next(splits.epoch(0))[0]

    plain = train()
    torch.testing.assert_close(train(augmentation={}), plain)
    padded = train(augmentation={"padding": 4}, transform={"mean": (0.0,), "std": (1.0,)})
    # crops see the black around, each at most 4 pixels of it
    visible = padded[padded.amax((1, 2, 3)) > 0]
    black = (visible == 0).float().mean((1, 2, 3))
    assert len(black.unique()) > 5
    assert black.max() < 1 - (28 / 32) ** 2 + 1e-6
    changed = train(augmentation={"color_jitter": 0.4})
    assert not torch.allclose(changed, plain)


def test_mixup_gives_probabilities_without_label_smoothing(cifar: Path) -> None:
    splits = load("torch/cifar10", seed=0, batch_size=54, root=cifar, mixup={"mixup_alpha": 1.0})
    _, targets = next(splits.train.epoch(0))
    assert targets.shape == (54, 3)
    torch.testing.assert_close(targets.sum(1), torch.ones(54))
    assert (targets > 0).sum(1).max() <= 2
    assert ((targets > 0) & (targets < 1)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "these images have several sizes: give input_size"),
        ({"input_size": (4, 8, 8)}, r"\(1, H, W\) or \(3, H, W\), not \(4, 8, 8\)"),
        ({"input_size": (3, 8, 8), "transform": {"hflip": 1}}, "transform has no option"),
        ({"input_size": (3, 8, 8), "transform": {"mean": (0, 0)}}, "2 values for 3"),
        ({"input_size": (3, 8, 8), "augmentation": {"flip": 1}}, "it has padding, scale"),
        ({"input_size": (3, 8, 8), "augmentation": {"auto_augment": "x"}}, "policy x"),
        ({"input_size": (3, 8, 8), "mixup": {"alpha": 1}}, "mixup has no option 'alpha'"),
    ],
)
def test_options_that_cannot_be_say_why(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write_folder(tmp_path, {"ant": 10, "bee": 10})
    with pytest.raises(UsageError, match=message):
        load(str(tmp_path), seed=0, batch_size=2, **options)


@pytest.mark.parametrize("options", [{"mixup_alpha": ".3"}, {"prob": "often"}])
def test_a_mixup_that_cannot_mix_is_refused_at_once(options: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    with pytest.raises(UsageError, match=f"mixup: {next(iter(options))} is a number"):
        make_mixup({"mixup_alpha": 0.2, **options}, 10, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


LATE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"scale": "0.5,1"}),
    ({}, {"scale": "a"}),
    ({}, {"ratio": "1,b"}),
    ({}, {"padding": "x"}),
    ({}, {"gaussian_blur_prob": "x"}),
    ({}, {"color_jitter": 0.4, "color_jitter_prob": "x"}),
    ({}, {"re_prob": "x"}),
    ({"crop_pct": "x"}, {}),
    ({"mean": ("a", "b", "c")}, {}),
]


@pytest.mark.parametrize(("transform", "augmentation"), LATE)
def test_options_that_cannot_be_used_fail_when_the_transform_is_made(
    transform: dict[str, Any], augmentation: dict[str, Any]
) -> None:
    name = next(iter({**transform, **augmentation}))
    state = torch.get_rng_state()
    with pytest.raises(UsageError, match=name.removesuffix("_prob")):
        make_transforms((3, 16, 24), transform, augmentation)
    assert torch.equal(torch.get_rng_state(), state)
    # the others, and images of every shape, can be
    make_transforms((1, 16, 24), {}, {"scale": (0.5, 1.0), "padding": 2, "hflip": 0.5})
