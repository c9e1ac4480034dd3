"""What is written as TOML is read as the same."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxtransport.runs.toml import dumps

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = TEXTS | st.booleans() | st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3)
)


@given(st.dictionaries(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=4), max_size=3))
def test_what_is_written_is_read_as_the_same(tables: dict[str, dict[str, object]]) -> None:
    assert tomllib.loads(dumps(tables)) == tables


def test_none_is_left_out() -> None:
    assert tomllib.loads(dumps({"a": {"b": None, "c": {"d": None}}})) == {"a": {"c": {}}}


def test_what_toml_has_no_way_to_write_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot represent"):
        dumps({"a": {"b": object()}})
