"""A weighted sum of regularizers is read as it is written, and refused where it is not one."""

from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.objectives.transfer_terms import parse_regularizer


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        ("ot:0.1", {"ot": 0.1}),
        (" kd : 2 , l2-sp:1e-3", {"kd": 2.0, "l2-sp": 0.001}),
        ("none", {}),
        ({}, {}),
        ({"uniform": 1, "l2": 0.5}, {"uniform": 1.0, "l2": 0.5}),
    ],
)
def test_what_is_read(given: Any, terms: dict[str, float]) -> None:
    found = parse_regularizer(given)
    assert found == terms
    assert [*found] == [*terms]
    assert {type(weight) for weight in found.values()} <= {float}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "NAME:WEIGHT, such as ot:0.1"),
        (3, "NAME:WEIGHT, such as ot:0.1"),
        ("ot", "write ot:0.1, say"),
        ("0.1", "NAME:WEIGHT, such as ot:0.1, not '0.1'"),
        ("ot:0.1,,kd:1", "NAME:WEIGHT"),
        ("ot:0.1,", "NAME:WEIGHT"),
        (":1", "NAME:WEIGHT"),
        ("ott:0.1", "there is no regularizer 'ott': did you mean ot?"),
        ("wasserstein:1", "there are ot, identity, uniform"),
        ("ot:0.1,ot:0.2", "given twice"),
        ("ot:much", "is a positive number, not 'much'"),
        ("ot:0", "leave ot out"),
        ("ot:-1", "is a positive number"),
        ("kd:nan", "is a positive number"),
        ("kd:inf", "is a positive number"),
        ("ot:1:2", "is a positive number, not '1:2'"),
        ("none,ot:0.1", "none stands alone"),
        ({"ot": True}, "is a positive number, not True"),
        ({"ot": "x"}, "is a positive number"),
    ],
)
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        parse_regularizer(given)
