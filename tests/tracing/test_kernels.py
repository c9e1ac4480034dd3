"""Operators whose kernels for tensors without data refuse what the real ones take."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fxtransport import transportify
from fxtransport.errors import TraceError
from fxtransport.tracing.kernels import run_without_data
from tests.compiling import assert_identical
from tests.tracing.blocks import Adds, Apart, Function, assert_same, net, x

LIBRARY = torch.library.Library("fxtransport_kernels", "DEF")
for name in ("halved", "drawn"):
    LIBRARY.define(f"{name}(Tensor x) -> Tensor")
LIBRARY.define("added_(Tensor(a!) x) -> Tensor(a!)")


def refusing(x: Tensor) -> Tensor:
    """A kernel that was written for one dtype."""
    if x.dtype != torch.bfloat16:
        raise RuntimeError(f"Expected BFloat16, got {x.dtype}")
    return x.new_empty(x.shape[::-1])


def halved(x: Tensor) -> Tensor:
    """Half the numbers, transposed."""
    if x.dtype == torch.int64:
        raise RuntimeError("no kernel for integers")
    return (x / 2).t()


for name in ("halved", "added_"):
    LIBRARY.impl(name, refusing, "Meta")
LIBRARY.impl("halved", halved, "CPU")
LIBRARY.impl("added_", lambda x: x.add_(1), "CPU")


class Halved(torch.autograd.Function):
    """The operator, with a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.ops.fxtransport_kernels.halved(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad.t() / 2


CALLS: dict[str, Function] = {
    "once": lambda m, x, y: Halved.apply(y).t(),
    "twice": lambda m, x, y: Halved.apply(Halved.apply(y)),
    "of a part": lambda m, x, y: Halved.apply(y[:, ::2]).t().repeat(1, 2),
    "without a gradient": lambda m, x, y: y + torch.ops.fxtransport_kernels.halved(x.detach()).t(),
}


@pytest.mark.parametrize("kind", [Adds, Apart])
@pytest.mark.parametrize("name", CALLS)
def test_what_the_real_kernel_takes_is_taken(name: str, kind: Any) -> None:
    program = assert_same(net(CALLS[name], kind), x(5), example=(x(2),))
    assert len(program.facts.residuals) == 2


@pytest.mark.parametrize("stride", [(3, 1), (1, 5), (0, 1), (0, 0)])
def test_shapes_and_strides_are_the_real_ones(stride: tuple[int, int]) -> None:
    halved = torch.ops.fxtransport_kernels.halved.default
    real = halved(torch.zeros(20).as_strided((5, 3), stride))
    found = run_without_data(halved, (torch.empty_strided((5, 3), stride, device="meta"),), {})
    assert found.is_meta
    assert (found.shape, found.stride(), found.dtype) == (real.shape, real.stride(), real.dtype)


def test_fake_tensors_stay_fake() -> None:
    with FakeTensorMode() as mode:
        found = run_without_data(
            torch.ops.fxtransport_kernels.halved.default, (torch.empty(5, 0),), {}
        )
    assert (found.fake_mode, tuple(found.shape)) == (mode, (0, 5))


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("halved", torch.int64, "Expected BFloat16, got torch.int64"),
        ("added_", torch.float32, "Expected BFloat16, got torch.float32"),
        ("drawn", torch.float32, "drawn"),
    ],
)
def test_what_is_not_known_is_refused_by_the_first_error(
    name: str, dtype: torch.dtype, words: str
) -> None:
    operator = getattr(torch.ops.fxtransport_kernels, name).default
    with pytest.raises(RuntimeError, match=words):
        run_without_data(operator, (torch.empty(2, 2, dtype=dtype, device="meta"),), {})


class Experts(nn.Module):
    """One linear layer for each group of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.arange(1, 3, dtype=torch.int32) * (x.shape[0] // 2)
        return x + nn.functional.grouped_mm(x, self.weight, offs=ends)


@pytest.mark.skipif(not hasattr(nn.functional, "grouped_mm"), reason="not in this torch")
def test_grouped_products_of_floats(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(Experts(), Experts(), nn.Linear(16, 3))
    given = torch.randn(6, 16)
    program = transportify(model, torch.zeros(4, 16), verify=False)
    assert_identical(program(given), model(given))
    assert not caplog.records


def test_a_model_that_raises_is_refused_with_its_own_error() -> None:
    model = net(lambda m, x, y: y @ x)
    with pytest.raises(TraceError, match="The model itself raises"):
        transportify(model, x(2))
