"""Keys of programs follow from what the passes declare."""

from fxtransport.passes.pipeline import program_settings
from fxtransport.runs.keys.program import SET_ELSEWHERE, program_keys, setting_keys


def test_every_option_of_programs_has_a_key_of_its_help_and_range() -> None:
    settings = program_settings()
    assert setting_keys().keys() == settings.keys()
    for name, key in setting_keys().items():
        assert key.help == settings[name].how.help
        assert key.least == settings[name].how.least
        assert set(key.choices) <= set(settings[name].choices)


def test_training_has_all_of_them_but_those_that_data_and_objective_say() -> None:
    names = {key.path.removeprefix("program.") for key in program_keys()}
    assert names == {*program_settings()} - {*SET_ELSEWHERE} | {"blockwise", "fit", "verify"}


def test_parts_that_train_have_heads() -> None:
    assert setting_keys()["head"].choices == (
        "auto",
        "conv",
        "token",
        "dgl",
        "dgl_conv",
        "none",
    )
    [head] = [key for key in program_keys() if key.path == "program.head"]
    assert head.choices == ("auto", "conv", "token", "dgl", "dgl_conv")


def test_equal_weight_is_short_for_activations() -> None:
    meant = {flag: value for flag, (value, _) in setting_keys()["balance"].short_forms.items()}
    assert meant == {"--equal-depth": "depth", "--equal-weight": "activations"}
