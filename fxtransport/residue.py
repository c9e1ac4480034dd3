"""A residual block as a transport cost sees it, and the powers of residues that costs are."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F

from fxtransport.ir import Kind

Reduction = Literal["mean", "sum"]
"""Over batch, channels and positions; or over channels and positions, averaged over the batch."""


class Recompute(NamedTuple):
    """How a residue is computed again in backward, from tensors that are kept anyway."""

    function: Callable[..., torch.Tensor]
    """Of a factor, a scalar, and the tensors; the residue times the factor, in new memory."""
    tensors: tuple[torch.Tensor, ...]


class Residue:
    """The values of one residual block x_{m+1} = x_m + r_m(x_m) (THESIS 2.1).

    Of a block that ends in an activation, x_{m+1} = σ(x_m + r_m(x_m)). An equal-dimension
    layer x_{m+1} = g_m(x_m) is a block of kind ``identity`` whose branch is its displacement.

    Args:
        kind: What the skip operand is.
        branches: The other operands of the addition; none of an equal-dimension layer.
        skip: x_m; of a projection, what becomes of x_m on the skip path.
        output: x_{m+1}, of the same shape.
        kept: Whether x_m and x_{m+1} are kept for backward anyway, so that residues that
            follow from them need not be saved.
        activated: Whether an activation lies between the sum and x_{m+1}.
    """

    __slots__ = ("_activated", "_branches", "_kept", "kind", "output", "skip")

    def __init__(
        self,
        kind: Kind,
        branches: tuple[torch.Tensor, ...],
        skip: torch.Tensor,
        output: torch.Tensor,
        kept: bool = False,
        activated: bool = False,
    ) -> None:
        self.kind = kind
        self.skip = skip
        self.output = output
        self._branches = branches
        self._kept = kept
        self._activated = activated

    @property
    def branch(self) -> torch.Tensor:
        """r_m(x_m), as it is added to the skip; of a layer, the displacement."""
        if not self._branches:
            return self.displacement
        total = self._branches[0]
        for branch in self._branches[1:]:
            total = total + branch
        return total

    @property
    def displacement(self) -> torch.Tensor:
        """x_{m+1} - x_m; only of kind ``identity``, for other skips are not x_m itself."""
        return self.output - self.skip

    @property
    def branch_again(self) -> Recompute | None:
        """How the branch is computed again without saving it; None if it has to be saved.

        From x_{m+1} - x_m the branch comes out up to rounding, relative to x_{m+1}.
        """
        again = batch_norm_again(self._branches[0]) if len(self._branches) == 1 else None
        if again is None and not self._activated:
            return self.displacement_again
        return again

    @property
    def displacement_again(self) -> Recompute | None:
        """How the displacement is computed again without saving it, bit for bit."""
        tensors = (self.output.detach(), self.skip.detach())
        # in half precision the difference of two large numbers is not the small one
        exact = all(t.dtype in (torch.float32, torch.float64) for t in tensors)
        return Recompute(_difference, tensors) if self._kept and exact else None


_BATCH_NORMS = frozenset(
    {"NativeBatchNormBackward0", "CudnnBatchNormBackward0", "MiopenBatchNormBackward0"}
)
"""Batch normalisations, as nodes of the autograd graph."""


def batch_norm_again(normalised: torch.Tensor) -> Recompute | None:
    """How the result of a batch normalisation is computed again, up to rounding.

    Its node in the autograd graph keeps what it reads and the statistics of the batch anyway.
    What is left to compute is (x - mean)·a + bias for each channel.

    Args:
        normalised: B×C×positions.

    Returns:
        None if it is no result of a batch normalisation in train mode with parameters that
        learn, or without parameters.
    """
    if _is_transformed():
        return None
    node: Any = normalised.grad_fn
    if node is None or node.name() not in _BATCH_NORMS or not node._saved_training:
        return None
    with torch.no_grad():
        x, mean, a = node._saved_input.detach(), node._saved_result1, node._saved_result2
        weight, learner = node._saved_weight, node.next_functions[2][0]
        if weight is None:
            return Recompute(_affine, (x, mean, a, torch.zeros_like(a)))
        bias = getattr(learner, "variable", None)
        if bias is None:
            return None
        # a copy, because the batch norm itself does not mind if its bias changes before backward
        return Recompute(_affine, (x, mean, weight * a, bias.clone()))


def _affine(
    factor: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, a: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """(x - mean)·a + bias for each channel, in one pass: batch normalisation by variance 1."""
    return F.batch_norm(x, mean, torch.ones_like(a), a * factor, bias * factor, eps=0.0)


def _scaled(factor: torch.Tensor, residue: torch.Tensor) -> torch.Tensor:
    return residue * factor


def _difference(factor: torch.Tensor, output: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    return (output - skip).mul_(factor)


Cost = Callable[[Residue], torch.Tensor | None]
"""What a residual block costs, a scalar; None where it is not penalised."""


def power_cost(
    residue: torch.Tensor, p: float, reduction: Reduction, again: Recompute | None = None
) -> torch.Tensor:
    """The p-th powers of a residue, B×…, reduced to a scalar, in float32 at least.

    For backward nothing is saved but the residue, or, if ``again`` says how to compute it
    again, not even that; so it can be differentiated once. Where torch compiles or transforms
    functions, it is a plain formula, and what to save is left to torch.
    """
    if _is_transformed():
        return _reduced(residue, p, reduction)
    cost: torch.Tensor = _PowerCost.apply(residue, p, reduction, again)
    return cost


def _is_transformed() -> bool:
    """Whether torch compiles, or transforms functions: then it decides what is saved."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def mean_square(residue: torch.Tensor) -> torch.Tensor:
    """The mean over batch, channels and positions of the squared residue, in float32 at least.

    The energy of a block as the authors' released code takes it (methods: LAP 5.3).
    """
    return _reduced(residue, 2, "mean")


