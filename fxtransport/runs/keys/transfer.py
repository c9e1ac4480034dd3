"""The keys of the section ``transfer``: a teacher, and what keeps the model near to it."""

from collections.abc import Mapping
from typing import Any

from fxtransport.runs.keys.key import DefaultBy, Key, always, read_pool

ONLY_START = ("transfer.teacher", "transfer.start")
"""What has a meaning without a regularizer."""


def _terms(value: Any) -> dict[str, float]:
    from fxtransport.objectives.transfer_terms import parse_regularizer

    return parse_regularizer(value)


def _layers(value: Any) -> str:
    """``penultimate``, ``auto``, or pairs as a text; from a text, or a table."""
    from fxtransport.pairing.sites import parse_layers, write_layers

    if isinstance(value, Mapping):
        return write_layers(list(value.items()))
    return write_layers(parse_layers(str(value)))


KEYS = (
    Key(
        "transfer.teacher",
        str,
        "--teacher",
        "The teacher: a run, a saved program, a file of weights, or a model's name, whose "
        "pretrained weights are fetched.",
        metavar="TEACHER",
        # its weights count, whose hash is checked
        may_change=always,
        basic=True,
    ),
    Key(
        "transfer.regularizer",
        dict,
        "--regularizer",
        "What is added to the loss, with weights, such as ot:0.1,kd:0.5: ot, identity, uniform, "
        "sinkhorn, partial, feature (paired layers); kd (logits); l2, l2-sp (weights); or none.",
        metavar="NAME:WEIGHT[,…]",
        basic=True,
        read=_terms,
    ),
    Key(
        "transfer.layers",
        str,
        "--layers",
        "Which layers are compared: penultimate, auto, or STUDENT=TEACHER[,…], paths of modules.",
        DefaultBy(
            "schedule.name",
            {
                "end-to-end": "penultimate",
                "parallel": "auto",
                "sequential": "auto",
                "multi-lap": "auto",
            },
        ),
        metavar="LAYERS",
        basic=True,
        read=_layers,
    ),
    Key(
        "transfer.pool",
        str,
        "--pool",
        "Of maps and tokens: mean, none (each position is a sample), or N positions.",
        "mean",
        metavar="mean|none|N",
        basic=True,
        read=read_pool,
    ),
    Key(
        "transfer.start",
        bool,
        "--start-from-teacher",
        "Begin with the teacher's weights, where names and shapes agree.",
        False,
        basic=True,
    ),
    Key("transfer.temperature", float, "--temperature", "By which kd divides logits.", 4.0),
    Key("transfer.p", float, "--ot-p", "The power of the distance of neurons.", 1.0, least=1),
    Key("transfer.solver", str, "--ot-solver", "Which solver finds exact plans.", "auto"),
    Key("transfer.epsilon", float, "--ot-epsilon", "The entropy of sinkhorn.", 0.05),
    Key("transfer.mass", float, "--ot-mass", "The share that partial matches.", 1.0),
    Key(
        "transfer.cache",
        str,
        "--teacher-cache",
        "Keep what the teacher says of training images in this folder.",
        metavar="DIR",
        may_change=lambda values: "transfer.cache" in values,
    ),
)
