"""A page of Markdown about a sweep."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from fxtransport.errors import UsageError
from fxtransport.files import LIBRARIES
from fxtransport.zoo.record import Record
from fxtransport.zoo.summary import Summary, refusals, substitutes, summarize, summarize_as

SHOWN = 12
"""How many of the slowest and the largest are listed."""

_HEAD = """\
# The zoo

How `fxtransport` compiles every model that timm and torchvision list. Each is built and compiled
on the meta device, which takes no memory. A model that cannot be compiled is refused with one
line that says why, and what to do.

This page and its records are made by

```
fxtransport zoo --jobs 2 --verify-below 60M --timeout 900 --output benchmarks/results/zoo.jsonl \\
    --report docs/zoo.md
```

With `--resume` an interrupted sweep continues, and the page is written again. With
`--verify-below 60M` the programs of models with fewer parameters are also verified against the
model, in train and eval mode, at the smallest of a few input sizes that the model takes; some of
those for videos take minutes.
"""


def write_page(file: Path, header: Mapping[str, object], records: Sequence[Record]) -> None:
    """Write the page into a file.

    Args:
        file: The file, overwritten if it exists.
        header: What the records depend on, see :func:`fxtransport.zoo.file.header`.
        records: One or more.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        file.write_text(page(header, records), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write into {file}: {error.strerror}") from error


def page(header: Mapping[str, object], records: Sequence[Record]) -> str:
    """The page as text."""
    # workers finish in another order each time
    records = sorted(records, key=lambda record: record.model)
    versions = ", ".join(f"{name} {header[name]}" for name in (*LIBRARIES, "python"))
    sections = [
        f"{_HEAD}\nMade with {versions}.",
        _totals(records),
        _refused(records),
        _substitutes(records),
        _cuts(records),
        _verified(header, records),
        _families(records),
        _top("Slowest", records, lambda r: r.seconds),
        _top("Largest graphs", records, lambda r: r.nodes or 0),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _totals(records: Sequence[Record]) -> str:
    libraries = {record.family.partition(":")[0] for record in records}
    rows = [
        summarize_as(library, [r for r in records if r.family.startswith(f"{library}:")])
        for library in sorted(libraries)
    ]
    rows.append(summarize_as("both" if len(libraries) == 2 else "all", records))
    head = "models|compiled|as a submodule|refused|median s|slowest s|all, minutes"
    return _section(
        "Counts",
        "Seconds are CPU time from the name to the last cut, without verification.",
        _table(
            f"library|{head}",
            (
                (
                    s.name,
                    s.models,
                    s.compiled,
                    s.submodules,
                    s.refused,
                    f"{s.median_seconds:.2f}",
                    f"{s.slowest_seconds:.2f}",
                    f"{s.seconds / 60:.1f}",
                )
                for s in rows
            ),
        ),
    )


def _refused(records: Sequence[Record]) -> str:
    found = refusals(records)
    if not found:
        return _section("Refused", "None.")
    reasons = {r.model: r.refusal.reason for r in records if r.refusal is not None}
    rows = ((kind, len(models), reasons[models[0]]) for kind, models in found.items())
    names = (f"- {kind}: {', '.join(models)}" for kind, models in found.items())
    return _section("Refused", _table("reason|models|for example", rows), "\n".join(names))


def _substitutes(records: Sequence[Record]) -> str:
    found = substitutes(records)
    if not found:
        return ""
    rows = ((kind, len(models), ", ".join(models)) for kind, models in found.items())
    return _section(
        "Compiled as a submodule",
        "Where the whole cannot be one graph, its backbone was compiled, as with "
        "`--submodule backbone`.",
        _table("reason|models|names", rows),
    )


def _cuts(records: Sequence[Record]) -> str:
    rows = []
    for modules in next((r.imbalances for r in records if r.imbalances), {}):
        found = [r.imbalances[modules] for r in records if r.imbalances]
        possible = [imbalance for imbalance in found if imbalance is not None]
        rows.append((modules, len(possible), len(found), f"{median(possible or [0.0]):.1%}"))
    return _section(
        "Cuts",
        "How many of the compiled models can be cut into K parts, balanced by activations, and "
        "how far the heaviest part is above the mean.",
        _table("K|can be cut|of|median imbalance", rows),
    )


def _verified(header: Mapping[str, object], records: Sequence[Record]) -> str:
    found = [r.verified for r in records if r.verified is not None]
    if not found:
        return ""
    rows = []
    for mode in ("train", "eval"):
        errors = [v.errors[mode] for v in found]
        known = [error for error in errors if error is not None]
        worst = max(known, default=0.0)
        exact = sum(error == 0.0 for error in known)
        rows.append((mode, len(known), exact, f"{worst:.1e}", len(errors) - len(known)))
    return _section(
        "Verified",
        f"Outputs, gradients and buffers of models with fewer than {header['verify_below']:,} "
        f"parameters were compared with those of the model, in "
        f"{sum(v.seconds for v in found) / 60:.0f} minutes of CPU time.",
        _table("mode|models|equal bit for bit|largest error|the model itself refuses", rows),
    )


def _families(records: Sequence[Record]) -> str:
    def cells(s: Summary) -> tuple[object, ...]:
        kinds = (s.residuals.get(k, 0) or "" for k in kinds_found)
        times = (f"{s.median_seconds:.2f}", f"{s.slowest_seconds:.2f}")
        return (s.name, s.models, s.compiled, s.refused or "", *kinds, *times)

    kinds_found = list(dict.fromkeys(kind for r in records for kind in r.residuals))
    head = ["family", "models", "compiled", "refused", *kinds_found, "median s", "slowest s"]
    return _section(
        "Families",
        "A family is a source file of the library. [Residual additions](residuals.md) are counted "
        "by kind, in all models of the family together.",
        _table("|".join(head), map(cells, summarize(records))),
    )


def _top(title: str, records: Sequence[Record], key: Callable[[Record], float]) -> str:
    first = sorted(records, key=key, reverse=True)[:SHOWN]
    rows = ((r.model, r.seconds, r.nodes, f"{(r.parameters or 0) / 1e6:.1f}") for r in first)
    return _section(title, _table("model|seconds|nodes|million parameters", rows))


def _section(title: str, *parts: str) -> str:
    return "\n\n".join((f"## {title}", *parts))


def _table(head: str, rows: Iterable[Iterable[object]]) -> str:
    """A table; columns of numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    names = head.split("|")
    numbers = [all(_is_number(row[i]) for row in cells) for i in range(len(names))]
    rule = ["--:" if number else ":--" for number in numbers]
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, rule, *cells))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _is_number(text: str) -> bool:
    return not text.strip("0123456789.e+-% ")
