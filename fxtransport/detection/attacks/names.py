"""Attacks by their names."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from fxtransport.detection.attacks.attack import Attack
from fxtransport.detection.attacks.auto_attacks import APGD, AutoAttack, Square
from fxtransport.detection.attacks.decision_attacks import Boundary, HopSkipJump
from fxtransport.detection.attacks.foolbox_attacks import BIM, CW, DDN, FGM, FMN, PGD, DeepFool
from fxtransport.errors import UsageError

ATTACKS: dict[str, type[Attack]] = {
    kind.name: kind
    for kind in (
        *(FGM, BIM, PGD, APGD, DeepFool, CW, FMN, DDN, AutoAttack, Square, HopSkipJump),
        Boundary,
    )
}
"""All attacks, by name."""


def make_attack(name: str, **settings: Any) -> Attack:
    """An attack by its name, with settings other than its defaults.

    >>> make_attack("bim", steps=20)
    BIM(epsilon=0.03, norm='linf', steps=20, relative_step=0.2)

    Raises:
        UsageError: there is no such attack or setting, or a setting is out of range.
    """
    if name not in ATTACKS:
        near = get_close_matches(name, ATTACKS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"no attack is called {name!r}: there are {', '.join(ATTACKS)}{hint}")
    kind = ATTACKS[name]
    known = [own.name for own in fields(kind)]
    for setting in settings:
        if setting not in known:
            raise UsageError(f"{name} has no setting {setting!r}: it has {', '.join(known)}")
    return kind(**settings)
