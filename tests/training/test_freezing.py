"""What is frozen stays as it is, and the rest trains."""

import copy
from pathlib import Path

import pytest
import torch

from fxtransport import transportify
from fxtransport.errors import CheckpointError, UsageError
from fxtransport.objectives import fixed, vangl
from fxtransport.training import EndToEnd, Parallel
from fxtransport.training.freezing import freeze
from tests.training.runs import calm, program_of, samples, train_stream, trainer_of


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["stem"], {"stem.weight", "stem.bias"}),
        (["blocks.[01].conv"], {f"blocks.{i}.conv.{n}" for i in "01" for n in ("weight", "bias")}),
        (
            ["head.bias", "blocks.3.*.bias"],
            {f"{n}.bias" for n in ("head", "blocks.3.conv", "blocks.3.norm")},
        ),
    ],
)
def test_patterns_name_parameters_and_modules(patterns: list[str], frozen: set[str]) -> None:
    program = program_of()
    freeze(program, patterns)
    assert {n for n, p in program.named_parameters() if not p.requires_grad} == frozen


def test_norms_that_keep_their_statistics() -> None:
    program = program_of()
    held = freeze(program, ["blocks.0.norm", "blocks.1", "blocks.2.norm.weight"])
    paths = {module: path for path, module in program.named_modules()}
    assert [paths[module] for module in held] == ["blocks.0.norm", "blocks.1.norm"]


def test_auxiliary_heads_train() -> None:
    program = program_of()
    freeze(program, ["*"])
    left = [n for n, p in program.named_parameters() if p.requires_grad]
    assert left
    assert all(name.startswith("auxiliary_heads.") for name in left)


def test_what_matches_nothing() -> None:
    with pytest.raises(UsageError, match=r"'block\.0' matches no parameter.*did you mean blocks.0"):
        trainer_of(Parallel(1), freeze=["block.0"])


def test_nothing_left_to_train() -> None:
    with pytest.raises(UsageError, match=r"part 1 has no parameter .* freeze fewer"):
        trainer_of(Parallel(1), freeze=["blocks.2", "blocks.3", "head"])


def test_only_the_rest_changes() -> None:
    program = program_of()
    before = copy.deepcopy(program.state_dict())
    patterns = ["stem", "blocks.0", "blocks.2.norm"]
    trainer = trainer_of(Parallel(2), program=program, objective=vangl(), freeze=patterns)
    trainer.fit(train_stream(), [samples(8).batch(range(8))])
    changed = {n for n, t in program.state_dict().items() if not torch.equal(t, before[n])}
    assert not [n for n in changed if n.startswith(("stem.", "blocks.0.", "blocks.2.norm."))]
    assert {"blocks.1.conv.weight", "blocks.1.norm.running_mean", "blocks.2.conv.weight"} <= changed


def test_a_step_is_that_of_the_model_by_hand() -> None:
    program, images = program_of(calm), samples(8)
    model = calm()
    model.load_state_dict(program.model_state_dict())
    trainer = trainer_of(
        EndToEnd(1), program=program, objective=fixed(0.3), freeze=["blocks.0", "blocks.1.norm"]
    )
    inputs, targets = images.batch(range(8))
    report = trainer.step(inputs, targets)
    model.train()
    for norm in (model.blocks.get_submodule("0.norm"), model.blocks.get_submodule("1.norm")):
        norm.eval()
    hidden, costs = model.stem(inputs), []
    for block in model.blocks:
        after = block(hidden)
        costs.append((after - hidden).square().mean())
        hidden = after
    torch.testing.assert_close(report.parts[0].transport, torch.stack(costs).sum())
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(program.get_buffer(name), buffer)


def test_a_run_goes_on_with_the_same_frozen(tmp_path: Path) -> None:
    trainer_of(Parallel(1), tmp_path, freeze=["stem"]).fit(train_stream())
    trainer_of(Parallel(1), tmp_path, freeze=["stem"]).restore()
    with pytest.raises(CheckpointError, match=r"settings\.freeze"):
        trainer_of(Parallel(1), tmp_path).restore()


def test_gradient_is_not_computed_for_what_is_before() -> None:
    program = transportify(calm(), torch.zeros(2, 2, 6, 6), verify=False)
    trainer = trainer_of(EndToEnd(1), program=program, objective=vangl(), freeze=["stem", "blocks"])
    seen: list[bool] = []
    program.get_submodule("head").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].requires_grad)
    )
    trainer.step(*samples(8).batch(range(8)))
    assert seen == [False]
