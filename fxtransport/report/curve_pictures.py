"""The curves of runs, drawn by matplotlib."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fxtransport.report.pictures import panels
from fxtransport.training.records import RunRecord, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (
    ("validation_accuracy", "accuracy in validation"),
    ("train_accuracy", "accuracy in training"),
    ("classification", "loss L"),
    ("transport", "transport cost C"),
    ("multiplier", "multiplier λ or τ"),
    ("lr", "learning rate"),
)
"""The columns of ``metrics.csv`` that have a panel, and their titles."""
LOGARITHMIC = ("transport",)
_DASHES = ("-", "--", ":", "-.")


def draw_curves(records: Sequence[RunRecord]) -> "Figure":
    """A panel over epochs for each number that runs have, and the cost of parts along depth.

    Of one run, each exit has a color; of several, each run has a color and each exit a dash.

    Args:
        records: How the runs went.
    """
    names = short_names([record.folder for record in records])
    shown = [panel for panel in PANELS if any(_has(record, panel[0]) for record in records)]
    deep = [r for r in records if len(_costs(r)) > 1]
    figure, axes = panels(max(1, len(shown) + bool(deep)), 3, (4.0, 3.2))
    for axis, (column, title) in zip(axes, shown, strict=False):
        _draw_panel(axis, records, names, column)
        axis.set(title=title, xlabel="epoch")
        if column in LOGARITHMIC:
            axis.set_yscale("log")
    if deep:
        _draw_depth(axes[len(shown)], records, names)
    handles, labels = axes[0].get_legend_handles_labels()
    if labels:
        axes[0].legend(handles, labels, fontsize="small")
    return figure


def _draw_panel(axis: Any, records: Sequence[RunRecord], names: list[str], column: str) -> None:
    for number, (record, name) in enumerate(zip(records, names, strict=True)):
        for part in record.exits:
            epochs, values = record.curve(part, column)
            if not values:
                continue
            alone = len(records) == 1
            style = {
                "color": f"C{(part if alone else number) % 10}",
                "linestyle": "-" if alone else _DASHES[part % len(_DASHES)],
                "marker": "." if len(values) < 30 else "",
            }
            several = len(record.exits) > 1
            label = f"exit {part}" if alone else f"{name}, exit {part}" if several else name
            axis.plot(epochs, values, label=label, **style)


def _draw_depth(axis: Any, records: Sequence[RunRecord], names: list[str]) -> None:
    """The cost of each part after the last epoch in which it trained."""
    for number, (record, name) in enumerate(zip(records, names, strict=True)):
        costs = _costs(record)
        if len(costs) > 1:
            axis.plot([*costs], [*costs.values()], f"C{number % 10}o-", label=name)
    axis.set(title="C along depth, at the end", xlabel="part", yscale="log")
    axis.set_xticks(sorted({part for record in records for part in _costs(record)}))


def _costs(record: RunRecord) -> dict[int, float]:
    found = {part: record.last(part, "transport") for part in record.exits}
    return {part: cost for part, cost in found.items() if cost is not None}


def _has(record: RunRecord, column: str) -> bool:
    return any(column in row for row in record.rows)
