"""Count the outcomes of many models."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from fxtransport.zoo.record import Record, Refusal


@dataclass(frozen=True)
class Summary:
    """The outcomes of some models, such as those of one family."""

    name: str
    models: int
    compiled: int
    """How many have a program, of the whole or of a submodule."""
    submodules: int
    """For how many of them a submodule was compiled."""
    verified: int
    residuals: dict[str, int]
    """The number of residual additions of each kind, in all models together."""
    seconds: float
    """The sum over all models."""
    median_seconds: float
    slowest: str
    slowest_seconds: float

    @property
    def refused(self) -> int:
        """How many have no program."""
        return self.models - self.compiled


def summarize(records: Iterable[Record]) -> tuple[Summary, ...]:
    """A summary for each family, in alphabetical order."""
    families: dict[str, list[Record]] = {}
    for record in records:
        families.setdefault(record.family, []).append(record)
    return tuple(summarize_as(name, families[name]) for name in sorted(families))


def summarize_as(name: str, records: Sequence[Record]) -> Summary:
    """The summary of one or more models, with a name."""
    slowest = max(records, key=lambda record: record.seconds)
    kinds: Counter[str] = Counter()
    for record in records:
        kinds.update(record.residuals)
    return Summary(
        name=name,
        models=len(records),
        compiled=sum(record.refusal is None for record in records),
        submodules=sum(record.submodule is not None for record in records),
        verified=sum(record.verified is not None for record in records),
        residuals=dict(kinds),
        seconds=sum(record.seconds for record in records),
        median_seconds=median(record.seconds for record in records),
        slowest=slowest.model,
        slowest_seconds=slowest.seconds,
    )


def refusals(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """The refused models by the class of the reason, the most frequent first."""
    return _group_by_reason(records, lambda record: record.refusal)


def substitutes(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """The models of which a submodule was compiled, by why the whole was refused."""
    return _group_by_reason(records, lambda record: record.whole)


def _group_by_reason(
    records: Iterable[Record], reason: Callable[[Record], Refusal | None]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for record in records:
        if (refusal := reason(record)) is not None:
            found.setdefault(refusal.kind, []).append(record.model)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return {kind: tuple(models) for kind, models in ordered}
