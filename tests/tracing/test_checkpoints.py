"""What a model checkpoints, its program checkpoints: the same numbers, in as little memory."""

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
    noop_context_fn,
    set_checkpoint_early_stop,
)

from fxtransport import transportify
from fxtransport.errors import TraceError
from tests.compiling import assert_identical
from tests.networks import Block, Net
from tests.tracing.blocks import assert_equal, outcome

Run = Callable[["Checkpointing", Tensor], Tensor]


class Checkpointing(Net):
    """Runs its blocks, which have batch norm and dropout, by a function."""

    def __init__(self, run: Run, dropout: float = 0.2) -> None:
        super().__init__(dropout=dropout)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.run(self, self.stem(x)).mean((2, 3)))
        return logits


def each(module: Checkpointing, x: Tensor, **options: Any) -> Tensor:
    options.setdefault("use_reentrant", False)
    for block in module.blocks:
        x = checkpoint(block, x, **options)
    return x


def sequential(module: Checkpointing, x: Tensor, reentrant: bool) -> Tensor:
    y: Tensor = checkpoint_sequential(module.blocks, 2, x, use_reentrant=reentrant)
    return y


def in_train_mode(module: Checkpointing, x: Tensor) -> Tensor:
    return each(module, x) if module.training else module.blocks(x)


def only_branches(module: Checkpointing, x: Tensor) -> Tensor:
    for block in module.blocks:
        x = x + checkpoint(lambda x, b=block: b.norm(b.conv(x)).relu(), x, use_reentrant=False)
    return x


