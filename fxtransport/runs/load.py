"""What the commands on runs share: building the program, and loading what the run has found."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fxtransport.cli.common import compiling
from fxtransport.errors import MODEL_ERRORS, FxTransportError, TraceError, UsageError, first_line
from fxtransport.program import Program
from fxtransport.runs.config import Config
from fxtransport.runs.recipe import Recipe, recipe_of
from fxtransport.training import Best, Exit
from fxtransport.training.checkpoint import RunFolder
from fxtransport.weights import load_weights


@contextmanager
def building(name: str) -> Iterator[None]:
    """A spinner; where the compiler itself fails, a line.

    Raises:
        TraceError: the compiler failed.
    """
    with compiling(name):
        try:
            yield
        except FxTransportError:
            raise
        except MODEL_ERRORS as error:
            reason = f"the compiler failed: {type(error).__name__}: {first_line(error)}"
            raise TraceError(reason) from error


@dataclass(frozen=True)
class TrainedRun:
    """A run's program with weights that it has found.

    Args:
        config: The run's.
        recipe: What the program was built from.
        program: With the weights.
        best: The best exit; None if nothing was validated.
        exits: The modules whose heads have been trained.
        epochs: After how many epochs the weights were as they are.
        averaged: Whether they are a moving average.
    """

    config: Config
    recipe: Recipe
    program: Program
    best: Best | None
    exits: tuple[int, ...]
    epochs: int
    averaged: bool


def load_run(run: Path, config: Config, *, last: bool, average: bool | None = None) -> TrainedRun:
    """Build a run's program and give it weights that the run has found.

    Args:
        run: Its folder.
        config: Its configuration.
        last: Those of the last checkpoint; otherwise those of the best exit.
        average: The moving average of the last, or those that were averaged; None: the
            average, if there is one. The best are the average's, if there is one.

    Raises:
        UsageError: there are no such weights.
        CheckpointError: they cannot be read.
    """
    folder = RunFolder(run)
    checkpoint = folder.read()
    state = checkpoint.state
    has_average = state["ema"] is not None
    if average and not has_average:
        raise UsageError(f"{run} keeps no average of its weights: it was trained without --ema")
    if not last and checkpoint.best is None:
        raise UsageError(f"{run} has no best exit, for nothing was validated; take --last")
    if not last and average is False and has_average:
        raise UsageError("the best weights are the average's; for others, take --last --no-ema")

    with building(config["model.name"]):
        recipe = recipe_of(config)
        program = recipe.program(new=False)
    averaged = has_average and average is not False
    if last:
        program.load_state_dict(state["ema" if averaged else "program"])
    else:
        assert checkpoint.best is not None
        load_weights(program, folder.read_tensors(checkpoint.best), run / checkpoint.best.file)
    found = state["best"]
    best = Best(Exit(**found["exit"]), found["epoch"]) if found else None
    trained = tuple(exit["part"] for exit in state["exits"]) or tuple(range(len(program.parts)))
    epochs = state["position"]["epochs"] if last or best is None else best.epoch
    return TrainedRun(config, recipe, program, best, trained, epochs, averaged)
