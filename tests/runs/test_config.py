"""The configuration of a run: defaults, layers, checks, and the round trip through its file."""

from pathlib import Path
from typing import Any

import pytest

from fxtransport.cli.runs.options import merged
from fxtransport.errors import UsageError
from fxtransport.runs.config import KEYS, parse_assignments, parse_pair, read, read_run, resolved
from fxtransport.runs.keys import METHODS, By

MODEL = {"model.name": "resnet18"}


@pytest.mark.parametrize("method", METHODS)
def test_the_file_of_a_configuration_is_read_as_the_same(method: str, tmp_path: Path) -> None:
    config = resolved(
        {
            **MODEL,
            "objective.method": method,
            "model.options": {"drop_rate": 0.1, "act_layer": 'a "b"\n'},
            "data.augmentation": {"scale": [0.8, 1]},
        }
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert read_run(tmp_path) == config


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        # LAP for CIFAR10, TRGL for STL10
        ("lap", "objective.lambda0", 0.1),
        ("lap", "objective.every", 50),
        ("lap", "optimizer.lr", 0.01),
        ("lap", "schedule.name", "end-to-end"),
        ("lap", "program.modules", 1),
        ("lap", "objective.tau", None),
        ("trgl", "objective.tau", 0.5),
        ("trgl", "objective.doubled", True),
        ("trgl", "optimizer.lr", 0.002),
        ("trgl", "data.batch_size", 64),
        ("trgl", "program.modules", 4),
        ("trgl-multipliers", "objective.lambda_rate", 1.0),
        ("vangl", "objective.p", None),
        ("vangl", "schedule.name", "parallel"),
        ("e2e", "objective.label_smoothing", 0.0),
    ],
)
def test_published_settings_are_the_defaults(method: str, path: str, value: Any) -> None:
    assert resolved({**MODEL, "objective.method": method}).get(path) == value


def test_defaults_follow_what_they_depend_on() -> None:
    config = resolved({"schedule.name": "multi-lap", "model.init": "orthogonal"})
    assert config["schedule.laps"] == 5
    assert config["program.modules"] == 4
    assert config["model.gain"] == 0.01
    greedy = resolved({"objective.method": "vangl", "model.init": "orthogonal"})
    assert greedy["model.gain"] == 0.1
    assert resolved(MODEL).get("model.gain") is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"objective.tau": 1.0}, "--tau has no meaning where objective.method is lap"),
        ({"schedule.laps": 2}, "--laps has no meaning where schedule.name is end-to-end"),
        ({"model.gain": 1.0}, "--gain has no meaning where model.init is not set"),
        ({"program.modules": 3}, "end-to-end training has no modules"),
        ({"program.blockwise": True}, "end-to-end training has no modules"),
        ({"objective.method": "e2e", "schedule.name": "parallel"}, "take vangl"),
        (
            {"schedule.name": "parallel", "program.blockwise": True, "program.modules": 3},
            "follows from --blockwise or --cut",
        ),
        (
            {"schedule.name": "parallel", "program.blockwise": True, "program.cuts": ["a"]},
            "--blockwise and --cut exclude one another",
        ),
        ({"optimizer.lr": "fast"}, "optimizer.lr is a number, not 'fast'"),
        ({"optimizer.lr": float("nan")}, "optimizer.lr is a number, not nan"),
        ({"optimizer.lr": -1}, "optimizer.lr is at least 0, not -1.0"),
        ({"trainer.seed": True}, "trainer.seed is a whole number, not True"),
        ({"trainer.amp": "fp8"}, "trainer.amp is one of bf16, fp16, not 'fp8'"),
        ({"objective.kinds": ["identity", "x"]}, "not 'x'"),
        ({"program.cuts": [1]}, "program.cuts is a list of texts"),
        ({"model.options": 1}, "model.options is a table, not 1"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolved(values)
    assert words in str(raised.value)


def test_whole_numbers_are_numbers() -> None:
    assert resolved({"optimizer.lr": 1})["optimizer.lr"] == 1.0


@pytest.mark.parametrize("path", KEYS)
def test_every_key_is_reachable(path: str) -> None:
    key = KEYS[path]
    by = key.default
    while isinstance(by, By):
        assert by.path in KEYS
        by = next(iter(by.values.values()))
    assert key.flag or key.alone or path == "model.name"


def test_a_file_and_what_is_set_later(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[optimizer]\nlr = 0.5\noptions = { nesterov = true, a = 1 }\n")
    later = parse_assignments(["optimizer.lr=0.25", "optimizer.options.a=2"])
    config = resolved(merged(read(file), later))
    assert config["optimizer.lr"] == 0.25
    assert config["optimizer.options"] == {"nesterov": True, "a": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optimiser]\nlr = 1\n", "there is no key 'optimiser.lr': did you mean optimizer.lr?"),
        ("[trainer]\nlr = 1\n", "did you mean optimizer.lr?"),
        ("lr = 1\n", "lr stands outside of a section"),
        ("[a\n", "is no TOML"),
        ("\udcff", "is no TOML"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError) as raised:
        read(file)
    assert words in str(raised.value)
    assert str(file) in str(raised.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "no.toml")
    with pytest.raises(UsageError, match="holds no run of fxtransport train"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a=1", ("a", 1)),
        ("a=1e-3", ("a", 1e-3)),
        ("a=true", ("a", True)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=rand-m9-mstd0.5", ("a", "rand-m9-mstd0.5")),
        ("a=", ("a", "")),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_values_are_of_toml_or_texts(text: str, pair: tuple[str, Any]) -> None:
    assert parse_pair(text) == pair


@pytest.mark.parametrize("text", ["a", "=1", ""])
def test_pairs_without_a_name_or_a_value(text: str) -> None:
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        parse_pair(text)


def test_a_key_of_texts_takes_any_word() -> None:
    assert parse_assignments(["data.root=1e3"]) == {"data.root": "1e3"}


def test_a_run_goes_on_with_what_does_not_change_its_numbers() -> None:
    config = resolved(MODEL)
    changed = config.with_changes({"data.num_workers": 2, "optimizer.lr": 0.01}, "run")
    assert changed["data.num_workers"] == 2
    assert changed["optimizer.lr"] == config["optimizer.lr"]


def test_processes_that_shuffle_shards_are_as_many_to_the_end() -> None:
    config = resolved({**MODEL, "data.name": "wds/photos", "data.root": "shards"})
    with pytest.raises(UsageError, match="--workers 2 would change the run in here, where it is 0"):
        config.with_changes({"data.num_workers": 2}, "here")
    assert config.with_changes({"data.num_workers": 0}, "here") == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer.lr": 0.5}, "--lr 0.5 would change the run in here, where it is 0.01"),
        ({"trainer.ema": 0.9}, "where it is not set"),
        ({"model.name": "resnet34"}, "where it is resnet18"),
        ({"schedule.epochs": 20}, "begin another run with --output"),
    ],
)
def test_a_run_goes_on_with_the_same_numbers(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolved(MODEL).with_changes(changes, "here")
    assert words in str(raised.value)
