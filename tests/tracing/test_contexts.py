"""Contexts that code enters: autocast and no_grad are part of the calls inside them."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fxtransport import transportify
from fxtransport.errors import TraceError
from tests.compiling import assert_identical
from tests.tracing.blocks import Adds, Apart, assert_equal, check, net, program_of, x

KINDS: dict[str, Any] = {
    "enabled": lambda x: torch.autocast("cpu", dtype=torch.bfloat16),
    "disabled": lambda x: torch.autocast("cpu", enabled=False),
    "of the input's device": lambda x: torch.autocast(x.device.type, enabled=False),
    "device_type=": lambda x: torch.autocast(device_type=x.device.type, dtype=torch.bfloat16),
    "torch.amp": lambda x: torch.amp.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False),
    "by size": lambda x: torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.shape[1] > 4),
    "none": lambda x: nullcontext(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", [False, True])
def test_islands_of_autocast(kind: str, outer: bool) -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with KINDS[kind](x):
            inner = m.linear(x.float()).tanh()
        return inner @ m.linear.weight.to(inner.dtype)

    model = net(branch)
    program = program_of(model, x(2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
        assert_equal(program, model, x(5))
        residue = program.eval().transport(x(5)).residues[0]
        first = model.eval()[0]
        assert isinstance(first, nn.Module)
        assert torch.equal(residue, branch(first, x(5), first.linear(x(5))))


def test_the_residue_of_an_island_has_its_dtype() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return m.linear(x.float()).tanh()

    program = program_of(net(branch))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert program.transport(x(5)).residues[0].dtype == torch.float32


def test_islands_are_nested_and_entered_again() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        context = torch.autocast("cpu", dtype=torch.bfloat16)
        with context:
            a = x @ x.mT
            with torch.autocast("cpu", enabled=False):
                b = m.linear(a.float() @ x)
            c = b @ x.mT
        with context:
            return c.float().mean() * m.linear(b)

    check(branch)


LOW = partial(torch.autocast, "cpu", dtype=torch.bfloat16)


def by_module(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with LOW():
        return m.linear(m.linear(x).tanh())


def by_weight(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with LOW():
        return F.linear(m.linear(x).tanh(), m.linear.weight)


def by_nesting(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with LOW():
        y = m.linear(x).tanh()
        with torch.autocast("cpu", enabled=False):
            y = m.linear(y.float())
        with LOW():
            y = m.linear(y)
        return m.linear(y)


def in_two_islands(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with LOW():
        y = m.linear(m.linear(x)).tanh()
    with LOW():
        return y + m.linear(m.linear(y))


def not_cached(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with LOW(cache_enabled=False):
        return m.linear(m.linear(x).tanh())


def while_training(m: Any, x: Tensor, y: Tensor) -> Tensor:
    return by_module(m, x, y) if m.training else y


def in_a_loop(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with LOW():
        for _ in range(3):
            y = m.linear(y).tanh()
    return y


CASTS = [
    *(by_module, by_weight, by_nesting, in_two_islands, not_cached, while_training, in_a_loop),
]


@pytest.mark.parametrize("branch", CASTS)
def test_a_weight_is_cast_once_in_an_island(branch: Any) -> None:
    """Its gradient is the sum of two in the island's dtype."""
    program = check(branch)
    model = net(branch)
    model.load_state_dict(program.model_state_dict())
    with LOW():
        assert_equal(program, model, x(5))
    with LOW(enabled=False):
        assert_equal(program, model, x(5))
    assert torch.autocast_increment_nesting() == 1
    assert torch.autocast_decrement_nesting() == 0


def test_casts_are_kept_where_a_weight_is_used_twice() -> None:
    assert "keep_casts" in check(by_module).code

    def once(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with LOW():
            return m.linear(x).tanh()

    assert "keep_casts" not in check(once).code


def test_weights_that_change_are_cast_again() -> None:
    """Also after an error inside."""
    program, model = check(by_module).eval(), net(by_module).eval()
    model.load_state_dict(program.model_state_dict())
    with pytest.raises(RuntimeError, match="shape"):
        program(x(5, 7))
    for each in (program, model):
        with torch.no_grad():
            for parameter in each.parameters():
                parameter.mul_(1.5)
    assert torch.equal(program(x(5)), model(x(5)))


def test_a_cut_inside_an_island() -> None:
    """Each part is right; what follows from no weight is not shared by both."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Adds(lambda m, x, y: y.tanh()) for _ in range(4))
            self.shared, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            with LOW():
                x = self.shared(self.shared(x))
                for block in self.blocks:
                    x = block(x)
                return self.head(x)

    model = Whole()
    assert_equal(program_of(model), model, x(5))
    program = program_of(model, modules=2).eval()
    hidden = program.parts[0](x(5), head=False).hidden
    assert torch.equal(program.parts[1](hidden).logits, model.eval()(x(5)))
    assert torch.autocast_increment_nesting() == 1
    assert torch.autocast_decrement_nesting() == 0


class Decorated(nn.Module):
    """A residual block whose forward is decorated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x).tanh()


