"""Options made of keys: what they set, and what the help says."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from fxtransport.cli.options import (
    REPLACED,
    TITLES,
    implied_values,
    name_set_options,
    option_values,
)
from fxtransport.cli.split import split
from fxtransport.cli.train import train
from fxtransport.errors import UsageError
from fxtransport.passes.pipeline import program_settings
from fxtransport.runs.keys import Key, all_keys
from tests.cli.running import Command


def parsed(*arguments: str) -> dict[str, object]:
    """What options of ``fxtransport train`` set."""
    context = train.make_context("train", [*arguments])
    return option_values(train, context.params)


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["resnet18", "--lr", "1"], {"optimizer.lr": 1.0}),
        (["-k", "3", "-n", "2"], {"program.modules": 3, "schedule.epochs": 2}),
        (["--equal-weight"], {"program.balance": "activations"}),
        (["--balance", "flops"], {"program.balance": "flops"}),
        (["--equal-weight", "--balance", "activations"], {"program.balance": "activations"}),
        (["--image-size", "32x48"], {"model.input_size": "32x48"}),
        (["--tau", "0.5,1"], {"objective.tau": "0.5,1"}),
        (["--head-width", "64"], {"program.head_width": 64}),
        (["--compile"], {"trainer.compile": "inductor"}),
        (["--no-verify", "--pretrained"], {"program.verify": False, "model.pretrained": True}),
        (["--cut", "a", "--cut", "b"], {"program.cuts": ["a", "b"]}),
        (
            ["--model-arg", "a=1", "--model-arg", "b=c"],
            {"model.options": {"a": 1, "b": "c"}},
        ),
        (["--kind", "identity"], {"objective.kinds": ["identity"]}),
        (["--clip-grad", "1"], {"trainer.grad_clip": 1.0}),
        (["--img-size", "64"], {"model.input_size": "64"}),
        (["--smoothing", "0.1"], {"objective.label_smoothing": 0.1}),
        (["--amp"], {"trainer.amp": "auto"}),
        (["--amp", "--lr", "1"], {"trainer.amp": "auto", "optimizer.lr": 1.0}),
        (["--amp", "resnet18"], {"trainer.amp": "auto"}),
        (["--amp", "fp16"], {"trainer.amp": "fp16"}),
        (["--mixup", "0.2"], {"data.mixup": {"mixup_alpha": 0.2}}),
        (
            ["--mixup", "0.2", "--cutmix", "1.0", "--mixup", "prob=0.5"],
            {"data.mixup": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "prob": 0.5}},
        ),
        (
            ["--val-split", "val", "--data-arg", "train_split=train"],
            {"data.options": {"validation_split": "val", "train_split": "train"}},
        ),
        (
            ["--drop-path", "0.1", "--drop", "0.2"],
            {"model.options": {"drop_path_rate": 0.1, "drop_rate": 0.2}},
        ),
        (
            ["--warmup-epochs", "5", "--min-lr", "1e-5"],
            {"optimizer.scheduler_options": {"warmup_epochs": 5, "min_lr": 1e-5}},
        ),
        (["--aa", "rand-m9"], {"data.augmentation": {"auto_augment": "rand-m9"}}),
    ],
)
def test_options_set_keys(arguments: list[str], values: dict[str, object]) -> None:
    assert parsed(*arguments) == values


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--equal-depth", "--equal-weight"], "--equal-depth and --equal-weight contradict"),
        (["--equal-weight", "--balance", "flops"], "--balance flops and --equal-weight contradict"),
        (["--mixup", "mixup_alpha=1", "--mixup", "x"], "a number or KEY=VALUE, not 'x'"),
        (
            ["--drop-path", "0.1", "--model-arg", "drop_path_rate=0.2"],
            r"--model-arg drop_path_rate=0.2 and --drop-path 0.1 contradict",
        ),
    ],
)
def test_options_that_contradict_one_another(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["--mixup", "0.2"], {}),
        (["--cutmix", "1"], {"data.mixup": {"mixup_alpha": 0.0}}),
    ],
)
def test_cutmix_alone_is_without_mixup(arguments: list[str], values: dict[str, object]) -> None:
    context = train.make_context("train", arguments)
    assert implied_values(train, context.params) == values


@pytest.mark.parametrize(("old", "new"), REPLACED.items())
def test_options_that_were_replaced_say_by_what(run: Command, old: str, new: str) -> None:
    result = run("train", "resnet18", old)
    assert result.exit_code == 2
    assert f"the option {old} has been replaced: use {new}\n" in result.stderr


def test_every_option_of_programs_is_one_of_split() -> None:
    context = split.make_context("split", ["resnet18"])
    for name, setting in program_settings().items():
        assert f"program_{name}" in context.params
        flags = (setting.how.flag or f"--{name.replace('_', '-')}").split("/")
        assert any(set(flags) <= {*option.opts} for option in split.params), name


def test_what_is_not_set_by_default_says_what_it_is_for() -> None:
    [option] = [x for x in train.params if "--projections" in x.opts]
    assert isinstance(option, click.Option)
    assert (option.help or "").endswith("[for lap, fixed, trgl, trgl-multipliers]")


def test_errors_name_the_options_that_were_given() -> None:
    with (
        pytest.raises(UsageError) as raised,
        name_set_options(all_keys(), ["objective.tau", "program.modules"]),
    ):
        raise UsageError("objective.tau has no meaning where objective.method is lap")
    assert str(raised.value) == "--tau has no meaning where objective.method is lap"


def sections(shown: str) -> dict[str, str]:
    """The sections of a help text by their titles."""
    return dict(part.split(":\n", 1) for part in shown.split("\n\n") if ":\n" in part)


def keys_of(command: str) -> list[Key]:
    """The keys that a command has options for; a teacher is given to transfer alone."""
    return [k for k in all_keys().values() if command == "transfer" or k.section != "transfer"]


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_every_key_has_its_option_in_its_section_of_the_whole_help(
    run: Command, command: str
) -> None:
    found = sections(run(command, "--help-all").stdout)
    for key in keys_of(command):
        flags = {key.flag.split("/")[0], *key.short_forms} - {""}
        assert flags <= set(found[TITLES[key.section]].replace(",", "").split()), key.path


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_the_help_shows_the_basic_options_alone(run: Command, command: str) -> None:
    shown = run(command, "--help").stdout
    found = sections(shown)
    basic = [key for key in keys_of(command) if key.basic]
    hidden = [key for key in keys_of(command) if not key.basic]
    for key in basic:
        assert key.flag.split("/")[0] in found[TITLES[key.section]]
    words = shown.split()
    assert not [key.path for key in hidden if key.flag and key.flag.split("/")[0] in words]
    count = sum(bool(k.flag) + len(k.short_forms) + len(k.entries) for k in hidden)
    assert f"fxtransport {command} --help-all shows {count} more options." in shown


def test_the_help_states_published_defaults(run: Command) -> None:
    shown = " ".join(run("train", "--help").stdout.split())
    assert "Learning rate. [default: 0.01 (lap, fixed, e2e), 0.002 (trgl, " in shown
    assert "evenly over the parts. [default: 0.5,1 (trgl)]" in shown


@pytest.mark.parametrize(
    "name",
    [
        "evaluate",
        "export",
        "models",
        "train",
        "split",
    ],
)
def test_help_loads_no_torch(name: str) -> None:
    code = (
        "import sys\nfrom fxtransport.cli.main import cli\n"
        f"cli([{name!r}, '--help'], standalone_mode=False)\n"
        "print({'torch', 'timm', 'rich', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_values_out_of_range_are_refused_by_name() -> None:
    result = CliRunner().invoke(train, ["x", "--epochs", "0"])
    assert result.exit_code == 2
    assert "'--epochs'" in result.output
