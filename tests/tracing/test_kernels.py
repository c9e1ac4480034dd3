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
from tests.tracing.blocks import net, x

GROUPED: Any = getattr(torch.ops.aten, "_grouped_mm", None)
ENDS = torch.tensor([2, 4], dtype=torch.int32)


def has_kernel() -> bool:
    """Whether torch multiplies groups of float32 on the CPU."""
    if GROUPED is None or not hasattr(nn.functional, "grouped_mm"):
        return False
    try:
        GROUPED(torch.zeros(4, 16), torch.zeros(2, 16, 16), ENDS)
    except RuntimeError:
        return False
    return True


needs_kernel = pytest.mark.skipif(not has_kernel(), reason="torch has no such kernel here")


class Experts(nn.Module):
    """One linear layer for each group of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 16, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        ends = (torch.arange(1, 3) * x.shape[0] // 2).to(torch.int32)
        return nn.functional.grouped_mm(x, self.weight, offs=ends)


class Mixture(nn.Module):
    """Adds what experts compute, or computes it itself."""

    def __init__(self, closed: bool) -> None:
        super().__init__()
        self.experts = Experts()
        self.closed = closed

    def forward(self, x: Tensor) -> Tensor:
        branch = self.experts(x) if self.closed else Experts.forward(self.experts, x)
        return x + branch


@needs_kernel
@pytest.mark.parametrize("closed", [True, False])
def test_grouped_products_of_floats(closed: bool, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(Mixture(closed), Mixture(closed), nn.Linear(16, 3))
    program = transportify(model, torch.zeros(4, 16))
    assert len(program.facts.residuals) == 2
    assert not caplog.records
    for given in (torch.randn(6, 16), torch.randn(8, 16)):
        assert_identical(program(given), model(given))


@needs_kernel
@pytest.mark.parametrize("strides", [((16, 1), (256, 16, 1)), ((1, 4), (256, 1, 16))])
def test_shapes_and_strides_are_the_real_ones(strides: Any) -> None:
    sizes = ((4, 16), (2, 16, 16))
    pairs = list(zip(sizes, strides, strict=True))
    real = GROUPED(*(torch.zeros(512).as_strided(*pair) for pair in pairs), ENDS)
    given = [torch.empty_strided(*pair, device="meta") for pair in pairs]
    found = run_without_data(GROUPED.default, (*given, ENDS.to("meta")), {})
    assert found.is_meta
    assert (found.shape, found.stride(), found.dtype) == (real.shape, real.stride(), real.dtype)


@needs_kernel
def test_fake_tensors_stay_fake() -> None:
    with FakeTensorMode() as mode:
        given = (torch.empty(4, 16), torch.empty(2, 16, 16), torch.empty(2, dtype=torch.int32))
        found = run_without_data(GROUPED.default, given, {})
    assert (found.fake_mode, tuple(found.shape)) == (mode, (4, 16))


def refusing(x: Tensor) -> Tensor:
    """A kernel that was written for one dtype."""
    raise RuntimeError(f"Expected BFloat16, got {x.dtype}")


def test_of_operators_of_others_nothing_is_known() -> None:
    """What they compute may have another shape for other values."""
    with torch.library._scoped_library("fxtransport_kernels", "DEF") as library:
        library.define("doubled(Tensor x) -> Tensor")
        library.impl("doubled", refusing, "Meta")
        library.impl("doubled", lambda x: x * 2, "CPU")
        operator = torch.ops.fxtransport_kernels.doubled.default
        with pytest.raises(RuntimeError, match=r"Expected BFloat16, got torch\.float32"):
            run_without_data(operator, (torch.empty(2, device="meta"),), {})


def test_what_both_kernels_refuse_is_refused_by_the_first() -> None:
    given = (torch.empty(2, 3, device="meta"), torch.empty(2, 3, device="meta"))
    with pytest.raises(RuntimeError, match=r"must have same reduction dim|size mismatch"):
        run_without_data(torch.ops.aten.mm.default, given, {})


def test_a_model_that_raises_is_refused_with_its_own_error() -> None:
    with pytest.raises(TraceError, match="The model itself raises"):
        transportify(net(lambda m, x, y: y @ x), x(2))
