"""The keys of the section ``objective``: what is minimized."""

from typing import Any

from fxtransport.errors import UsageError
from fxtransport.runs.keys.key import METHODS, DefaultBy, Key, always, by_method, only, read_pool

MULTIPLIER = ("lap", "trgl-multipliers")
"""The methods whose multiplier is updated."""
WITH_COST = ("lap", "fixed", "trgl", "trgl-multipliers")
PROJECTIONS = ("soft-matching", "gromov-wasserstein")
KINDS = ("identity", "projection", "identity_bn")


def _numbers(value: Any) -> list[float]:
    """One number, several in a list, or a text that separates them by commas."""
    if isinstance(value, str):
        try:
            return [float(part) for part in value.split(",")]
        except ValueError as error:
            raise UsageError(f"write a number or several, such as 0.5,1, not {value!r}") from error
    several = value if isinstance(value, list) else [value]
    return [float(item) if type(item) is int else item for item in several]


def _class_weights(value: Any) -> str:
    """``balanced``, or numbers as a text, separated by commas."""
    if value == "balanced":
        return "balanced"
    try:
        return ",".join(map(repr, _numbers(value)))
    except UsageError as error:
        raise UsageError(f"write balanced, or a number for each class, not {value!r}") from error


KEYS = (
    Key(
        "objective.method",
        str,
        "--method",
        "; ".join(f"{name}: {text}" for name, text in METHODS.items()) + ".",
        "lap",
        choices=tuple(METHODS),
        basic=True,
    ),
    Key(
        "objective.tau",
        tuple,
        "--tau",
        "τ: one value, or a comma list that is spread evenly over the parts.",
        only(("trgl",), (0.5, 1.0)),
        metavar="X[,X...]",
        basic=True,
        read=_numbers,
        continues=always,
    ),
    Key(
        "objective.lambda0",
        float,
        "--lambda0",
        "λ, at the beginning if it is updated.",
        DefaultBy("objective.method", {"lap": 0.1, "trgl-multipliers": 1.0, "fixed": 0.04}),
        basic=True,
        # elsewhere, λ has left it
        continues=lambda values: bool(values["objective.method"] == "fixed"),
    ),
    Key(
        "objective.lambda_rate",
        float,
        "--lambda-rate",
        "How much of the loss is added to λ: τ of LAP, h of TRGL.",
        DefaultBy("objective.method", {"lap": 0.1, "trgl-multipliers": 1.0}),
        basic=True,
        continues=always,
    ),
    Key(
        "objective.update_every",
        int,
        "--update-every",
        "Steps between two updates of λ.",
        only(MULTIPLIER, 50),
        least=1,
        metavar="S",
        basic=True,
        continues=always,
    ),
    Key(
        "objective.order",
        str,
        "--order",
        "Whether λ is updated as in the released code or as in the text.",
        only(MULTIPLIER, "code"),
        choices=("code", "text"),
    ),
    Key("objective.p", float, "--cost-p", "C = Σ ‖r‖^p.", only(WITH_COST, 2.0), least=1),
    Key(
        "objective.reduction",
        str,
        "--reduction",
        "Over batch, channels and positions; a sum is averaged over the batch.",
        only(WITH_COST, "mean"),
        choices=("mean", "sum"),
    ),
    Key(
        "objective.residue",
        str,
        "--residue",
        "What r is: what is added to the skip, or how far a block moves its input.",
        only(WITH_COST, "branch"),
        choices=("branch", "displacement"),
    ),
    Key(
        "objective.kinds",
        list,
        "--kind",
        "Which blocks cost something; may be repeated.",
        only(WITH_COST, KINDS),
        choices=KINDS,
    ),
    Key(
        "objective.norms_alone",
        bool,
        "--norms-alone",
        "C of a block that ends in a batch norm acts on that norm's w and b alone; saves time.",
        only(WITH_COST, False),
    ),
    Key(
        "objective.projections",
        str,
        "--projections",
        "How moving x_m to x_{m+1} costs where a block changes the width; else projections cost as "
        "other blocks.",
        only(WITH_COST, None),
        choices=PROJECTIONS,
    ),
    Key(
        "objective.projection_pool",
        str,
        "--projection-pool",
        "Of maps and tokens at both ends: mean, none (each position is a point), or N positions.",
        DefaultBy("objective.projections", dict.fromkeys(PROJECTIONS, "mean")),
        metavar="mean|none|N",
        read=read_pool,
    ),
    Key(
        "objective.label_smoothing",
        float,
        "--label-smoothing/--smoothing",
        "Label smoothing of L.",
        DefaultBy("objective.reverse", {False: by_method(0.1, 0.0)}),
        least=0,
    ),
    Key(
        "objective.class_weights",
        str,
        "--class-weights",
        "How much each class counts in L: numbers, or balanced, by how rare it is in training.",
        DefaultBy("objective.reverse", {False: None}),
        metavar="balanced|X,…",
        read=_class_weights,
    ),
    Key("objective.reverse", bool, "--reverse", "L is the reverse cross-entropy (RCE).", False),
)
