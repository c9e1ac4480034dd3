"""timm's optimizers and schedules, one of each for every part, with timm's own rules."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.objectives import lap
from fxtransport.training import EndToEnd, OptimizerSettings, Trainer
from fxtransport.training.flatten import Flattened
from fxtransport.training.optimizers import (
    create_optimizer,
    create_scheduler,
    take_over,
    try_change,
    try_optimizer,
)
from tests.training.runs import program_of

SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ("cosine", {"warmup_epochs": 2, "min_lr": 1e-4}),
    ("cosine", {"noise": [0.5, 0.9]}),
    ("tanh", {}),
    ("step", {"decay_epochs": 3}),
    ("multistep", {"decay_milestones": [2, 5], "decay_rate": 0.2}),
    ("poly", {}),
    ("wsd", {}),
    ("constant", {"warmup_epochs": 2}),
    ("cosine", {"step_on_epochs": False, "updates_per_epoch": 4}),
]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            OptimizerSettings(options={"dampening": "x"}),
            "'momentum' with .*dampening.* cannot make a step",
        ),
        (OptimizerSettings(options={"nesterov": "x"}), "nesterov is true or false, not 'x'"),
        (OptimizerSettings(options={"foreach": 1}), "foreach is true or false, not 1"),
        (
            OptimizerSettings(scheduler="step", scheduler_options={"decay_epochs": "x"}),
            "'step' with .*decay_epochs.* cannot",
        ),
        (
            OptimizerSettings(scheduler="multistep", scheduler_options={"decay_milestones": "x"}),
            "'multistep' with .*decay_milestones.* cannot",
        ),
    ],
)
def test_what_fails_at_a_step_is_refused_before_the_run(
    settings: OptimizerSettings, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        try_optimizer(settings, 3)
    with pytest.raises(UsageError, match=message):
        Trainer(program_of(), lap(1.0, 0.1, 5), EndToEnd(1), optimizer=settings, run=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "muon", "adafactor", "lamb"])
def test_a_trial_changes_no_generator(optimizer: str, name: str, options: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    try_optimizer(OptimizerSettings(optimizer, scheduler=name, scheduler_options=options), 10)
    assert torch.equal(before, torch.get_rng_state())


def test_weight_decay_follows_timm() -> None:
    part = program_of().parts[0]
    optimizer = create_optimizer(part, OptimizerSettings(weight_decay=0.1))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    named = {id(p): name for name, p in part.named_parameters()}
    assert {named[p] for p in decayed} == {n for n, p in part.named_parameters() if p.ndim > 1}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(named)
    assert any("auxiliary_head" in named[p] for p in decayed)


def test_what_the_model_wants_undecayed_is_not_decayed() -> None:
    model: Any = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
    program = transportify(model, torch.zeros(2, 3, 32, 32), modules=2, verify=False)
    assert program.no_weight_decay() == model.no_weight_decay()
    named = dict(program.parts[0].named_parameters())
    optimizer = create_optimizer(program.parts[0], OptimizerSettings(weight_decay=0.1))
    undecayed = [p for g in optimizer.param_groups if not g["weight_decay"] for p in g["params"]]
    assert {id(named["pos_embed"]), id(named["cls_token"])} <= {id(p) for p in undecayed}


def test_each_part_has_its_own_parameters() -> None:
    program = program_of()
    groups = [create_optimizer(part, OptimizerSettings()).param_groups for part in program.parts]
    found = [p for group in groups for g in group for p in g["params"]]
    assert {id(p) for p in found} == {id(p) for p in program.parameters()}
    assert len(found) == len(list(program.parameters()))


@pytest.mark.parametrize(
    ("name", "kind"), [("momentum", torch.optim.SGD), ("adamw", torch.optim.AdamW)]
)
def test_names_and_options_are_timms(name: str, kind: type) -> None:
    settings = OptimizerSettings(name, lr=0.5, momentum=0.7, options={"eps": 1e-3})
    optimizer = create_optimizer(nn.Linear(2, 2), settings)
    assert isinstance(optimizer, kind)
    assert optimizer.param_groups[0]["lr"] == 0.5
    if name == "momentum":
        assert optimizer.param_groups[0]["momentum"] == 0.7
        assert not optimizer.param_groups[0]["nesterov"]
    else:
        assert optimizer.param_groups[0]["eps"] == 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (OptimizerSettings("sdg"), r"cannot make the optimizer 'sdg': .*did you mean .*sgd.*\?"),
        (OptimizerSettings(options={"nesterow": True}), "nesterow"),
        (OptimizerSettings("adahessian"), "second derivatives"),
    ],
)
def test_optimizers_that_cannot_be_made(settings: OptimizerSettings, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_optimizer(nn.Linear(2, 2), settings)


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
def test_a_schedule_is_saved_and_goes_on(name: str, options: dict[str, Any]) -> None:
    settings = OptimizerSettings(lr=0.5, scheduler=name, scheduler_options=options)

    def rates(resumed_at: int | None) -> list[float]:
        part, found = nn.Linear(2, 2), []
        optimizer = create_optimizer(part, settings)
        scheduler = create_scheduler(optimizer, settings, 10)
        assert scheduler is not None
        for epoch in range(10):
            if epoch == resumed_at:
                state = Flattened([optimizer.state_dict(), scheduler.state_dict()])
                assert not state.tensors
                kept = optimizer.state_dict(), scheduler.state_dict()
                optimizer = create_optimizer(part, settings)
                scheduler = create_scheduler(optimizer, settings, 10)
                assert scheduler is not None
                optimizer.load_state_dict(kept[0])
                scheduler.load_state_dict(kept[1])
            found.append(float(optimizer.param_groups[0]["lr"]))
            for update in range(4):
                scheduler.step_update(4 * epoch + update + 1)
            scheduler.step(epoch + 1)
        return found

    assert rates(None) == rates(resumed_at=4)
    assert len(set(rates(None))) > 1


def test_no_schedule_is_a_constant_rate() -> None:
    settings = OptimizerSettings()
    optimizer = create_optimizer(nn.Linear(2, 2), settings)
    assert create_scheduler(optimizer, settings, 10) is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, r"cannot make the scheduler 'cosin': .*; did you mean cosine\?"),
        ("cosine", {"warmup_epochs": 11}, "rise for 11 epochs, and a part trains 10: .* fewer"),
        ("plateau", {}, "cannot be resumed"),
        ("cosine", {"min_rl": 0.1}, "min_rl"),
        ("cosine", {"step_on_epochs": False}, "needs updates_per_epoch"),
        ("cosine", {"cooldown_epochs": 5}, "lasts 15 epochs, and a part trains 10"),
        ("cosine", {"warmup_epochs": 5, "warmup_prefix": True}, "lasts 15 epochs"),
        ("cosine", {"cycle_limit": 2}, "lasts 20 epochs"),
    ],
)
def test_schedules_that_cannot_be_used(name: str, options: dict[str, Any], message: str) -> None:
    settings = OptimizerSettings(scheduler=name, scheduler_options=options)
    optimizer = create_optimizer(nn.Linear(2, 2), settings)
    with pytest.raises(UsageError, match=message):
        create_scheduler(optimizer, settings, 10)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (OptimizerSettings("momentum", options={"dampening": "x"}), "cannot make a step"),
        (OptimizerSettings("adamw", options={"betas": [0.9]}), "cannot make"),
        (
            OptimizerSettings(scheduler="multistep", scheduler_options={"decay_milestones": "1,x"}),
            "cannot set a learning rate",
        ),
        (
            OptimizerSettings(scheduler="step", scheduler_options={"decay_rate": "x"}),
            "cannot set a learning rate",
        ),
        (OptimizerSettings(scheduler="poly", scheduler_options={"k_decay": "x"}), "cannot"),
    ],
)
def test_options_that_fail_late_are_tried_first(settings: OptimizerSettings, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        try_optimizer(settings, 10)


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
def test_what_can_be_used_is_tried_without_a_trace(name: str, options: dict[str, Any]) -> None:
    state = torch.get_rng_state()
    try_optimizer(OptimizerSettings("adamw", scheduler=name, scheduler_options=options), 10)
    assert torch.equal(torch.get_rng_state(), state)


GOES_ON: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "without decay": ({"name": "adamw", "weight_decay": 0.1}, {"weight_decay": 0.0}),
    "with decay": ({"name": "adamw", "weight_decay": 0.0}, {"weight_decay": 0.1}),
    "betas": ({"name": "nadamw"}, {"options": {"betas": [0.5, 0.9]}}),
    "momentum": ({"name": "sgd"}, {"momentum": 0.5}),
    "lookahead": ({"name": "lookahead_momentum", "weight_decay": 0.0}, {"weight_decay": 0.1}),
    "rate": ({"name": "adafactor"}, {"lr": 0.2}),
}


@pytest.mark.parametrize(("before", "changes"), GOES_ON.values(), ids=GOES_ON)
def test_an_optimizer_goes_on_with_other_options(
    before: dict[str, Any], changes: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    earlier = OptimizerSettings(**{"lr": 0.01, **before})
    later = OptimizerSettings(**{"lr": 0.01, **before, **changes})

    def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(inputs).square().mean().backward()
        optimizer.step()

    first = create_optimizer(model, earlier)
    for _ in range(7):
        step(model, first)
    other = copy.deepcopy(model)
    # by hand: the same moments and counts, with what changes set in each group
    alike = create_optimizer(other, earlier)
    alike.load_state_dict(copy.deepcopy(first.state_dict()))
    fresh = create_optimizer(other, later)
    values = {id(p): group for group in fresh.param_groups for p in group["params"]}
    names = {"weight_decay", "lr", "betas", "momentum"} & alike.param_groups[0].keys()
    groups = [{**g, "params": [p]} for g in alike.param_groups for p in g["params"]]
    for group in groups:
        group |= {name: values[id(group["params"][0])][name] for name in names}
    alike.param_groups[:] = groups

    second = create_optimizer(model, later)
    try_change(earlier, later)
    take_over(second, create_optimizer(model, earlier), first.state_dict())
    for _ in range(7):
        step(model, second)
        step(other, alike)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize(
    ("name", "options"),
    [("adam", {"amsgrad": True}), ("rmsprop", {"centered": True})],
)
def test_what_needs_moments_that_were_not_kept_is_refused(
    name: str, options: dict[str, Any]
) -> None:
    plain, changed = OptimizerSettings(name), OptimizerSettings(name, options=options)
    with pytest.raises(UsageError, match=rf"'{name}' cannot go on with options .*begin another"):
        try_change(plain, changed)
    # the other way round, moments are left over
    try_change(changed, plain)
