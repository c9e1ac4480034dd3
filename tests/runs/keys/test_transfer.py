"""The keys of the teacher: texts and tables are one value, and which may change."""

from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.runs.keys.transfer import KEYS

BY_NAME = {key.path.removeprefix("transfer."): key for key in KEYS}


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("regularizer", "ot:0.1,kd:2", {"ot": 0.1, "kd": 2.0}),
        ("regularizer", {"ot": 0.1}, {"ot": 0.1}),
        ("regularizer", "none", {}),
        ("layers", "auto", "auto"),
        ("layers", "a = b, c=d", "a=b,c=d"),
        ("layers", {"a": "b", "c": "d"}, "a=b,c=d"),
        ("pool", 4, "4"),
        ("pool", "none", "none"),
    ],
)
def test_what_is_read(name: str, given: Any, value: Any) -> None:
    read = BY_NAME[name].read
    assert read is not None
    assert read(given) == value
    assert read(read(given) or "none") == value


@pytest.mark.parametrize(
    ("name", "given"), [("regularizer", "o:1"), ("layers", "last"), ("pool", "max"), ("pool", 0)]
)
def test_what_is_refused(name: str, given: Any) -> None:
    read = BY_NAME[name].read
    assert read is not None
    with pytest.raises(UsageError):
        read(given)


def test_where_the_teacher_is_may_change_but_not_what_it_is_for() -> None:
    values = {"transfer.cache": "here"}
    assert {name for name, key in BY_NAME.items() if key.may_change(values)} == {"teacher", "cache"}
    assert not BY_NAME["cache"].may_change({})
