"""The outcome for one model."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Options:
    """What is asked of every model."""

    verify_below: int = 0
    """Models with fewer parameters are verified in both modes."""
    submodule: str | None = None
    """The submodule to compile of each. If None, the whole is compiled, or its backbone where
    the whole cannot be one graph."""


@dataclass(frozen=True)
class Refusal:
    """Why a model has no program."""

    error: str
    """The error's class, or ``Crash`` or ``Timeout``."""
    slug: str
    """The first clause of the reason, without names of models, modules and files."""
    reason: str

    @property
    def kind(self) -> str:
        """The class of the reason, by which refusals are counted."""
        return f"{self.error}: {self.slug}"


@dataclass(frozen=True)
class Verified:
    """The result of the comparison with the model."""

    sizes: tuple[tuple[int, ...], ...]
    """The shapes of the inputs without the batch."""
    errors: dict[str, float | None]
    """The largest error in each mode; None where the model itself refuses the input."""
    seconds: float = field(compare=False)
    """CPU time."""


@dataclass(frozen=True)
class Record:
    """The outcome for one model."""

    model: str
    family: str
    seconds: float
    """CPU time without verification; wall-clock time for a model that crashed or took too
    long."""
    submodule: str | None = None
    """What was compiled, if not the whole."""
    whole: Refusal | None = None
    """Why the whole was refused, if a backbone was compiled instead."""
    parameters: int | None = None
    """Of what was compiled, as everything below."""
    nodes: int | None = None
    residuals: dict[str, int] = field(default_factory=dict)
    """The number of residual additions of each kind."""
    layers: int | None = None
    """The number of equal-dimension layers."""
    boundaries: int | None = None
    """The number of boundaries where a single tensor crosses."""
    wide: int | None = None
    """The number of boundaries where several tensors cross."""
    imbalances: dict[str, float | None] = field(default_factory=dict)
    """The imbalance of the activations for each K; None if it cannot be cut into K parts."""
    verified: Verified | None = None
    """None if the model was not verified, or failed."""
    refusal: Refusal | None = None

    def to_json(self) -> str:
        """The record as a line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a record from a line of JSON."""
        entry: dict[str, Any] = json.loads(text)
        if entry["verified"]:
            sizes = tuple(map(tuple, entry["verified"].pop("sizes")))
            entry["verified"] = Verified(sizes, **entry["verified"])
        for key in ("whole", "refusal"):
            if entry[key]:
                entry[key] = Refusal(**entry[key])
        return cls(**entry)
