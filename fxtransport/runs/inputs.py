"""What a run's model is given and what its logits mean, without the data that says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fxtransport.data import Splits
from fxtransport.errors import CheckpointError


@dataclass(frozen=True)
class Inputs:
    """How a model's inputs are prepared, and the names of its classes.

    Attributes:
        input_size: The shape of one input, (C, H, W) or (2,).
        class_names: The names of the classes, in the order of the logits.
        description: The data in one line.
        transform: The options of ``timm.data.create_transform`` by which an image that is read
            from a file becomes an input: ``mean`` and ``std`` of pixels from 0 to 1, for each
            channel, ``interpolation``, ``crop_pct``, … None of points.
    """

    input_size: tuple[int, ...]
    class_names: tuple[str, ...]
    description: str
    transform: Mapping[str, Any] | None = None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """How an image becomes an input, timm's defaults included; None of points.

        >>> found = Inputs((3, 32, 32), ("a", "b"), "images", {"crop_pct": 0.9}).preprocessing
        >>> found["interpolation"], found["crop_pct"], found["crop_mode"]
        ('bilinear', 0.9, 'center')
        """
        if self.transform is None:
            return None
        default = {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
        return {"input_size": self.input_size, **default, **self.transform}

    @classmethod
    def of(cls, data: Splits) -> Self:
        """Those of a set."""
        return cls(data.input_size, data.class_names, data.description, data.transform)

    def to_json(self) -> dict[str, Any]:
        """Values of JSON, which :meth:`read` takes."""
        transform = None if self.transform is None else dict(self.transform)
        return {
            "input_size": self.input_size,
            "class_names": self.class_names,
            "description": self.description,
            "transform": transform,
        }

    @classmethod
    def read(cls, found: Any) -> Self:
        """From what a checkpoint holds.

        Raises:
            CheckpointError: it is of another kind.
        """
        try:
            size, names = found["input_size"], found["class_names"]
            text, transform = found["description"], found["transform"]
        except (KeyError, TypeError) as error:
            raise CheckpointError("the checkpoint does not say what its model is given") from error
        whole = isinstance(size, list) and all(type(n) is int and n > 0 for n in size)
        named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (whole and size and named and names and isinstance(text, str)):
            raise CheckpointError("the checkpoint is damaged: its input size or its classes")
        if not isinstance(transform, dict | None):
            raise CheckpointError("the checkpoint is damaged: its transform of images")
        return cls(tuple(size), tuple(names), text, _tupled(transform))


def _tupled(transform: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The options of a transform with tuples, where JSON has lists."""
    if transform is None:
        return None
    return {name: tuple(v) if isinstance(v, list) else v for name, v in transform.items()}
