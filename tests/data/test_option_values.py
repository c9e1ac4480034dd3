"""Options that cannot be used are refused before the first batch, by name."""

from typing import Any

import pytest

from fxtransport.data import load
from fxtransport.data.option_values import AUGMENTATION, MIXUP, TRANSFORM, check_values
from fxtransport.errors import UsageError

WRONG: dict[str, dict[str, list[Any]]] = {
    "transform": {
        "mean": ["x", 0.5, []],
        "std": [[0.0], [-1.0], "x"],
        "crop_pct": [0, "x", True],
        "crop_mode": ["foo", 1],
        "crop_border_pixels": ["x", 0.5],
    },
    "augmentation": {
        "padding": ["x", 0.5, -1, True],
        "scale": ["x", [1], [1.0, 0.5], [0, 1]],
        "ratio": ["x", [1]],
        "hflip": ["x", 2, -0.1],
        "vflip": [2],
        "color_jitter_prob": ["x"],
        "grayscale_prob": ["x"],
        "gaussian_blur_prob": ["x"],
        "re_prob": [2, float("nan")],
        "re_count": [0.5, "x", 0],
        # these timm looks at itself
        "auto_augment": ["foo", 3],
        "re_mode": ["foo"],
        "train_crop_mode": ["foo"],
        "color_jitter": ["x", -1],
    },
    "mixup": {
        "mixup_alpha": [".3x", -1, float("inf")],
        "cutmix_alpha": ["x"],
        "cutmix_minmax": ["x", [0.1], [0.5, 0.1]],
        "prob": [2, "x"],
        "switch_prob": ["x"],
        "mode": ["foo"],
        "correct_lam": ["x", 1],
        "label_smoothing": [2],
    },
}
CASES = [(w, n, v) for w, names in WRONG.items() for n, values in names.items() for v in values]


@pytest.mark.parametrize(("what", "name", "value"), CASES)
def test_wrong_values_are_refused_first(what: str, name: str, value: Any) -> None:
    others = {"re_mode": {"re_prob": 0.5}}.get(name, {})
    if what == "mixup":
        others = {"mixup_alpha": 0.3, "cutmix_alpha": 0.3}
    with pytest.raises(UsageError, match=name) as caught:
        load("digits", seed=0, batch_size=64, drop_last=True, **{what: {**others, name: value}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("transform", {"mean": [0.5], "std": (0.2,), "crop_pct": 0.9, "crop_mode": "squash"}),
        ("augmentation", {"padding": 2, "hflip": 1, "re_prob": 0.5, "re_count": 2}),
        ("augmentation", {"scale": [0.5, 1.0], "ratio": (0.9, 1.1), "grayscale_prob": 0.1}),
        ("mixup", {"mixup_alpha": 0, "cutmix_minmax": [0.2, 0.8], "mode": "elem"}),
        ("mixup", {"cutmix_alpha": 1, "correct_lam": False, "label_smoothing": 0.1}),
    ],
)
def test_right_values_are_used(what: str, given: dict[str, Any]) -> None:
    splits = load("digits", seed=0, batch_size=64, drop_last=True, **{what: given})
    images, _ = next(iter(splits.train.epoch(0)))
    assert images.shape == (64, 1, 8, 8)


def test_what_is_not_listed_is_for_timm() -> None:
    for allowed in (TRANSFORM, AUGMENTATION, MIXUP):
        assert not {"interpolation", "other"} & allowed.keys()
        check_values("options", {"interpolation": "x", "other": 1}, allowed)
        check_values("options", dict.fromkeys(allowed), allowed)
