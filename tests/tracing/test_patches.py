"""Python's calls in traced code: custom functions, scripts, transforms, len, min, parameters."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from tests.compiling import assert_identical
from tests.tracing.blocks import (
    Adds,
    Apart,
    Function,
    assert_equal,
    check,
    guarded,
    net,
    program_of,
    refused,
    x,
)


class Sign(torch.autograd.Function):
    """The sign, through which gradients pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad


class Scaled(torch.autograd.Function):
    """Two outputs, and a plain number."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, by: float, also: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        ctx.by = by
        ctx.save_for_backward(x)
        return x * by, x.sum(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.by + grads[1] * ctx.saved_tensors[0], None, None


class Separate(torch.autograd.Function):
    """The newer form, with a context of its own."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad.reshape(ctx.shape) * 3


class Doubles:
    """An object that is called."""

    def __call__(self, r: Tensor) -> Tensor:
        return r * 2


twice = Doubles()


def plain(x: Tensor, by: float = 2.0) -> Tensor:
    """A function that torch compiles."""
    return x * by if x.size(0) > 1 else x - by


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch says that scripts are deprecated
    scripted = torch.jit.script(plain)


CALLS: dict[str, Function] = {
    "a function of autograd": lambda m, x, y: Sign.apply(y),
    "one without gradients": lambda m, x, y: y * Sign.apply(x.detach()),
    "one with two outputs": lambda m, x, y: (lambda a, b: a * b)(*Scaled.apply(y, 0.5)),
    "one of sizes": lambda m, x, y: Scaled.apply(y, 1 / x.shape[-1], x)[0],
    "one with a context": lambda m, x, y: Separate.apply(y),
    "vmap": lambda m, x, y: torch.vmap(lambda r: r * 2)(y),
    "vmap over dimensions": lambda m, x, y: torch.vmap(lambda a, b: a @ b, in_dims=1)(x, y) * y,
    "vmap of a module": lambda m, x, y: torch.vmap(m.linear)(y),
    "vmap of a builtin": lambda m, x, y: torch.vmap(torch.dot, in_dims=(1, 1))(x, y) * y,
    "vmap of an object": lambda m, x, y: torch.vmap(twice)(y),
    "vmap of a closure": lambda m, x, y: torch.vmap(lambda r: r * y[0] + len(x))(y),
    "func.vjp": lambda m, x, y: torch.func.vjp(lambda v: v.tanh(), y)[0] * 2,
    "func.jvp": lambda m, x, y: torch.func.jvp(lambda v: v.tanh(), (y,), (x,))[1],
    "a number's callable": lambda m, x, y: y * (m.scale() if callable(m.scale) else m.scale),
    "a tensor's callable": lambda m, x, y: y() if callable(y) else y.exp(),
    "min": lambda m, x, y: y * min(x.shape[0], 3),
    "max": lambda m, x, y: y * max(x.shape) + max(1, x.size(1)),
    "min of a list": lambda m, x, y: y * min([x.shape[0], 7, 9]),
    "max by key": lambda m, x, y: y * max(x.shape[1:], key=lambda n: -n),
    "sum": lambda m, x, y: y * sum(x.shape),
    "len": lambda m, x, y: y / len(x) * len(x.shape),
    "math": lambda m, x, y: y / math.sqrt(x.shape[-1]) + math.prod(x.shape[1:]),
    "finfo": lambda m, x, y: y.clamp(min=torch.finfo(y.dtype).min).clamp(
        max=torch.finfo(x.dtype).max
    ),
    "iinfo": lambda m, x, y: y * torch.iinfo(torch.int8).max,
    "is_grad_enabled": lambda m, x, y: y * [1, 1][torch.is_grad_enabled()],
    "a parameter": lambda m, x, y: y * nn.Parameter(x.new_ones(8), requires_grad=False),
    "a parameter of zeros": lambda m, x, y: y + nn.Parameter(torch.zeros(8)),
    "a module without parameters": lambda m, x, y: nn.Softmax(-1)(nn.GELU()(y)),
    "sizes one by one": lambda m, x, y: (
        y.view(x.shape[0], 2, 4).reshape(x.size(0), -1) + torch.ones(x.shape[0], 8)
    ),
    "repeat": lambda m, x, y: x[:1].repeat(x.shape[0], 1) * y.expand(len(y), 8),
    "eval()": lambda m, x, y: m.drop.eval()(y),
    "train() and eval()": lambda m, x, y: m.drop.train()(y) + m.drop.eval()(y),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("name", CALLS)
def test_calls_are_nodes(name: str) -> None:
    check(CALLS[name], scale=0.5, drop=nn.Dropout(0.5))


TRANSFORMS: dict[str, Function] = {
    "func.grad": lambda m, x, y: y * torch.func.grad(lambda v: v.square().sum())(x),
}


def test_a_gradient_may_be_the_residue() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.func.grad(lambda v: m.linear(v).square().sum())(x)

    assert len(program_of(net(branch)).facts.residuals) == 2


def test_a_choice_between_functions_is_refused() -> None:
    """The remedy works: a module that adds nothing keeps its own code."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        chosen: Tensor = torch.cond(x.sum() > 0, torch.sin, torch.cos, (y,))
        return chosen

    assert "torch.where" in refused(branch, "calls torch.cond")
    with torch.no_grad():
        program, model = program_of(net(branch, Apart)), net(branch, Apart)
        program.load_state_dict(model.state_dict())
        assert_identical(program(x()), model(x()))


SCRIPTS: dict[str, Function] = {
    "a script": lambda m, x, y: scripted(y),
    "a script of numbers": lambda m, x, y: scripted(y, by=0.5),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_nodes(name: str) -> None:
    check(SCRIPTS[name])


@pytest.mark.parametrize("kind", [Adds, Apart])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name: str, kind: Any) -> None:
    """Also in modules that are not opened."""
    model = net(TRANSFORMS[name], kind)
    assert_equal(program_of(model, x(2)), model, x(5))


def test_gradients_are_those_of_the_custom_backward() -> None:
    model = net(lambda m, x, y: Sign.apply(y))
    program = program_of(model)
    given = x(3).requires_grad_()
    program(given).sum().backward()
    assert given.grad is not None
    assert given.grad.abs().sum() > 0


def test_the_smaller_of_a_size_and_a_number_varies_with_the_size() -> None:
    model = net(lambda m, x, y: y * min(x.shape[0], 3))
    program = program_of(model, x(2))
    for batch in (1, 2, 3, 4):
        assert_equal(program, model, x(batch))


def test_torch_and_python_are_as_before() -> None:
    before = (len, min, max, callable, nn.Module.__call__, nn.Module.train, nn.Parameter.__new__)
    program_of(net(lambda m, x, y: y * min(len(x), 3)))
    now = (len, min, max, callable, nn.Module.__call__, nn.Module.train, nn.Parameter.__new__)
    assert all(a is b for a, b in zip(before, now, strict=True))
    assert_identical(Sign.apply(torch.ones(1)), torch.ones(1))


class SetsModes(nn.Module):
    """Keeps a block in eval mode."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        self.block.eval()
        return self.block(x)


def test_the_mode_of_a_block_in_the_graph_is_set() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Any:
        return nn.functional.dropout(y, 0.5, m.training)

    model = SetsModes(Adds(branch))
    program = program_of(model)
    assert_equal(program, model, x(5))
    assert program.train().training
    program(x(2))
    assert not program.get_submodule("block").training


def test_modules_with_parameters_are_made_before() -> None:
    message = refused(lambda m, x, y: nn.Linear(8, 8)(y), "makes a Linear, with new parameters")
    assert "make it in __init__ and assign it to self" in message
    model = net(lambda m, x, y: m.made(y), made=nn.Linear(8, 8))
    assert_equal(program_of(model), model, x(5))


def test_gradients_are_asked_for() -> None:
    """Where the answer decides what runs, that is refused, and a closed module decides again."""
    words = "asks for torch.is_grad_enabled() in 0 (Adds) at test_patches.py"
    with pytest.raises(Exception, match="asks for") as caught:
        program_of(net(lambda m, x, y: y.exp() if torch.is_grad_enabled() else y))
    assert words in str(caught.value)
    assert "a module without a residual addition" in str(caught.value)


def test_a_root_that_decides_by_a_length() -> None:
    model = net(lambda m, x, y: y.exp() if len(x) > 2 else y)
    program = program_of(model, x(3))
    assert_equal(program, model, x(5))
    assert "0 (Adds) at test_patches.py" in guarded(program, model, x(2))


def test_scripted_modules_inside() -> None:
    """They are called as they are."""
    model = net(lambda m, x, y: y.relu())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model[0].linear = torch.jit.script(nn.Linear(8, 8))
    program = transportify(model, torch.zeros(2, 8))
    assert torch.equal(program(x(5)), model(x(5)))
