"""What the data decides is decided in numbers."""

from typing import Any

import pytest
import torch

from fxtransport.data import load
from fxtransport.data.labels import labels_of
from fxtransport.errors import UsageError
from fxtransport.runs.config import complete_config
from fxtransport.runs.counting import settle_data
from fxtransport.runs.settings import make_settings

DATA = load("digits", seed=0, batch_size=50, train_samples=220)


def settled(**values: Any) -> Any:
    given = {path.replace("__", "."): value for path, value in values.items()}
    return settle_data(complete_config({"model.name": "nets:resnet_m", **given}), DATA)


@pytest.mark.parametrize(
    ("values", "epochs"),
    [
        ({"schedule__steps": 1}, 1),
        ({"schedule__steps": 5}, 1),
        ({"schedule__steps": 6}, 2),
        ({"schedule__images": 220}, 1),
        ({"schedule__images": 1000}, 5),
        ({"schedule__epochs": 4}, 4),
    ],
)
def test_steps_and_images_are_whole_epochs(values: dict[str, int], epochs: int) -> None:
    config = settled(**values)
    assert config["schedule.epochs"] == epochs
    assert config.get("schedule.steps") is config.get("schedule.images") is None
    assert make_settings(config, 1).schedule.epochs == epochs


def test_only_one_says_how_long() -> None:
    with pytest.raises(UsageError, match=r"schedule\.epochs and schedule\.images all say"):
        settled(schedule__epochs=1, schedule__images=10)
    with pytest.raises(UsageError, match=r"program\.fit may choose the batch size"):
        settled(schedule__steps=1, program__fit="1GiB")


def test_balanced_weights_are_those_of_the_training_samples() -> None:
    text = settled(objective__class_weights="balanced")["objective.class_weights"]
    found = torch.tensor([float(number) for number in text.split(",")])
    counts = labels_of(DATA.train.samples).bincount()  # type: ignore[attr-defined, union-attr]
    torch.testing.assert_close(found, 220 / (10 * counts))


def test_weights_that_do_not_fit() -> None:
    assert settled(objective__class_weights="1,2,3,4,5,6,7,8,9,10")
    with pytest.raises(UsageError, match="are 2 numbers, and digits has 10 classes: 0, 1"):
        settled(objective__class_weights="1,2")
    with pytest.raises(UsageError, match="write balanced, or a number for each class"):
        settled(objective__class_weights="rare")
    with pytest.raises(UsageError, match=r"class_weights has no meaning where objective\.reverse"):
        settled(objective__class_weights="balanced", objective__reverse=True)
    with pytest.raises(UsageError, match="numbers of at least 0"):
        make_settings(settled(objective__class_weights="-1,1,1,1,1,1,1,1,1,1"), 1)
