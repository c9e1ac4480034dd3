"""Attacks in one line."""

import pytest

from fxtransport.detecting.attack_text import parse_attack, parse_attacks
from fxtransport.errors import UsageError


def test_settings() -> None:
    assert parse_attack("fgm").settings["norm"] == "linf"
    found = parse_attack(" pgd{epsilon=0.2, steps=7 norm=l2} ")
    assert (found.name, found.settings["epsilon"], found.settings["steps"]) == ("pgd", 0.2, 7)
    assert found.settings["norm"] == "l2"


def test_the_text_comes_before_what_is_common() -> None:
    one, other, third = parse_attacks(["fgm{epsilon=0.2}", "bim", "deepfool"], {"epsilon": 0.1})
    assert (one.settings["epsilon"], other.settings["epsilon"]) == (0.2, 0.1)
    assert "epsilon" not in third.settings


BAD = {
    "fgmm": "no attack is called 'fgmm': .*did you mean fgm",
    "fgm{epsilon}": "write KEY=VALUE, not 'epsilon'",
    "fgm{epsilon=2}": "fgm: epsilon is above 0 to 1, not 2",
    "fgm{epsilon=nan}": "fgm: epsilon is above 0 to 1, not nan",
    "fgm{epsilon=much}": "fgm: epsilon is above 0 to 1, not 'much'",
    "fgm{steps=3}": "fgm has no setting 'steps': it has epsilon, norm",
    "fgm{": "write an attack as NAME or NAME{setting=value …}",
    "": "write an attack as NAME",
}


@pytest.mark.parametrize(("text", "words"), BAD.items())
def test_bad_texts(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_attack(text)


def test_an_attack_twice() -> None:
    with pytest.raises(UsageError, match="the attack fgm is named twice"):
        parse_attacks(["fgm", "bim", "fgm{epsilon=0.2}"])


def test_a_common_setting_of_none() -> None:
    with pytest.raises(UsageError, match="none of deepfool has a setting 'epsilon'"):
        parse_attacks(["deepfool"], {"epsilon": 0.1})
    assert parse_attacks([], {"epsilon": 0.1}) == ()
