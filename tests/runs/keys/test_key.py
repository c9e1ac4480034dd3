"""What a key is: its section, its option, and defaults by method."""

from fxtransport.runs.keys.key import GREEDY, METHODS, Key, always, by_method, never, only


def test_a_key_is_named_after_its_path() -> None:
    key = Key("data.batch_size", int, "--batch-size/-b", "Samples.")
    assert (key.section, key.parameter, key.option) == ("data", "data_batch_size", "--batch-size")


def test_a_key_without_an_option_is_set_by_its_short_forms_or_its_path() -> None:
    short = {"--compile": ("inductor", "Compile.")}
    assert Key("trainer.compile", str, "", "", short_forms=short).option == "--compile"
    assert Key("model.name", str, "", "The model.").option == "model.name"


def test_defaults_by_method() -> None:
    found = by_method(1, 2)
    assert found.path == "objective.method"
    assert found.values == {name: 1 if name in GREEDY else 2 for name in METHODS}
    assert only(("lap",), 3).values == {"lap": 3}


def test_a_key_changes_what_is_computed_unless_it_says_otherwise() -> None:
    assert not Key("a.b", int, "", "").may_change({})
    assert (always({}), never({})) == (True, False)