def nested(module: Checkpointing, x: Tensor) -> Tensor:
    def two(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = second(checkpoint(first, x, use_reentrant=False))
        return y

    blocks = list(module.blocks)
    x = checkpoint(two, *blocks[:2], x, use_reentrant=False)
    y: Tensor = checkpoint(two, *blocks[2:], x, use_reentrant=False)
    return y


def without_early_stop(module: Checkpointing, x: Tensor) -> Tensor:
    with set_checkpoint_early_stop(False):
        return each(module, x)


def where_gradients_are(module: Checkpointing, x: Tensor) -> Tensor:
    return each(module, x) if module.training and x.requires_grad else module.blocks(x)


WAYS: dict[str, Run] = {
    "each": each,
    "reentrant": partial(each, use_reentrant=True),
    "without-rng": partial(each, preserve_rng_state=False),
    "sequential": partial(sequential, reentrant=False),
    "sequential-reentrant": partial(sequential, reentrant=True),
    "in-train-mode": in_train_mode,
    "only-branches": only_branches,
    "nested": nested,
    "without-early-stop": without_early_stop,
    "where-gradients-are": where_gradients_are,
}


def saved_bytes(call: Callable[[], Any]) -> int:
    """The bytes of the storages that a forward saves for its backward pass."""
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(sizes.values())


@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_numbers_and_memory_are_those_of_the_model(run: Run) -> None:
    """Batch norm is updated twice where the model does so, and dropout draws the same twice."""
    # without the state of the generator, other numbers are drawn again
    model = Checkpointing(run, dropout=0.0 if run is WAYS["without-rng"] else 0.2)
    program = transportify(copy.deepcopy(model), torch.zeros(2, 3, 8, 8))
    x = torch.randn(6, 3, 8, 8)
    assert_equal(program, model, x)
    model.train()
    program.train()
    given = x.clone().requires_grad_()
    expected = saved_bytes(lambda: model(given))
    plain = saved_bytes(lambda: model.head(model.blocks(model.stem(given)).mean((2, 3))))
    assert saved_bytes(lambda: program(given)) == expected < 0.7 * plain


def test_batch_norm_is_updated_twice_as_in_the_model() -> None:
    model = Checkpointing(each)
    program = transportify(copy.deepcopy(model), torch.zeros(2, 3, 8, 8))
    for net in (model.train(), program.train()):
        net(torch.randn(6, 3, 8, 8)).sum().backward()
        counts = {n: int(b) for n, b in net.named_buffers() if n.endswith("tracked")}
        assert set(counts.values()) == {2}


@pytest.mark.parametrize("name", ["each", "reentrant", "nested", "sequential-reentrant"])
def test_parts_train_as_those_of_the_plain_model(name: str) -> None:
    """Costs included. A part is given no gradient, which a reentrant checkpoint would need."""
    x = torch.randn(6, 3, 8, 8)
    gradients = []
    for run in (lambda module, x: module.blocks(x), WAYS[name]):
        torch.manual_seed(0)
        program = transportify(Checkpointing(run), x, modules=2, verify=False).train()
        torch.manual_seed(1)
        hidden: Any = x
        for part in program.parts:
            found = part(hidden)
            (found.logits.square().sum() + found.costs.sum()).backward()
            hidden = found.hidden.detach()
        gradients.append({k: p.grad for k, p in program.named_parameters()})
    assert_identical(*gradients)
    assert all(g is not None for g in gradients[1].values())


def test_a_region_that_a_cut_divides() -> None:
    """Each of the parts checkpoints what it has of it."""
    model = Checkpointing(lambda m, x: checkpoint(m.blocks, x, use_reentrant=False))
    x = torch.randn(6, 3, 8, 8)
    program = transportify(copy.deepcopy(model), x, modules=2)
    first, second = program.parts
    assert "blocks_1" in first.code and "computed again" in first.code
    assert "blocks_2" in second.code and "computed again" in second.code
    model.train()
    program.train()
    expected = outcome(model, (x,))
    chained = nn.Sequential()
    chained.forward = lambda x: second(first(x).hidden).hidden  # type: ignore[method-assign]
    found = outcome(chained, (x,))
    assert_identical(found[0], expected[0])
    buffers = {k: b for k, b in program.named_buffers() if "auxiliary" not in k}
    assert_identical(buffers, dict(model.named_buffers()))


def test_a_model_that_checkpoints_in_train_mode_alone() -> None:
    model = Checkpointing(in_train_mode)
    program = transportify(model, torch.zeros(2, 3, 8, 8))
    assert "self.training" in program.code
    x = torch.randn(6, 3, 8, 8, requires_grad=True)
    less = saved_bytes(lambda: program.train()(x))
    more = saved_bytes(lambda: program.eval()(x))
    assert less < more


def test_a_context_is_refused() -> None:
    contexts = partial(create_selective_checkpoint_contexts, [torch.ops.aten.mm.default])
    with pytest.raises(TraceError, match=r"Checkpointing\) at .* context_fn.*leave context_fn out"):
        transportify(Checkpointing(partial(each, context_fn=contexts)), torch.zeros(2, 3, 8, 8))
    transportify(Checkpointing(partial(each, context_fn=noop_context_fn)), torch.zeros(2, 3, 8, 8))


def in_pieces(train: list[int], evaluate: list[int]) -> Run:
    """A function that checkpoints blocks between some of them, in each mode others."""

    def run(module: Checkpointing, x: Tensor) -> Tensor:
        ends = train if module.training else evaluate
        for start, end in itertools.pairwise(ends):
            x = checkpoint(module.blocks[start:end], x, use_reentrant=False)
        return x

    return run


def test_each_mode_checkpoints_what_it_does() -> None:
    model = Checkpointing(in_pieces([0, 1, 2, 3, 4], [0, 2, 4]))
    program = transportify(copy.deepcopy(model), torch.zeros(2, 3, 8, 8))
    x = torch.randn(6, 3, 8, 8)
    assert_equal(program, model, x)
    given = x.requires_grad_()
    for mode in (True, False):
        model.train(mode)
        program.train(mode)
        assert saved_bytes(lambda: program(given)) == saved_bytes(lambda: model(given))


def test_what_overlaps_between_the_modes_is_refused() -> None:
    model = Checkpointing(in_pieces([0, 2, 4], [0, 1, 3, 4]))
    words = "the model checkpoints a function in one mode.*checkpoint the same functions"
    with pytest.raises(TraceError, match=words):
        transportify(model, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_models_of_timm(name: str) -> None:
    size = 32
    options = {"img_size": size, "depth": 3} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=4, **options)
    model.set_grad_checkpointing(True)
    program = transportify(copy.deepcopy(model), torch.zeros(2, 3, size, size))
    x = torch.randn(4, 3, size, size)
    assert_equal(program, model, x)
    given = x.requires_grad_()
    model.train()
    assert saved_bytes(lambda: program.train()(given)) == saved_bytes(lambda: model(given))


def test_a_closed_module_keeps_its_checkpoint() -> None:
    """What no residual addition is in runs by its own code."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = checkpoint(self.block.conv, x, use_reentrant=False)
            return y.exp()

    model = nn.Sequential(Inner(), Block(4))
    program = transportify(copy.deepcopy(model), torch.zeros(2, 4, 8, 8))
    assert "checkpoint" not in program.code
    assert_equal(program, model, torch.randn(6, 4, 8, 8))
