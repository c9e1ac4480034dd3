"""What of a configuration the data decides: epochs for a number of steps, weights of classes."""

import math
from dataclasses import replace
from typing import Any

from fxtransport.data import Splits
from fxtransport.data.labels import balanced_weights, labels_of
from fxtransport.errors import UsageError
from fxtransport.runs.config import Config


def settle_data(config: Config, data: Splits) -> Config:
    """The configuration with what the data decides decided: numbers in place of their rules.

    Args:
        config: The run's.
        data: The splits.

    Raises:
        UsageError: the data does not tell what is needed, or has another number of classes.
    """
    changed: dict[str, Any] = {
        **_epochs(config, data),
        **_class_weights(config, data),
    }
    if not changed:
        return config
    left = {**config.values, **changed}
    return replace(config, values={path: v for path, v in left.items() if v is not None})


def _epochs(config: Config, data: Splits) -> dict[str, Any]:
    """The fewest whole epochs that have so many steps, or see so many images."""
    steps, images = config.get("schedule.steps"), config.get("schedule.images")
    if steps is None and images is None:
        return {}
    wanted, each = (images, data.train.num_samples) if steps is None else (steps, len(data.train))
    epochs = math.ceil(wanted / max(each, 1))
    return {"schedule.epochs": epochs, "schedule.steps": None, "schedule.images": None}


def _class_weights(config: Config, data: Splits) -> dict[str, Any]:
    given = config.get("objective.class_weights")
    if given is None:
        return {}
    if given == "balanced":
        labels = labels_of(getattr(data.train, "samples", None))
        if labels is None:
            raise UsageError(
                f"objective.class_weights: {config['data.name']} does not tell how many images of "
                "each class it has; give the weights as numbers"
            )
        weights = balanced_weights(labels, data.num_classes).tolist()
        return {"objective.class_weights": ",".join(map(repr, weights))}
    count = given.count(",") + 1
    if count != data.num_classes:
        raise UsageError(
            f"objective.class_weights are {count} numbers, and {config['data.name']} has "
            f"{data.num_classes} classes: {', '.join(data.class_names[:5])}, …"
        )
    return {}
