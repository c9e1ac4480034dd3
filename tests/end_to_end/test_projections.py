"""Costs between spaces of different width in training: real networks, runs and their resumption."""

import signal
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from fxtransport import Program, transportify
from fxtransport.errors import RunInterruptedError
from fxtransport.ir import Kind
from fxtransport.objectives import Objective, ProjectionCost, lap, trgl
from fxtransport.training import EndToEnd, Parallel, Trainer, TrainerSettings
from tests.cli.running import SMALL, in_process, last_weights
from tests.end_to_end.plain import Net, PostActivation
from tests.training.runs import Signaller, train_stream, trainer_of, validation_stream

METHODS = ("soft-matching", "gromov-wasserstein")
LIBRARIES: dict[str, Callable[[], nn.Module]] = {
    "timm": lambda: timm.create_model("resnet18", num_classes=3),
    "torchvision": lambda: torchvision.models.resnet18(num_classes=3),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_step_of_a_resnet18(library: str) -> None:
    torch.manual_seed(0)
    model = LIBRARIES[library]()
    program = transportify(model, torch.zeros(2, 3, 64, 64), projection_inputs=True, verify=False)
    inputs = [block.input for block in program.facts.blocks if block.kind is Kind.PROJECTION]
    assert [x and x.shape for x in inputs] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    images, targets = torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    whole = program.whole.train()
    plain = whole(images).costs.tolist()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = list[float]()
    for method, pool in ((METHODS[0], "mean"), (METHODS[0], 3), (METHODS[1], "mean")):
        cost = ProjectionCost(method, pool=pool)
        costs = whole(images, measure=cost).costs
        others = [k for k, each in enumerate(program.facts.blocks) if each.input is None]
        assert costs[others].tolist() == pytest.approx([plain[k] for k in others], rel=1e-4)
        objective = lap(0.1, 0.1, 5, cost=cost)
        trainer = Trainer(program, objective, EndToEnd(1), settings=TrainerSettings(seed=0))
        [report] = trainer.step(images, targets).parts
        assert report.transport is not None
        seen.append(report.transport.item())
        assert seen[-1] == pytest.approx(costs.sum().item(), rel=1e-4)
        changed = {
            name for name, value in model.named_parameters() if (value != before[name]).any()
        }
        shortcuts = {name for name, _ in model.named_parameters() if "downsample" in name}
        assert len(shortcuts) == 9
        assert shortcuts <= changed
        model.load_state_dict(before)
    assert len({*seen}) == 3


def program_of() -> Program:
    torch.manual_seed(0)
    net = Net(PostActivation, downsampling=True)
    options = {"modules": 2, "projection_inputs": True, "verify": False}
    return transportify(net, torch.zeros(2, 2, 4, 4), **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("greedy", [False, True])
def test_a_resumed_run_has_the_same_bits(greedy: bool, method: str, tmp_path: Path) -> None:
    cost = ProjectionCost(method, pool=2)

    def trainer(run: Path, *observers: Signaller) -> Trainer:
        objective: Objective = (
            trgl([0.5, 1.0], cost=cost) if greedy else lap(0.5, 0.1, 2, cost=cost)
        )
        schedule = Parallel(2) if greedy else EndToEnd(2)
        return trainer_of(
            schedule, run, program=program_of(), objective=objective, observers=observers
        )

    straight, ended = tmp_path / "straight", tmp_path / "ended"
    trainer(straight).fit(train_stream(), validation_stream())
    with pytest.raises(RunInterruptedError):
        trainer(ended, Signaller(4, signal.SIGTERM)).fit(train_stream(), validation_stream())
    resumed = trainer(ended)
    assert resumed.restore().steps == 4
    resumed.fit(train_stream(), validation_stream())
    one, other = last_weights(straight), last_weights(ended)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


NETWORK = ("nets:cifar_resnet", "--model-arg", "depth=8", "--model-arg", "width=4")
SIZE = ("--input-size", "1,8,8")


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "lap", "--projections", "soft-matching", "--cost-p", "1.5"),
        ("--method", "trgl", "--modules", "3", "--projections", "gromov-wasserstein"),
    ],
)
def test_a_run_of_the_command_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder, again = tmp_path / "run", tmp_path / "again"
    result = in_process(
        "train", *NETWORK, *SIZE, *SMALL, *options, "-n", "1", "--output", str(folder)
    )
    assert result.exit_code == 0, result.stderr
    objective = tomllib.loads((folder / "config.toml").read_text())["objective"]
    assert objective["projections"] == options[options.index("--projections") + 1]
    assert objective["projection_pool"] == "mean"
    resumed = in_process("train", "--resume", str(folder))
    assert resumed.exit_code == 0, resumed.stderr
    evaluated = in_process("evaluate", str(folder))
    assert evaluated.exit_code == 0, evaluated.stderr
    result = in_process("train", "--config", str(folder / "config.toml"), "--output", str(again))
    assert result.exit_code == 0, result.stderr
    one, other = last_weights(folder), last_weights(again)
    assert all(torch.equal(one[name], other[name]) for name in one)
    changed = in_process("train", "--resume", str(folder), "--projection-pool", "2")
    assert changed.exit_code != 0
    assert "would change the run" in changed.stderr


def test_what_the_command_line_refuses(tmp_path: Path) -> None:
    given = ("--output", str(tmp_path / "run"), *SMALL, "-n", "1")
    network = ("nets:resnet_m", "--image-size", "8", "--projections")
    result = in_process("train", *network, "soft-matching", *given)
    assert result.exit_code != 0
    assert "the program has no projection block" in result.stderr
    result = in_process(
        "train", *NETWORK, *SIZE, "--projections", METHODS[1], "--cost-p", "3", *given
    )
    assert result.exit_code != 0
    assert "gromov-wasserstein compares squares only, and p is 3" in result.stderr
