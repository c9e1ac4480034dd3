"""The tracer: modules that forward makes or shares, arguments, guards, and what it leaves."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import GuardError, TraceError
from tests.tracing.blocks import (
    Adds,
    Function,
    assert_equal,
    check,
    guarded,
    net,
    program_of,
    refused,
    x,
)


class MakesABlock(nn.Module):
    """Makes a residual block at each call."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        if keeps:
            self.block = Adds(lambda m, x, y: y.relu())

    def forward(self, x: Tensor) -> Any:
        block = self.block if hasattr(self, "block") else Adds(lambda m, x, y: y.relu())
        return block(self.linear(x))


def test_a_module_that_forward_makes() -> None:
    with pytest.raises(TraceError, match=r"with new parameters in each forward pass; make it in"):
        program_of(MakesABlock(keeps=False))
    model = MakesABlock(keeps=True)
    assert_equal(program_of(model), model, x(5))


def test_a_module_that_is_not_registered() -> None:
    """In a plain list: its parameters would be lost; an nn.ModuleList is the remedy."""
    layers = [nn.Linear(8, 8), nn.Linear(8, 8)]

    def branch(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.layers[1](m.layers[0](y))

    message = refused(branch, "calls a Linear that is not a submodule", layers=layers)
    assert "use an nn.ModuleList" in message
    check(branch, layers=nn.ModuleList(layers))


class Skip(nn.Module):
    """Calls a block that belongs to another module, too."""

    def __init__(self, down: nn.Module, then: nn.Module) -> None:
        super().__init__()
        self.down, self.then = down, then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.down(x))


class Twice(nn.Module):
    """A block under two paths, as monai's DynUNet has it."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.block = Adds(lambda m, x, y: y.relu())
        self.skip = Skip(self.block, nn.Linear(8, 8))
        self.both = both

    def forward(self, x: Tensor) -> Any:
        return self.skip(self.block(x) if self.both else x)


@pytest.mark.parametrize("both", [False, True])
def test_a_module_under_two_paths(both: bool) -> None:
    model = Twice(both)
    program = program_of(model)
    assert_equal(program, model, x(5))
    assert len(program.facts.residuals) == 1 + both
    assert all(r.path in ("block", "skip.down") for r in program.facts.residuals)


def test_a_module_that_is_called_twice() -> None:
    check(lambda m, x, y: m.linear(m.linear(y).relu()))


LISTS: dict[str, Function] = {
    "slice": lambda m, x, y: _run(m.layers[:2], y),
    "reversed slice": lambda m, x, y: _run(m.layers[::-1], y),
    "index": lambda m, x, y: m.layers[-1](m.layers[0](y)),
    "loop": lambda m, x, y: _run([f for i, f in enumerate(m.layers) if i != 1], y),
    "slice of a sequence": lambda m, x, y: m.sequence[1:](y),
    "dict": lambda m, x, y: m.named["a"](y) + sum(f(y) for f in m.named.values()),
    "length": lambda m, x, y: y * len(m.layers) + len(m.named),
    "children": lambda m, x, y: _run(m.sequence.children(), y),
    "parameters": lambda m, x, y: y * next(m.parameters()).sum() * len(list(m.layers.parameters())),
    "parameter list": lambda m, x, y: y * m.scales[0] * len(m.scales),
    "in": lambda m, x, y: m.named["b"](y) if "b" in m.named else y,
    "state": lambda m, x, y: y * dict(m.named_parameters())["linear.weight"].mean(),
    "buffers": lambda m, x, y: y * sum(b.sum() for b in m.layers.buffers()) + y,
    "get_submodule": lambda m, x, y: m.get_submodule("layers.0")(y),
}


def _run(layers: Any, y: Tensor) -> Tensor:
    for layer in layers:
        y = layer(y)
    return y


SLICES: dict[str, Function] = {
    "slice of parameters": lambda m, x, y: y * m.scales[1:][0],
    "negative slice of parameters": lambda m, x, y: y * m.scales[-1:][0] * len(m.scales[-1:]),
    "stepped slice of parameters": lambda m, x, y: sum(y * s for s in m.scales[::-1]),
    "loop over a slice": lambda m, x, y: sum(y * s for s in m.scales[: x.dim() - 1]),
    "parameter dict": lambda m, x, y: y * m.weights["a"] + sum(m.weights.values()),
    "items": lambda m, x, y: sum(y * w for k, w in m.weights.items() if k != "b"),
    "copy of a parameter dict": lambda m, x, y: y * m.weights.copy()["b"] * len(m.weights),
    "get of a parameter dict": lambda m, x, y: y * m.weights.get("b"),
    "part of a module dict": lambda m, x, y: nn.ModuleDict({"b": m.named["b"]})["b"](y),
    "keys of a module dict": lambda m, x, y: _run([m.named[k] for k in sorted(m.named)], y),
    "stepped slice": lambda m, x, y: _run(m.layers[::2], y),
    "negative slice": lambda m, x, y: _run(m.sequence[-2:], y),
    "sum of lists": lambda m, x, y: _run(m.layers[:1] + m.layers[-1:], y),
    "slice of buffers": lambda m, x, y: y * sum(m.kept[1:]) * len(m.kept[:1]),
    "a view as a sequence": lambda m, x, y: nn.Sequential(*m.layers[:2])(y),
}


class Buffers(nn.Module):
    """A list of buffers, whose slices are such lists."""

    def __init__(self, tensors: Any) -> None:
        super().__init__()
        self.size = len(tensors)
        for i, tensor in enumerate(tensors):
            self.register_buffer(f"b{i}", tensor)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Buffers([self[i] for i in range(*index.indices(len(self)))])
        if index >= len(self):
            raise IndexError(index)
        return getattr(self, f"b{index}")


CONTAINERS = {
    "layers": nn.ModuleList([nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)]),
    "sequence": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)),
    "named": nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Tanh()}),
    "scales": nn.ParameterList([torch.randn(8), torch.randn(8)]),
    "weights": nn.ParameterDict({"a": torch.randn(8), "b": torch.randn(8)}),
    "kept": Buffers([torch.randn(8) for _ in range(3)]),
}


@pytest.mark.parametrize("name", LISTS)
def test_containers_of_modules(name: str) -> None:
    check(LISTS[name], **CONTAINERS)


@pytest.mark.parametrize("name", SLICES)
def test_slices_that_are_containers(name: str) -> None:
    check(SLICES[name], **CONTAINERS)


class Llama(nn.Module):
    """Runs the first of its blocks."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.layers, self.head = layers, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers[:3]:
            x = layer(x)
        return self.head(x)


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda blocks: nn.Sequential(*blocks)])
def test_slices_of_blocks(kind: Any) -> None:
    blocks = list(net(lambda m, x, y: y.relu()))[:2] + list(net(lambda m, x, y: y.relu()))[:2]
    model = Llama(kind(blocks))
    program = program_of(model)
    assert len(program.facts.residuals) == 3
    assert_equal(program, model, x(5))


