"""What trains one part: steps, learning rates, clipping, and a state that goes on."""

import copy

import pytest
import torch

from fxtransport import Program
from fxtransport.errors import UsageError
from fxtransport.training.learner import Learner, batch_accuracy, compile_part
from fxtransport.training.settings import OptimizerSettings, TrainerSettings
from tests.training.runs import calm, program_of, samples

OPTIMIZER = OptimizerSettings(lr=0.1, scheduler="cosine")


def learner_of(program: Program, **settings: float) -> Learner:
    device = torch.device("cpu")
    return Learner(program.parts[1], 4, OPTIMIZER, TrainerSettings(**settings), device)  # type: ignore[arg-type]


def make_step(learner: Learner, hidden: torch.Tensor) -> None:
    output = learner.run(hidden)
    output.logits.square().sum().backward()
    learner.step()


def hidden_of(program: Program) -> torch.Tensor:
    images, _ = samples(8).batch(range(8))
    hidden: torch.Tensor = program.parts[0](images).hidden.detach()
    return hidden


def test_a_step_changes_the_part_and_frees_the_gradients() -> None:
    program = program_of(calm)
    learner, hidden = learner_of(program), hidden_of(program)
    before = copy.deepcopy(program.state_dict())
    make_step(learner, hidden)
    changed = {name for name, t in program.state_dict().items() if not torch.equal(t, before[name])}
    assert "head.weight" in changed
    assert changed <= set(program.parts[1].state_dict())
    assert all(p.grad is None for p in program.parts[1].parameters())
    assert learner.steps == 1


def test_the_learning_rate_follows_epochs() -> None:
    learner = learner_of(program_of(calm))
    rates = [learner.lr]
    for _ in range(3):
        learner.end_epoch()
        rates.append(learner.lr)
    assert rates[0] == 0.1
    assert rates[2] == pytest.approx(0.05, rel=0.01)
    assert rates == sorted(rates, reverse=True)


def test_loaded_state_follows_the_parameters() -> None:
    """They may have moved since; state that was not loaded stays as it is."""
    program = program_of(calm)
    learner, hidden = learner_of(program), hidden_of(program)
    make_step(learner, hidden)
    saved = copy.deepcopy(learner.state_dict())

    def dtypes() -> set[torch.dtype]:
        states = learner.optimizer.state.values()
        return {state["momentum_buffer"].dtype for state in states}

    learner.part.double()
    learner.place_state()
    assert dtypes() == {torch.float32}
    learner.part.float()
    learner.load_state_dict(saved)
    learner.part.double()
    learner.place_state()
    assert dtypes() == {torch.float64}
    learner.part.float()
    learner.place_state()
    assert dtypes() == {torch.float64}, "once"


def test_gradients_are_clipped_by_their_norm() -> None:
    program = program_of(calm)
    learner, hidden = learner_of(program, grad_clip=1e-3), hidden_of(program)
    norms = []

    def note(*_: object) -> None:
        grads = [p.grad.flatten() for p in learner.part.parameters() if p.grad is not None]
        norms.append(torch.cat(grads).norm().item())

    learner.optimizer.register_step_pre_hook(note)
    make_step(learner, hidden)
    assert norms == [pytest.approx(1e-3, rel=1e-2)]


def test_a_state_goes_on_as_before() -> None:
    kept, resumed = program_of(calm), program_of(calm)
    first, hidden = learner_of(kept), hidden_of(kept)
    make_step(first, hidden)
    first.end_epoch()
    second = learner_of(resumed)
    resumed.load_state_dict(copy.deepcopy(kept.state_dict()))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert (second.steps, second.epochs, second.lr) == (1, 1, first.lr)
    for learner in (first, second):
        make_step(learner, hidden)
    for name, value in kept.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_what_is_released_is_freed() -> None:
    program = program_of(calm)
    learner = learner_of(program)
    make_step(learner, hidden_of(program))
    assert learner.optimizer.state
    learner.release()
    assert not learner.optimizer.state


def test_a_part_is_compiled_if_the_settings_say_so() -> None:
    program = program_of(calm).eval()
    part, hidden = program.parts[1], hidden_of(program)
    assert compile_part(part, TrainerSettings()) is part
    compiled = compile_part(part, TrainerSettings(compile="eager"))
    assert compiled is not part
    assert torch.equal(compiled(hidden).logits, part(hidden).logits)


def test_a_backend_that_torch_does_not_have() -> None:
    with pytest.raises(UsageError, match=r"no backend 'nonsense': it has .*inductor"):
        compile_part(program_of(calm).parts[0], TrainerSettings(compile="nonsense"))


def test_the_accuracy_of_a_batch() -> None:
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert batch_accuracy(logits, torch.tensor([1, 0, 0, 0])).item() == 0.75
    mixed = torch.tensor([[0.4, 0.6], [0.9, 0.1], [0.8, 0.2], [0.2, 0.8]])
    assert batch_accuracy(logits.requires_grad_(), mixed).item() == 0.5
    positions = torch.stack([logits, logits], 2)
    assert batch_accuracy(positions, torch.tensor([[1, 0]] * 4)).item() == 0.5
