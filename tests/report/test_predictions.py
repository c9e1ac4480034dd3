"""The table of predictions."""

from rich.console import Console

from fxtransport.report.predictions import show_predictions
from fxtransport.runs.predicting import ExitGuesses, Guess, Prediction


def shown(*found: Prediction) -> list[list[str]]:
    console = Console(width=80, no_color=True)
    with console.capture() as captured:
        show_predictions(console, found)
    return [line.split() for line in captured.get().splitlines()]


def test_exits_are_shown_where_there_are_several() -> None:
    said = [ExitGuesses(k, (Guess("[a]", 0.75), Guess("b", 0.25))) for k in range(2)]
    one = shown(Prediction("x[1].png", (said[0],)))
    assert one == [["image", "predicted"], ["x[1].png", "[a]", "75.0%", "b", "25.0%"]]
    two = shown(Prediction("x.png", tuple(said)))
    assert two[1:] == [
        ["x.png", "0", "[a]", "75.0%", "b", "25.0%"],
        ["1", "[a]", "75.0%", "b", "25.0%"],
    ]