def mean_square_branch(residue: Residue) -> torch.Tensor:
    """The mean square of a block's branch: what the modules of a program return by default."""
    return power_cost(residue.branch, 2, "mean", residue.branch_again)


def _reduced(residue: torch.Tensor, p: float, reduction: Reduction) -> torch.Tensor:
    if residue.dtype in (torch.float16, torch.bfloat16):
        residue = residue.float()
    powers = residue.square() if p == 2 else residue.abs().pow(p)
    return powers.mean() if reduction == "mean" else powers.sum() / residue.shape[0]


class _PowerCost(torch.autograd.Function):
    """Saves the residue as it is, or what it is computed again from, and no square of it."""

    @staticmethod
    def forward(
        ctx: Any, residue: torch.Tensor, p: float, reduction: Reduction, again: Recompute | None
    ) -> torch.Tensor:
        ctx.p = p
        ctx.count = residue.numel() if reduction == "mean" else residue.shape[0]
        ctx.dtype = residue.dtype
        function, tensors = again or Recompute(_scaled, (residue,))
        ctx.again = function
        ctx.save_for_backward(*tensors)
        return _reduced(residue, p, reduction)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """p·|r|^(p-1)·sign(r), over the count."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "what a module's residual blocks cost can be differentiated once, for its "
                "residues are not kept; for second derivatives use program.transport"
            )
        factor = grad * (ctx.p / ctx.count)
        if ctx.p == 2:
            slope = ctx.again(factor, *ctx.saved_tensors)
        else:
            residue = ctx.again(torch.ones_like(factor), *ctx.saved_tensors)
            slope = (residue.sign() * residue.abs().pow_(ctx.p - 1)).mul_(factor)
        return slope.to(ctx.dtype), None, None, None


def measured(
    cost: Cost | None,
    kind: str,
    branches: tuple[torch.Tensor, ...],
    skip: torch.Tensor,
    output: torch.Tensor,
    kept: bool,
    activated: bool,
) -> torch.Tensor | None:
    """What a residual block costs; None if nothing is to be measured. Generated code calls it."""
    if cost is None:
        return None
    return cost(Residue(Kind(kind), branches, skip, output, kept, activated))


def copied(cost: Cost | None, value: torch.Tensor) -> torch.Tensor | None:
    """A copy of what the model overwrites before it is measured, if it is to be measured."""
    return None if cost is None else value.clone()
