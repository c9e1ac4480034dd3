"""What came of one model."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Options:
    """What is asked of every model."""

    verify_below: int = 0
    """Compare numbers, in both modes, of models with fewer parameters."""
    submodule: str | None = None
    """Compile this submodule of each. If None the whole, or where that cannot be one graph
    the backbone."""


@dataclass(frozen=True)
class Refusal:
    """Why a model has no program."""

    error: str
    """The error's class, or ``Crash`` or ``Timeout``."""
    slug: str
    """The first clause of the reason, without the names of models, modules and files."""
    reason: str

    @property
    def kind(self) -> str:
        """The class of the reason, by which refusals are counted."""
        return f"{self.error}: {self.slug}"


@dataclass(frozen=True)
class Verified:
    """What the comparison with the model found."""

    sizes: tuple[tuple[int, ...], ...]
    """The inputs' shapes without the batch."""
    errors: dict[str, float | None]
    """The largest error in each mode; None where the model itself refuses the input."""
    seconds: float = field(compare=False)
    """Of one core."""


@dataclass(frozen=True)
class Record:
    """What came of one model."""

    model: str
    family: str
    seconds: float
    """Of one core, without comparing numbers; of a model that crashed or took too long, by the
    clock."""
    submodule: str | None = None
    """What was compiled, if not the whole."""
    whole: Refusal | None = None
    """Why not the whole, if a submodule was compiled that was not asked for."""
    parameters: int | None = None
    """Of the whole, or the submodule, as all that follows."""
    nodes: int | None = None
    residuals: dict[str, int] = field(default_factory=dict)
    """How many there are of each kind."""
    layers: int | None = None
    """Equal-dimension layers."""
    boundaries: int | None = None
    """Where a single tensor crosses."""
    wide: int | None = None
    """Boundaries where several tensors cross."""
    imbalances: dict[str, float | None] = field(default_factory=dict)
    """For each K the imbalance of the activations, None if it cannot be cut so."""
    verified: Verified | None = None
    """None if it was not asked for, or failed."""
    refusal: Refusal | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record of a line."""
        entry: dict[str, Any] = json.loads(text)
        if entry["verified"]:
            sizes = tuple(map(tuple, entry["verified"].pop("sizes")))
            entry["verified"] = Verified(sizes, **entry["verified"])
        for key in ("whole", "refusal"):
            if entry[key]:
                entry[key] = Refusal(**entry[key])
        return cls(**entry)
