"""The configuration of a run: defaults, layers, checks, and the round trip through its file."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fxtransport.errors import UsageError
from fxtransport.runs.config import (
    RENAMED,
    complete_config,
    merge_values,
    parse_assignments,
    parse_pair,
    read_config,
)
from fxtransport.runs.keys import METHODS

MODEL = {"model.name": "resnet18"}


@pytest.mark.parametrize("method", METHODS)
def test_the_file_of_a_configuration_is_read_as_the_same(method: str, tmp_path: Path) -> None:
    config = complete_config(
        {
            **MODEL,
            "objective.method": method,
            "model.options": {"drop_rate": 0.1, "act_layer": 'a "b"\n'},
            "data.augmentation": {"scale": [0.8, 1]},
        }
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert complete_config(read_config(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        # LAP for CIFAR10, TRGL for STL10
        ("lap", "objective.lambda0", 0.1),
        ("lap", "objective.update_every", 50),
        ("lap", "optimizer.lr", 0.01),
        ("lap", "schedule.name", "end-to-end"),
        ("lap", "program.modules", 1),
        ("lap", "objective.tau", None),
        ("trgl", "objective.tau", [0.5, 1.0]),
        ("fixed", "objective.lambda0", 0.04),
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
    assert complete_config({**MODEL, "objective.method": method}).get(path) == value


def test_defaults_follow_what_they_depend_on() -> None:
    config = complete_config({"schedule.name": "multi-lap", "model.init": "orthogonal"})
    assert config["schedule.laps"] == 5
    assert config["program.modules"] == 4
    assert config["model.gain"] == 0.01
    greedy = complete_config({"objective.method": "vangl", "model.init": "orthogonal"})
    assert greedy["model.gain"] == 0.1
    assert complete_config(MODEL).get("model.gain") is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"objective.tau": 1.0}, "objective.tau has no meaning where objective.method is lap"),
        ({"schedule.laps": 2}, "schedule.laps has no meaning where schedule.name is end-to-end"),
        (
            {"trainer.offload": "frozen", "schedule.name": "parallel", "objective.method": "trgl"},
            "trainer.offload has no meaning where schedule.name is parallel: it goes with "
            "sequential, multi-lap",
        ),
        (
            {"trainer.offload_to": "disk", "schedule.name": "sequential"},
            "trainer.offload_to has no meaning where trainer.offload is not set: it goes with "
            "frozen",
        ),
        ({"model.gain": 1.0}, "model.gain has no meaning where model.init is not set"),
        ({"program.modules": 3}, "end-to-end training trains the program as one part"),
        ({"program.blockwise": True}, "end-to-end training trains the program as one part"),
        ({"objective.method": "e2e", "schedule.name": "parallel"}, "take vangl"),
        (
            {"schedule.name": "parallel", "program.blockwise": True, "program.modules": 3},
            "follows from program.blockwise or program.cuts",
        ),
        (
            {"schedule.name": "parallel", "program.blockwise": True, "program.cuts": ["a"]},
            "program.blockwise and program.cuts are mutually exclusive",
        ),
        ({"optimizer.lr": "fast"}, "optimizer.lr is a number, not 'fast'"),
        ({"optimizer.lr": float("nan")}, "optimizer.lr is a number, not nan"),
        ({"optimizer.lr": -1}, "optimizer.lr is at least 0, not -1.0"),
        ({"trainer.seed": True}, "trainer.seed is a whole number, not True"),
        ({"trainer.amp": "fp8"}, "trainer.amp is one of auto, bf16, fp16, not 'fp8'"),
        ({"objective.kinds": ["identity", "x"]}, "not 'x'"),
        ({"objective.projections": "emd"}, "one of soft-matching, gromov-wasserstein, not 'emd'"),
        (
            {"objective.method": "e2e", "objective.projections": "soft-matching"},
            "objective.projections has no meaning where objective.method is e2e",
        ),
        (
            {"objective.projection_pool": "mean"},
            "objective.projection_pool has no meaning where objective.projections is not set",
        ),
        (
            {"objective.projections": "soft-matching", "objective.projection_pool": "max"},
            "objective.projection_pool: pool is 'mean', 'none' or a number of positions",
        ),
        ({"program.cuts": [1]}, "program.cuts is a list of texts"),
        ({"model.options": 1}, "model.options is a table, not 1"),
        ({"model.input_size": "32x"}, "model.input_size: '32x' is not a valid size of an input"),
        ({"objective.method": "trgl", "objective.tau": "a"}, "objective.tau: write a number"),
        ({"objective.method": "trgl", "objective.tau": [True]}, "tau is a list of numbers"),
        ({"objective.method": "trgl", "objective.tau": "nan"}, "tau is a list of numbers"),
        (
            {"program.head": "none"},
            "program.head is one of auto, conv, token, dgl, dgl_conv, not 'none'",
        ),
        (
            {"program.balance": "weight"},
            "depth, activations, parameters, flops, memory, not 'weight'",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        complete_config(values)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value", "stored"),
    [
        ("model.input_size", 32, "32"),
        ("model.input_size", [3, 32, 48], "3,32,48"),
        ("model.input_size", "32x48", "32x48"),
        ("objective.tau", 2, [2.0]),
        ("objective.tau", "0.5,1", [0.5, 1.0]),
        ("objective.tau", [1, 2.5], [1.0, 2.5]),
    ],
)
def test_values_in_several_forms_are_stored_in_one(path: str, value: Any, stored: Any) -> None:
    assert complete_config({"objective.method": "trgl", path: value})[path] == stored


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_keys_of_earlier_versions_say_what_replaces_them(old: str, new: str) -> None:
    with pytest.raises(UsageError, match=f"the key '{old}' has been replaced: use {new}"):
        parse_assignments([f"{old}=1"])


def test_later_layers_win_and_tables_are_merged() -> None:
    table = {"data.mixup": {"mixup_alpha": 0.1, "prob": 1}}
    assert merge_values(table, {"optimizer.lr": 1}, {"data.mixup": {"prob": 0.5}}) == {
        "data.mixup": {"mixup_alpha": 0.1, "prob": 0.5},
        "optimizer.lr": 1,
    }


def test_whole_numbers_are_numbers() -> None:
    assert complete_config({"optimizer.lr": 1})["optimizer.lr"] == 1.0


def test_a_file_and_what_is_set_later(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[optimizer]\nlr = 0.5\noptions = { nesterov = true, a = 1 }\n")
    later = parse_assignments(["optimizer.lr=0.25", "optimizer.options.a=2"])
    config = complete_config(merge_values(read_config(file), later))
    assert config["optimizer.lr"] == 0.25
    assert config["optimizer.options"] == {"nesterov": True, "a": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optimiser]\nlr = 1\n", "there is no key 'optimiser.lr': did you mean optimizer.lr?"),
        ("[trainer]\nlr = 1\n", "did you mean optimizer.lr?"),
        ("lr = 1\n", "lr is not in a section"),
        ("[a\n", "is not valid TOML"),
        ("\udcff", "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError) as raised:
        read_config(file)
    assert words in str(raised.value)
    assert str(file) in str(raised.value)


def test_tables_of_what_was_found_set_nothing(tmp_path: Path) -> None:
    config = complete_config(MODEL)
    splits = {"train": {"origin": "from the set", "samples": 3, "classes": 2}}
    history = {"changes": [{"epochs": 1, "optimizer.lr": ["0.1", "0.2"]}]}
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml({"splits": splits, "history": history}))
    assert tomllib.loads(path.read_text())["splits"] == splits
    assert tomllib.loads(path.read_text())["history"] == history
    assert complete_config(read_config(path)) == config


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a=1", ("a", 1)),
        ("a=1e-3", ("a", 1e-3)),
        ("a=true", ("a", True)),
        ("a=True", ("a", True)),
        ("a= False ", ("a", False)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=rand-m9-mstd0.5", ("a", "rand-m9-mstd0.5")),
        ("a=", ("a", "")),
        ("a=0.5,1", ("a", [0.5, 1])),
        ("a=-1, 2e-3", ("a", [-1, 2e-3])),
        ("a=1,b", ("a", "1,b")),
        ("a=1,", ("a", "1,")),
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
    config = complete_config(MODEL)
    changed = config.with_changes({"data.num_workers": 2, "optimizer.lr": 0.01}, "run")
    assert changed["data.num_workers"] == 2
    assert changed["optimizer.lr"] == config["optimizer.lr"]


def test_processes_that_shuffle_shards_are_as_many_to_the_end() -> None:
    config = complete_config({**MODEL, "data.name": "wds/photos", "data.root": "shards"})
    with pytest.raises(UsageError, match="num_workers 2 would change the run in here"):
        config.with_changes({"data.num_workers": 2}, "here")
    assert config.with_changes({"data.num_workers": 0}, "here") == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer.lr": 0.5}, "optimizer.lr 0.5 would change the run in here, where it is 0.01"),
        ({"trainer.ema": 0.9}, "where it is not set"),
        ({"model.name": "resnet34"}, "where it is resnet18"),
        ({"schedule.epochs": 20}, "begin another run in another folder"),
    ],
)
def test_a_run_goes_on_with_the_same_numbers(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        complete_config(MODEL).with_changes(changes, "here")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schedule.epochs", 10**29),
        ("data.batch_size", 2**31),
        ("trainer.seed", 2**63),
        ("trainer.grad_clip", 1e300),
        ("model.options", {"blocks": 10**29}),
        ("model.options", {"widths": [1, {"a": -(10**29)}]}),
    ],
)
def test_huge_numbers_are_refused(path: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{path} is at most ") as raised:
        complete_config({**MODEL, path: value})
    assert len(str(raised.value)) < 200


def test_large_numbers_are_not_huge() -> None:
    large = {"trainer.seed": 2**63 - 1, "model.options": {"a": 2**31 - 1}}
    config = complete_config({**MODEL, **large})
    assert config["trainer.seed"] == 2**63 - 1


@pytest.mark.parametrize("given", ["3,0", [3, 0]])
def test_counts_of_blocks(given: Any, tmp_path: Path) -> None:
    values = {**MODEL, "objective.method": "trgl", "program.modules": 2}
    config = complete_config({**values, "trainer.checkpoint_blocks": given})
    assert config["trainer.checkpoint_blocks"] == [3, 0]
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert complete_config(read_config(tmp_path / "config.toml")) == config
    # each of the two keys takes the place of the other when a run goes on
    every = config.with_changes({"trainer.checkpoint_activations": True}, "run")
    assert every.get("trainer.checkpoint_blocks") is None
    none = every.with_changes({"trainer.checkpoint_blocks": "0,0"}, "run")
    assert none["trainer.checkpoint_blocks"] == [0, 0]
    assert not none["trainer.checkpoint_activations"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainer.checkpoint_blocks": "3,-1"}, "write a whole number for each part"),
        ({"trainer.checkpoint_blocks": [0.5]}, "a list of numbers, not .0.5."),
        (
            {"trainer.checkpoint_blocks": [1], "trainer.checkpoint_activations": True},
            "leave one of the two out",
        ),
        ({"trainer.checkpoint_blocks": [1], "program.fit": "1GiB"}, "program.fit chooses how many"),
    ],
)
def test_counts_of_blocks_that_have_no_meaning(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        complete_config({**MODEL, **values})
