"""The keys of the section ``program``, made from the options of programs that passes declare."""

from dataclasses import replace
from enum import Enum
from typing import Any

from fxtransport.passes.pipeline import ProgramSetting, program_settings
from fxtransport.runs.keys.key import DefaultBy, Key, always

SET_ELSEWHERE = (
    *("batch_size", "num_classes", "kinds", "activations", "projection_inputs"),
    *("optimizer", "amp"),
)
"""Options of programs that are not keys: the data says the first two, ``objective.kinds`` says
which blocks cost something, training reads no named activations, ``objective.projections`` says
whether inputs of projection blocks are read, and the optimizer and the precision have sections of
their own."""
OF_HEADS = ("head", "num_classes", "head_width", "head_budget")
"""Options of programs that concern heads."""

EQUAL = {
    "--equal-depth": ("depth", "Short for --balance depth."),
    "--equal-weight": ("activations", "Short for --balance activations."),
}


def setting_keys() -> dict[str, Key]:
    """A key for each option of programs, by its name in Python."""
    found = {name: _key_of(setting) for name, setting in program_settings().items()}
    found["balance"] = replace(found["balance"], short_forms=EQUAL)
    return found


def program_keys() -> tuple[Key, ...]:
    """The keys of the section, as training has them."""
    changes: dict[str, dict[str, Any]] = {
        "modules": {
            "default": DefaultBy(
                "schedule.name", {"end-to-end": 1, "parallel": 4, "sequential": 4, "multi-lap": 4}
            ),
            "basic": True,
        },
        "balance": {"basic": True},
        # a part without a head cannot be trained
        "head": {
            "choices": tuple(c for c in setting_keys()["head"].choices if c != "none"),
        },
    }
    found = [
        replace(key, **changes.get(name, {}))
        for name, key in setting_keys().items()
        if name not in SET_ELSEWHERE
    ]
    return (
        *found,
        Key(
            "program.fit",
            str,
            "--fit",
            "Choose the cuts so that training fits into this much memory, such as 8GiB: the fewest "
            "parts; without --batch-size, the largest batch.",
            metavar="BYTES",
            basic=True,
        ),
        Key("program.blockwise", bool, "--blockwise", "As many parts as possible.", False),
        Key(
            "program.verify",
            bool,
            "--verify/--no-verify",
            "Compare the program's numbers with the model's.",
            True,
            may_change=always,
        ),
    )


def _key_of(setting: ProgramSetting) -> Key:
    how = setting.how
    values = setting.default if setting.several else (setting.default,)
    texts = tuple(str(v) if isinstance(v, Enum) else v for v in values)
    return Key(
        path=f"program.{setting.name}",
        kind=list if setting.several else str if setting.choices else setting.kind,
        flag=how.flag or f"--{setting.name.replace('_', '-')}",
        help=how.help,
        # an empty tuple, as None, is not written into a file
        default=(texts or None) if setting.several else texts[0],
        choices=_choices(setting),
        least=how.least,
        metavar=how.metavar,
    )


def _choices(setting: ProgramSetting) -> tuple[str, ...]:
    """The values that users may give; of enumerations some only occur in results."""
    reserved = {"head": ("model",), "kinds": ("inner",)}.get(setting.name, ())
    return tuple(str(choice) for choice in setting.choices if choice not in reserved)
