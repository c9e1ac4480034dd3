"""Attacks in one line: ``fgm``, or with settings ``pgd{epsilon=0.1 steps=20}``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from fxtransport.detection.attacks import ATTACKS, Attack, make_attack
from fxtransport.errors import UsageError
from fxtransport.runs.config import parse_pair

_TEXT = re.compile(r"\s*(?P<name>[\w-]+)\s*(?:\{(?P<settings>[^{}]*)\})?\s*")


def parse_attack(text: str, common: Mapping[str, Any] | None = None) -> Attack:
    """The attack that a text describes.

    Args:
        text: A name, and settings in braces.
        common: Settings that the attack takes where it has them, and where the text says nothing.

    >>> parse_attack("pgd{epsilon=0.1 steps=20}")
    PGD(epsilon=0.1, norm='linf', steps=20, relative_step=...)
    >>> parse_attack("fgm", {"epsilon": 0.2, "steps": 5})
    FGM(epsilon=0.2, norm='linf')

    Raises:
        UsageError: it cannot be read, or there is no such attack or setting.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise UsageError(f"write an attack as NAME or NAME{{setting=value …}}, not {text!r}")
    own = dict(parse_pair(pair) for pair in (match["settings"] or "").replace(",", " ").split())
    name = match["name"]
    known = {field.name for field in fields(ATTACKS[name])} if name in ATTACKS else set()
    shared = {key: value for key, value in (common or {}).items() if key in known}
    return make_attack(name, **{**shared, **own})


def parse_attacks(
    texts: Sequence[str], common: Mapping[str, Any] | None = None
) -> tuple[Attack, ...]:
    """The attacks that texts describe.

    Raises:
        UsageError: as :func:`parse_attack`; or an attack is named twice, or a common setting is
            of none of them.
    """
    found = tuple(parse_attack(text, common) for text in texts)
    names = [attack.name for attack in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the attack {name} is named twice; name it once")
    for setting in common or {}:
        if found and not any(setting in attack.settings for attack in found):
            raise UsageError(f"none of {', '.join(names)} has a setting {setting!r}")
    return found
