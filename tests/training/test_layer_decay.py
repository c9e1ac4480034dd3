"""Learning rates by layer are those of timm, however a model is cut."""

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from fxtransport import Program, transportify
from fxtransport.errors import UsageError
from fxtransport.objectives import vangl
from fxtransport.training import EndToEnd, OptimizerSettings, Parallel
from fxtransport.training.layer_decay import layer_scales
from fxtransport.training.optimizers import create_optimizer
from tests.training.runs import program_of, trainer_of

DECAY = {"layer_decay": 0.5}


def small_vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=4, embed_dim=32, num_heads=2, num_classes=5
    )


def vit_program(modules: int) -> Program:
    return transportify(small_vit(), torch.zeros(2, 3, 32, 32), modules=modules, verify=False)


def rates(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in module.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize("modules", [1, 3])
@pytest.mark.parametrize("scheduler", ["cosine", "none"])
def test_parts_have_the_rates_that_timm_gives_the_model(modules: int, scheduler: str) -> None:
    model = small_vit()
    timms = create_optimizer_v2(
        model, opt="momentum", lr=0.1, weight_decay=0.01, layer_decay=0.5, layer_decay_min_scale=0.1
    )
    for group in timms.param_groups:
        # as timm's schedules do at the beginning
        group["lr"] = 0.1 * group["lr_scale"]
    expected = rates(model, timms)
    settings = OptimizerSettings(
        lr=0.1,
        weight_decay=0.01,
        options={**DECAY, "layer_decay_min_scale": 0.1},
        scheduler=scheduler,
    )
    program = vit_program(modules)
    schedule = Parallel(2) if modules > 1 else EndToEnd(2)
    trainer = trainer_of(schedule, program=program, objective=vangl(), optimizer=settings)
    found: dict[str, tuple[float, float]] = {}
    for learner in trainer._engine.state.learners.values():
        found |= rates(program, learner.optimizer)
        assert learner.lr == 0.1
    heads = {name for name in found if name.startswith("auxiliary_heads.")}
    assert {found[name][0] for name in heads} <= {0.1}
    assert {*found} - heads == {*expected}
    for name, numbers in expected.items():
        assert found[name] == pytest.approx(numbers), name


def test_without_it_nothing_is_scaled() -> None:
    assert layer_scales(program_of(), OptimizerSettings()) is None
    program = vit_program(2)
    optimizer = create_optimizer(program.parts[0], OptimizerSettings())
    assert all("lr_scale" not in group for group in optimizer.param_groups)


def test_a_model_that_does_not_say_what_its_layers_are() -> None:
    with pytest.raises(UsageError, match="layer_decay needs a model of timm, and SmallNet has no"):
        trainer_of(EndToEnd(1), optimizer=OptimizerSettings(options=DECAY))


@pytest.mark.parametrize("decay", [0, 1.5, "x"])
def test_what_is_no_factor(decay: object) -> None:
    with pytest.raises(UsageError, match=r"layer_decay is .* must be above 0"):
        layer_scales(program_of(), OptimizerSettings(options={"layer_decay": decay}))
