"""Attacks are found by their names."""

import pytest

from fxtransport.detection.attacks import ATTACKS, make_attack
from fxtransport.detection.attacks.foolbox_attacks import BIM
from fxtransport.errors import UsageError


def test_an_attack_is_made_with_settings() -> None:
    assert make_attack("bim", steps=3) == BIM(steps=3)
    assert len(ATTACKS) == 12
    assert all(kind.name == name for name, kind in ATTACKS.items())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fgsm", {}, r"no attack is called 'fgsm': there are fgm, .*; did you mean fgm\?"),
        ("nothing", {}, "no attack is called 'nothing': there are fgm, [a-z, ]+boundary$"),
        ("fgm", {"eps": 0.1}, "^fgm has no setting 'eps': it has epsilon, norm$"),
    ],
)
def test_what_there_is_not_is_said(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_attack(name, **settings)
