"""Parts compute their residual blocks again, and nothing but their memory shows it."""

import copy
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import Program, transportify
from fxtransport.errors import TrainingError, UsageError
from fxtransport.objectives import plain
from fxtransport.training import EndToEnd, Trainer, TrainerSettings
from tests.compiling import assert_identical
from tests.networks import Neither, Net, Plain, Twice
from tests.tracing.test_checkpoints import saved_bytes


def step(program: Program, x: Tensor, blocks: int | None) -> tuple[dict[str, Any], ...]:
    """Gradients and buffers after steps of all parts of a copy, in which some blocks, or all, are
    computed again."""
    program = copy.deepcopy(program).train()
    torch.manual_seed(0)
    hidden: Any = x
    for part in program.parts:
        part.checkpointed_blocks = part.checkpointable_blocks if blocks is None else blocks
        for _ in range(2):
            found = part(hidden)
            (found.logits.square().sum() + found.costs.sum()).backward()
        hidden = found.hidden.detach() if isinstance(found.hidden, Tensor) else found.hidden
    gradients = {name: p.grad for name, p in program.named_parameters()}
    return gradients, dict(program.named_buffers())


class Spectral(Net):
    """Reads buffers that it writes: the vectors of spectral normalization."""

    def __init__(self) -> None:
        super().__init__()
        for block in self.blocks:
            block.conv = nn.utils.spectral_norm(block.conv)


class InPlace(nn.Module):
    """Overwrites what it is given."""

    input_size = (4, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x.tanh()
        for conv in self.convs:
            y = conv(x)
            x = x.sigmoid_() + y
        return x.mean((2, 3))


class ScaledBlock(nn.Module):
    """Reads a parameter and a number of its own, as layer scale and window attention do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.gamma = nn.Parameter(torch.full((3, 1, 1), 0.5))
        self.divisor = 4

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv(x).unflatten(1, (-1, 1)).flatten(1, 2) / self.divisor
        return x + self.gamma * branch


class Scaled(nn.Module):
    """Blocks with parameters and numbers of their own."""

    input_size = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ScaledBlock() for _ in range(4)))
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(x).mean((2, 3)))


NETS = {
    "a parameter and a number": Scaled,
    "dropout and batch norm": lambda: Net(dropout=0.2),
    "spectral norm": Spectral,
    "two additions": Twice,
    "layers": Plain,
}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_numbers_are_the_same(make: Any) -> None:
    """Buffers are written once, and what reads them reads what it read."""
    model = make()
    x = torch.randn(6, *getattr(model, "input_size", (3, 8, 8)))
    program = transportify(model, x, modules=2)
    assert all(part.can_checkpoint for part in program.parts)
    plain = step(program, x, 0)
    for blocks in (None, 1):
        assert_identical(step(program, x, blocks), plain)


def test_a_part_saves_its_blocks() -> None:
    program = transportify(Net(8), torch.zeros(2, 3, 8, 8)).train()
    x = torch.randn(6, 3, 8, 8)
    whole = program.whole
    before = saved_bytes(lambda: whole(x))
    source = whole.code
    whole.checkpoint_activations = True
    assert saved_bytes(lambda: whole(x)) < before / 2
    assert whole.code != source and "blocks_7_add_block, computed again" in whole.code
    assert program.code == transportify(Net(8), torch.zeros(2, 3, 8, 8)).code


def test_the_first_blocks_are_computed_again() -> None:
    """Each saves as much as the next, and a block is computed again exactly if it is counted."""
    program = transportify(Net(6), torch.zeros(2, 3, 8, 8)).train()
    whole, x = program.whole, torch.randn(6, 3, 8, 8)
    runs = [0] * 6

    def count(i: int) -> Any:
        def hook(*_: object) -> None:
            runs[i] += 1

        return hook

    for i in range(6):
        program.get_submodule(f"blocks.{i}.conv").register_forward_pre_hook(count(i))
    saved = []
    assert whole.checkpointable_blocks == 6
    for blocks in range(7):
        whole.checkpointed_blocks = blocks
        assert whole.checkpoint_activations == (blocks == 6)
        saved.append(saved_bytes(lambda: whole(x)))
        runs[:] = [0] * 6
        whole(x).costs.sum().backward()
        assert runs == [2] * blocks + [1] * (6 - blocks)
    less = [before - after for before, after in pairwise(saved)]
    assert min(less) > 0 and less[1:-1] == [less[1]] * 4


def test_a_count_that_no_part_has_is_refused() -> None:
    program = transportify(Net(4), torch.zeros(2, 3, 8, 8), modules=2)
    for count in (-1, 3):
        with pytest.raises(UsageError, match=f"part 1 cannot compute {count} .* from 0 to 2"):
            program.parts[1].checkpointed_blocks = count
    assert program.parts[1].checkpointed_blocks == 0


def test_copies_run_as_the_part_does() -> None:
    program = transportify(Net(), torch.zeros(2, 3, 8, 8), modules=2)
    program.parts[1].checkpointed_blocks = 1
    alone = copy.deepcopy(program.parts[1])
    for part in (alone, pickle.loads(pickle.dumps(alone)), copy.deepcopy(program).parts[1]):
        assert part.checkpointed_blocks == 1
        part.checkpoint_activations = True
        assert part.checkpointed_blocks == part.checkpointable_blocks > 1
        part.checkpointed_blocks = 1
    assert not copy.deepcopy(program).parts[0].checkpointed_blocks
    assert_identical(
        pickle.loads(pickle.dumps(alone))(torch.ones(2, 4, 8, 8)).logits,
        alone(torch.ones(2, 4, 8, 8)).logits,
    )


def test_a_block_whose_input_is_overwritten_is_left_out() -> None:
    program = transportify(InPlace(), torch.zeros(2, 4, 8, 8))
    assert not program.whole.can_checkpoint


def test_what_has_no_blocks_is_refused() -> None:
    program = transportify(Neither(), torch.zeros(2, 8))
    settings = TrainerSettings(checkpoint_activations=True)
    with pytest.raises(UsageError, match="train without it"):
        Trainer(program, plain(), EndToEnd(1), settings=settings)


def test_modes_may_change_between_steps() -> None:
    program = transportify(Net(), torch.zeros(2, 3, 8, 8))
    twin = copy.deepcopy(program)
    twin.whole.checkpoint_activations = True
    for training in (True, False, True):
        for each in (program, twin):
            torch.manual_seed(0)
            each.train(training)
            each.whole(torch.ones(4, 3, 8, 8)).costs.sum().backward()
        assert_identical(dict(twin.named_buffers()), dict(program.named_buffers()))


def test_what_is_written_now_and_then_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.register_buffer("seen", torch.zeros(()))
            self.writes = False

        def forward(self, x: Tensor) -> Tensor:
            if self.writes:
                self.seen.add_(1)
            y: Tensor = self.linear(x)
            return y.exp()

    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.odd(x)
            return y

    program = transportify(nn.Sequential(Adds(), nn.Linear(8, 3)), torch.zeros(2, 8))
    part = program.whole
    part.checkpoint_activations = True
    part(torch.ones(2, 8))
    program.get_submodule("0.odd").writes = True
    with pytest.raises(TrainingError, match="writes seen in some forward passes"):
        part(torch.ones(2, 8))