class Optional(nn.Module):
    """Optional and keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Adds(lambda m, x, y: y.relu())

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Any:
        x = self.block(x) * scale
        return x if mask is None else x * mask


def test_optional_arguments() -> None:
    model = Optional()
    program = program_of(model, x(2))
    assert_equal(program, model, x(5))
    both = program_of(model, x(2), x(2) > 0)
    assert_equal(both, model, x(5), x(5) > 0)


class Skips(nn.Module):
    """Hands keyword arguments and None on."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Takes(), Takes()])

    def forward(self, x: Tensor) -> Any:
        kept = None
        for block in self.blocks:
            x, kept = block(hidden=x, before=kept, scale=x.shape[1])
        return x, kept


class Takes(nn.Module):
    """Takes keyword arguments, and returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, hidden: Tensor, *, before: Tensor | None = None, **more: Any) -> Any:
        y = self.linear(hidden) / more["scale"]
        if before is not None:
            y = y + before
        return hidden + y, y


def test_keyword_arguments_between_opened_modules() -> None:
    model = Skips()
    assert_equal(program_of(model), model, x(5))


def test_ranks_are_guarded() -> None:
    model = net(lambda m, x, y: y.relu() if x.dim() == 2 else y)
    program = program_of(model, x(2))
    assert "2 dimensions" in guarded(program, model, x(2, 4, 8))
    other = program_of(model, x(2, 4, 8))
    assert_equal(other, model, x(5, 6, 8))


def test_a_guard_names_the_innermost_module_and_line() -> None:
    model = nn.Sequential(net(lambda m, x, y: y.relu() if len(x) < 3 else y))
    program = program_of(model)
    with pytest.raises(GuardError, match=r"a number in 0\.0 \(Adds\) at test_tracer\.py:\d+ is "):
        program(x(5))


def test_nothing_of_a_trace_is_kept() -> None:
    """Neither its values nor its proxies hang on to the model."""
    model = net(lambda m, x, y: y * x.shape[0])
    program = program_of(model)
    reference = weakref.ref(program.get_submodule("0"))
    del program
    gc.collect()
    assert reference() is None


def test_models_may_be_of_any_depth() -> None:
    model: nn.Module = Adds(lambda m, x, y: y.relu())
    for _ in range(12):
        model = nn.Sequential(model)
    program = program_of(model)
    assert_equal(program, model, x(5))
    assert program.facts.residuals[0].path == ".".join("0" * 12)


def test_the_truth_of_a_size_is_guarded_and_not_the_size() -> None:
    check(lambda m, x, y: y.relu() if x.shape[0] else y)
    check(lambda m, x, y: y * (x.shape[0] and 1))


def test_what_is_unused_is_not_in_the_program() -> None:
    program = check(lambda m, x, y: y * 2 + 0 * len(x.shape))
    assert "shape" not in program.code
    with_size = check(lambda m, x, y: y * x.shape[0])
    assert "shape" in with_size.code
