"""The data that a detector learns from and is tested on, as pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from fxtransport.data import Splits, load
from fxtransport.detection.identity import Preprocessing
from fxtransport.errors import MODEL_ERRORS, FxTransportError, UsageError, first_line
from fxtransport.runs.config import Config
from fxtransport.runs.inputs import Inputs

BATCH = 64
"""How many images are looked at in one forward."""
CENTER = "center"


@dataclass(frozen=True)
class DataSource:
    """A set and how it is split: all that :func:`fxtransport.data.load` needs to do so again.

    Attributes:
        name: The set, as :func:`fxtransport.data.load` takes it.
        seed: Determines the splits.
        root: The folder that holds the set.
        download: Whether the set may be downloaded.
        validation: The share of training samples that is the validation split, if the set has
            none.
        test: The share of all samples that is the test split, if the set has none.
        train_samples: How many training samples are kept.
        options: Options of the set.
    """

    name: str
    seed: int = 0
    root: str | None = None
    download: bool = False
    validation: float = 0.1
    test: float = 0.2
    train_samples: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, name: str, **how: Any) -> Self:
        """A set, whose folder is named so that it is found from any other folder."""
        root = how.pop("root", None)
        if Path(name).is_dir():
            name = str(Path(name).absolute())
        return cls(name, root=None if root is None else str(Path(root).absolute()), **how)

    def moved(self, root: str | None) -> Self:
        """The same data in another folder; itself if none is named."""
        return self if root is None else replace(self, root=str(Path(root).absolute()))

    @classmethod
    def of(cls, config: Config) -> Self:
        """That of a run."""
        found = config.section("data")
        names = ("name", "download", "validation", "test")
        return cls(
            seed=config["trainer.seed"],
            root=found.get("root"),
            train_samples=found.get("train_samples"),
            options=found.get("options", {}),
            **{name: found[name] for name in names},
        )

    def load(self, size: tuple[int, ...], transform: Mapping[str, Any]) -> Splits:
        """The splits, whose inputs are of a size.

        Raises:
            UsageError: the set cannot be loaded.
        """
        try:
            return load(
                self.name,
                seed=self.seed,
                batch_size=BATCH,
                input_size=size,
                root=self.root,
                download=self.download,
                validation=self.validation,
                test=self.test,
                train_samples=self.train_samples,
                transform=transform,
                **self.options,
            )
        except FxTransportError:
            raise
        except MODEL_ERRORS as error:
            raise UsageError(
                f"cannot load the data {self.name}: {type(error).__name__}: {first_line(error)}"
            ) from error

    def pixels(self, preprocessing: Preprocessing) -> Splits:
        """The splits as pixels from 0 to 1, prepared but not normalized.

        Raises:
            UsageError: the set cannot be loaded, or is not of images.
        """
        return self.load(preprocessing.size, pixel_options(preprocessing))


def pixel_options(preprocessing: Preprocessing) -> dict[str, Any]:
    """The options of timm's transform from an image to pixels from 0 to 1."""
    return {
        "mean": (0.0,),
        "std": (1.0,),
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop,
        "crop_mode": preprocessing.crop_mode,
    }


def preprocessing_of(data: Splits | Inputs) -> Preprocessing:
    """How images become the inputs that splits, or models, have.

    Raises:
        UsageError: they are no images, or are prepared in another way than detectors know.
    """
    if data.transform is None or len(data.input_size) != 3:
        raise UsageError(f"detectors are for images, not for {data.description}")
    found = dict(data.transform)
    channels, height, width = data.input_size
    if found.pop("crop_border_pixels", None):
        raise UsageError("detectors cannot be fitted where crop_border_pixels is set")
    return Preprocessing(
        size=(channels, height, width),
        mean=tuple(map(float, found["mean"])),
        std=tuple(map(float, found["std"])),
        interpolation=found.get("interpolation") or "bilinear",
        crop=float(found.get("crop_pct") or 1.0),
        crop_mode=found.get("crop_mode") or CENTER,
    )
