"""The table of keys as a whole."""

import pytest

from fxtransport.runs.keys import DefaultBy, all_keys


@pytest.mark.parametrize("path", all_keys())
def test_every_key_is_reachable(path: str) -> None:
    key = all_keys()[path]
    default = key.default
    while isinstance(default, DefaultBy):
        assert default.path in all_keys()
        default = next(iter(default.values.values()))
    has_option = bool(key.flag or key.short_forms)
    assert has_option != (path == "model.name"), "the model is an argument"


def test_keys_are_in_the_order_of_their_sections() -> None:
    found = [key.section for key in all_keys().values()]
    ordered = ["model", "program", "data", "objective", "transfer"]
    ordered += ["schedule", "optimizer", "trainer"]
    assert list(dict.fromkeys(found)) == ordered
    assert found == sorted(found, key=ordered.index)
