"""The tables after a run: its best exit, its test, its files."""

from pathlib import Path

from rich.console import Console

from fxtransport.cli.run_table import show, show_exits
from fxtransport.training import Best, Exit, FitReport, Position

EXITS = (Exit(0, 0.5, 0.7, 40), Exit(1, 0.75, 0.6, 40))


def shown(report: FitReport) -> list[str]:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        show(console, report, Path("runs/one"), seconds=3725.0, memory=3 * 2**20)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_everything_that_a_run_found() -> None:
    report = FitReport(Position(epochs=2), EXITS, Best(EXITS[1], 2), Exit(1, 0.7, 0.65, 30))
    assert shown(report) == [
        "exit validation accuracy validation loss",
        "0 50.00% 0.7000",
        "1 75.00% 0.6000 best",
        "",
        "best exit part 1 after 2 epochs: 75.00% of 40 validation samples",
        "export part 1 after 2 epochs: 75.00%",
        "test 70.00% of 30 samples, at part 1, with its weights",
        "time 1:02:05, peak memory 3.00 MiB",
        "files runs/one: config.toml, metrics.csv, results.json, checkpoint.json",
    ]


def test_exits_are_those_of_the_weights_that_are_kept() -> None:
    then = (Exit(0, 0.9, 0.4, 40), Exit(1, 0.6, 0.5, 40))
    whole = Best(Exit(1, 0.8, 0.5, 40), 4)
    report = FitReport(Position(epochs=5), EXITS, Best(then[0], 3, then), None, whole=whole)
    assert shown(report)[:6] == [
        "exit validation accuracy validation loss after the last epoch, 5",
        "0 90.00% 0.4000 best 50.00%",
        "1 60.00% 0.5000 75.00%",
        "",
        "best exit part 0 after 3 epochs: 90.00% of 40 validation samples",
        "export part 1 after 4 epochs: 80.00%; --exit best gives part 0 after 3 epochs",
    ]
    # of an earlier version, which did not note the exits: none is said to be what it is not
    old = shown(FitReport(Position(epochs=5), EXITS, Best(then[0], 3), None))
    assert old[:3] == [
        "exit validation accuracy validation loss",
        "0 50.00% 0.7000",
        "1 75.00% 0.6000",
    ]


def test_a_run_without_validation_and_test() -> None:
    lines = shown(FitReport(Position(), (), None, None))
    assert [line.split()[0] for line in lines] == ["time", "files"]
    [test] = [
        line
        for line in shown(FitReport(Position(), (), None, Exit(1, 0.7, 0.65, 30)))
        if line.startswith("test")
    ]
    assert test == "test 70.00% of 30 samples, at part 1"


def test_exits_of_another_split() -> None:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        show_exits(console, EXITS, "test", 0)
    lines = [line.split() for line in captured.get().splitlines()]
    assert lines[0] == ["exit", "test", "accuracy", "test", "loss"]
    assert [line[-1] == "best" for line in lines[1:]] == [True, False]
