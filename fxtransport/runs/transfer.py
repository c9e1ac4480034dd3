"""The teacher of a run, and what keeps its model near to it."""

from collections.abc import Callable

from fxtransport.objectives.neurons import parse_pool
from fxtransport.objectives.transfer import Regularizer
from fxtransport.pairing.bridging import copy_weights
from fxtransport.pairing.pairs import make_pair
from fxtransport.pairing.teachers import Normalization, OpenTeacher, open_teacher
from fxtransport.program import Program
from fxtransport.randomness import derived_seed, fork_rng
from fxtransport.report.words import plural
from fxtransport.runs.config import Config
from fxtransport.runs.recipe import Recipe, student_layers
from fxtransport.training import Transfer

OPTIONS = ("temperature", "p", "solver", "epsilon", "mass")
"""Keys of the section that are options of regularizers."""


def prepare_transfer(
    recipe: Recipe,
    program: Program,
    *,
    new: bool,
    trust_files: bool = False,
    teacher: Callable[[Program], OpenTeacher] | None = None,
) -> tuple[Transfer | None, str]:
    """Open the teacher of a run, and pair its layers with those of the student.

    Args:
        recipe: What the program was built from.
        program: The student's. In a new run it is given the teacher's weights, if the
            configuration says so.
        new: Whether the run begins.
        trust_files: Whether a Python file that a teacher's folder names may be run.
        teacher: Opens the teacher for the student's program; :func:`open_run_teacher` by default.

    Returns:
        What the trainer takes, None without a regularizer; and what is to be told of it.

    Raises:
        FxTransportError: there is no such teacher, or it does not fit.
    """
    config = recipe.config
    terms, source = config.get("transfer.regularizer") or {}, config.get("transfer.teacher")
    starts = new and bool(config.get("transfer.start"))
    if source is None:
        return _alone(terms), ""
    if not terms and not starts:
        return None, ""
    if teacher is None:
        opened = open_run_teacher(recipe, program, trust_files=trust_files)
    else:
        opened = teacher(program)
    notes = [_start(opened, program)] if starts else []
    if not terms:
        return None, "\n".join(notes)
    pair = make_pair(
        program,
        opened,
        student_layers(config) or (),
        pool=parse_pool(config["transfer.pool"]),
        normalization=_normalization(recipe),
        verify=new and config["program.verify"],
    )
    transfer = pair.transfer(terms, cache=config.get("transfer.cache"), **_options(config))
    return transfer, "\n".join([*notes, str(pair)])


def open_run_teacher(recipe: Recipe, program: Program, *, trust_files: bool = False) -> OpenTeacher:
    """Open the teacher that a run names, for the program of its student."""
    config = recipe.config
    # a factory in a file may initialize weights at random
    with fork_rng(derived_seed(config["trainer.seed"])):
        return open_teacher(
            config["transfer.teacher"],
            program,
            program.facts.example,
            recipe.origin,
            trust_files=trust_files,
        )


def _alone(terms: dict[str, float]) -> Transfer | None:
    """A regularizer that needs no teacher."""
    return Transfer(Regularizer(terms)) if terms else None


def _start(opened: OpenTeacher, program: Program) -> str:
    """Give a program the teacher's weights, and say what has none."""
    left = copy_weights(opened.model.state_dict(), program, opened.name)
    rest = f"; {plural(len(left), 'tensor')} of its own, {left[0]} first" if left else ""
    return f"begins with the weights of {opened.name}{rest}"


def _options(config: Config) -> dict[str, object]:
    found = config.section("transfer")
    return {name: found[name] for name in OPTIONS}


def _normalization(recipe: Recipe) -> Normalization | None:
    """How the run's images are normalized; None where it is not known."""
    found = recipe.inputs.transform or {}
    if not {"mean", "std"} <= {*found}:
        return None
    return tuple(found["mean"]), tuple(found["std"])