def test_a_decorated_forward() -> None:
    model = nn.Sequential(Decorated(), Decorated(), nn.Linear(8, 3))
    program = program_of(model)
    assert_equal(program, model, x(5))


def test_autocast_is_asked_for() -> None:
    """What code decides by whether autocast is on holds in both, or is refused in one."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y.float().exp() if torch.is_autocast_enabled("cpu") else y.exp()

    model = net(branch).eval()
    program = program_of(model).eval()
    assert torch.equal(program(x(5)), model(x(5)))


def test_code_without_gradients() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            target = m.linear(x).tanh() * 2
            with torch.enable_grad():
                also = m.linear(x)
        with torch.set_grad_enabled(x.shape[0] > 0):
            return y + also - target

    check(branch)


def by_hand(m: Any, x: Tensor, y: Tensor) -> Tensor:
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    target = m.linear(x).tanh()
    torch.set_grad_enabled(before)
    return y * target


def raising(m: Any, x: Tensor, y: Tensor) -> Tensor:
    before = torch.is_grad_enabled()
    try:
        torch.set_grad_enabled(mode=False)
        target = m.linear(x).tanh()
    finally:
        torch._C._set_grad_enabled(before)
    return y * target


def as_a_context(m: Any, x: Tensor, y: Tensor) -> Tensor:
    before = torch.is_grad_enabled()
    with torch.no_grad():
        target = m.linear(x).tanh()
        with torch.set_grad_enabled(before):
            y = y * m.linear(x)
        inner = torch.is_grad_enabled()
        torch.set_grad_enabled(inner)
        target = target + m.linear(target)
    return y * target


def twice(m: Any, x: Tensor, y: Tensor) -> Tensor:
    return by_hand(m, x, by_hand(m, x, y))


def in_one_mode(m: Any, x: Tensor, y: Tensor) -> Tensor:
    return by_hand(m, x, y) if m.training else y


@pytest.mark.parametrize("branch", [by_hand, raising, as_a_context, twice, in_one_mode])
def test_gradients_are_switched_by_hand(branch: Any) -> None:
    """And back to what they were, whatever that is where the program runs."""
    program = check(branch)
    model = net(branch)
    model.load_state_dict(program.model_state_dict())
    with torch.no_grad():
        assert torch.equal(program(x(5)), model(x(5)))
        assert not torch.is_grad_enabled()
    assert program(x(5)).requires_grad


def test_gradients_that_are_asked_for_and_decide() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        before = torch.is_grad_enabled()
        return y * 2 if before else y

    with pytest.raises(TraceError, match=r"asks for torch\.is_grad_enabled\(\) in 0 \(Adds\) at"):
        program_of(net(branch))
    check(lambda m, x, y: y * 2 if torch.is_grad_enabled() else y.mul(2))


def test_the_kernel_of_attention() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(y[None], y[None], y[None])[0]

    with pytest.raises(TraceError, match=r"changes settings of torch.*do so outside"):
        program_of(net(branch))
    model = net(branch, Apart)
    assert_equal(program_of(model), model, x(5))


class Frozen(nn.Module):
    """A residual block whose branch is not trained, by a decorated method."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    @torch.no_grad()
    def branch(self, x: Tensor) -> Any:
        return self.linear(x).relu()

    def forward(self, x: Tensor) -> Any:
        return x + self.branch(x)


def test_a_method_without_gradients() -> None:
    model = nn.Sequential(Frozen(), nn.Linear(8, 3))
    program = program_of(model)
    assert_equal(program, model, x(5))
    program(x(5)).sum().backward()
    assert program.get_parameter("0.linear.weight").grad is None


@pytest.mark.parametrize("times", [1, 2])
def test_a_compiler_follows_contexts_of_autocast(times: int) -> None:
    """The program and its parts are one graph each, also where a weight is cast once for two."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for _ in range(times):
                y = m.linear(y).relu()
        return y.float()

    model = net(branch)
    program = transportify(model, x(3), modules=2)
    compiled = torch.compile(program, backend="aot_eager", fullgraph=True)
    assert_identical(compiled(x(3)), model(x(3)))
    hidden: Any = x(3)
    for part in program.parts:
        found = torch.compile(part, backend="aot_eager", fullgraph=True)(hidden)
        expected = part(hidden)
        assert_identical(found.hidden, expected.hidden)
        hidden = expected.hidden.detach()
    torch._dynamo.reset()
