"""Options made of keys: what they set, how they are merged, and what the help says."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from fxtransport.cli.runs.options import TITLES, given, merged
from fxtransport.cli.train import train
from fxtransport.errors import UsageError
from fxtransport.runs.config import KEYS
from tests.cli.conftest import Command


def parsed(*arguments: str) -> dict[str, object]:
    """What options of ``fxtransport train`` set."""
    context = train.make_context("train", [*arguments])
    return given(train, context.params)


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["resnet18", "--lr", "1"], {"optimizer.lr": 1.0}),
        (["-k", "3", "-n", "2"], {"program.modules": 3, "schedule.epochs": 2}),
        (["--equal-weight"], {"program.balance": "weight"}),
        (["--compile"], {"trainer.compile": "inductor"}),
        (["--no-doubled", "--pretrained"], {"objective.doubled": False, "model.pretrained": True}),
        (["--cut", "a", "--cut", "b"], {"program.cuts": ["a", "b"]}),
        (
            ["--model-arg", "a=1", "--model-arg", "b=c"],
            {"model.options": {"a": 1, "b": "c"}},
        ),
        (["--kind", "identity"], {"objective.kinds": ["identity"]}),
    ],
)
def test_options_set_keys(arguments: list[str], values: dict[str, object]) -> None:
    assert parsed(*arguments) == values


def test_two_options_of_one_key() -> None:
    with pytest.raises(UsageError, match="--equal-depth and --equal-weight exclude one another"):
        parsed("--equal-depth", "--equal-weight")


def test_later_layers_win_and_tables_are_merged() -> None:
    table = {"data.mixup": {"mixup_alpha": 0.1, "prob": 1}}
    assert merged(table, {"optimizer.lr": 1}, {"data.mixup": {"prob": 0.5}}) == {
        "data.mixup": {"mixup_alpha": 0.1, "prob": 0.5},
        "optimizer.lr": 1,
    }


def test_every_key_has_its_option_in_its_part_of_the_help(run: Command) -> None:
    shown = run("train", "--help").stdout
    parts = dict(part.split(":\n", 1) for part in shown.split("\n\n") if ":\n" in part)
    for key in KEYS.values():
        for flag in (key.flag.split("/")[0], *key.alone):
            assert not flag or f"{flag} " in parts[TITLES[key.section]] + " ", key.path


def test_the_help_states_published_defaults(run: Command) -> None:
    shown = " ".join(run("train", "--help").stdout.split())
    assert "Learning rate. [default: 0.01 (lap, fixed, e2e), 0.002 (trgl, " in shown
    assert "τ. [default: 0.5 (trgl)]" in shown


def test_help_of_runs_loads_no_torch() -> None:
    code = (
        "import sys\nfrom fxtransport.cli.main import cli\n"
        "for name in ('train', 'evaluate', 'export'):\n"
        "    cli([name, '--help'], standalone_mode=False)\n"
        "print({'torch', 'timm', 'rich', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_values_out_of_range_are_refused_by_name() -> None:
    result = CliRunner().invoke(train, ["x", "--epochs", "0"])
    assert result.exit_code == 2
    assert "'--epochs'" in result.output
