"""What a residue is computed from, so that it need not be saved for its own gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def at_least_single(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 if it is in half precision, in which sums of squares overflow."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class Source:
    """What a residue is recomputed from in backward: here, the residue itself."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._tensors = tensors

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What is saved for backward; at best, only what is saved anyway."""
        return self._tensors

    @staticmethod
    def again(scalar: torch.Tensor, factor: float, *tensors: torch.Tensor) -> torch.Tensor:
        """The residue times a scalar and a factor, in new memory, from what was saved."""
        (residue,) = tensors
        return residue * (scalar * factor)

    def mean_square(self, *tensors: torch.Tensor) -> torch.Tensor | None:
        """The mean of the squared residue, if it follows from less than the residue."""
        return None


class Difference(Source):
    """For the residue x_{m+1} - x_m: the two tensors."""

    def __init__(self, output: torch.Tensor, skip: torch.Tensor) -> None:
        super().__init__(output.detach(), skip.detach())

    @staticmethod
    def again(scalar: torch.Tensor, factor: float, *tensors: torch.Tensor) -> torch.Tensor:
        """The difference times a scalar and a factor."""
        output, skip = tensors
        return (output - skip).mul_(scalar * factor)


_EPSILON = {
    "NativeBatchNormBackward0": "_saved_eps",
    "CudnnBatchNormBackward0": "_saved_epsilon",
    "MiopenBatchNormBackward0": "_saved_epsilon",
}
"""Batch normalizations as nodes of the autograd graph, and the attribute that holds ε of each."""


class BatchNorm(Source):
    """For a residue w·(x - mean)/√(var + ε) + b: what its autograd node has saved.

    Over batch and positions, (x - mean)/√(var + ε) has the mean 0 and the mean square
    var/(var + ε), so that of a channel of the residue is w²·var/(var + ε) + b².
    """

    def __init__(
        self, node: Any, epsilon: float, weight: torch.Tensor | None, bias: torch.Tensor | None
    ) -> None:
        super().__init__()
        self._node = node
        self.epsilon = epsilon
        self._weight = weight
        self._bias = bias

    @property
    def parameters(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The learnable w and b, if it has them."""
        weight, bias = self._weight, self._bias
        return None if weight is None or bias is None else (weight, bias)

    @classmethod
    def of(cls, residue: torch.Tensor) -> "BatchNorm | None":
        """The source of a residue, B×C×positions.

        Returns:
            None if it is not the result of a batch normalization in train mode, with learnable
            parameters or without any.
        """
        node: Any = residue.grad_fn
        epsilon = None if node is None else _EPSILON.get(node.name())
        if epsilon is None or not node._saved_training:
            return None
        # for learnable parameters, the node that accumulates their gradients
        accumulator = node.next_functions[2][0]
        weight, bias = node._saved_weight, getattr(accumulator, "variable", None)
        if (weight is None) != (bias is None) or (bias is None) != (accumulator is None):
            return None
        return cls(node, getattr(node, epsilon), weight, bias)

    def centered(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The input x and its mean."""
        return self._node._saved_input, self._node._saved_result1

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The input x, its mean, w/√(var + ε) and b."""
        scale = self._node._saved_result2
        if self._weight is None or self._bias is None:
            return *self.centered(), scale, torch.zeros_like(scale)
        return *self.centered(), self._weight * scale, self._bias

    def rows(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """w, b and 1/√(var + ε); ones and zeros if it has no parameters."""
        deviation = self._node._saved_result2
        if self._weight is None or self._bias is None:
            return torch.ones_like(deviation), torch.zeros_like(deviation), deviation
        return self._weight, self._bias, deviation

    @staticmethod
    def again(scalar: torch.Tensor, factor: float, *tensors: torch.Tensor) -> torch.Tensor:
        """(x - mean)·scale + b, times a scalar and a factor."""
        x, mean, scale, bias = tensors
        zero = torch.zeros_like(scale)
        # the same kernel twice: after a convolution, the first call of a kernel must fetch its code
        w = torch.addcmul(zero, scale, scalar, value=factor)
        b = torch.addcmul(zero, bias, scalar, value=factor)
        return BatchNorm.normalized(x, mean, w, b, zero)

    @staticmethod
    def normalized(
        x: torch.Tensor,
        mean: torch.Tensor,
        scale: torch.Tensor,
        shift: torch.Tensor,
        zero: torch.Tensor,
    ) -> torch.Tensor:
        """(x - mean)·scale + shift in one pass over x: a batch normalization of variance 1."""
        return torch.native_batch_norm(x, scale, shift, mean, zero, False, 0.0, 1.0)[0]

    def in_one_pass(self) -> Callable[[], torch.Tensor]:
        """Computes the result again, from the mean and the variance of the first time."""
        x, mean = (tensor.detach() for tensor in self.centered())
        weight, bias, deviation = (tensor.detach() for tensor in self.rows())

        def again() -> torch.Tensor:
            scale, zero = weight * deviation, torch.zeros_like(mean)
            return BatchNorm.normalized(x, mean, scale, bias, zero)

        return again

    def once_more(self) -> Callable[[], torch.Tensor]:
        """Computes the result as the first time, and no running statistics."""
        x = self.centered()[0].detach()
        weight, bias, epsilon = self._weight, self._bias, self.epsilon

        def again() -> torch.Tensor:
            with torch.no_grad():
                return F.batch_norm(x, None, None, weight, bias, training=True, eps=epsilon)

        return again

    def mean_square(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The mean of w² + b² - ε·w²/(var + ε), up to float noise relative to w²."""
        _, _, scale, bias = tensors
        weight = torch.ones_like(scale) if self._weight is None else self._weight
        scale, bias, weight = map(at_least_single, (scale, bias, weight))
        return self.mean_squares(weight, bias, scale, self.epsilon)

    @staticmethod
    def mean_squares(
        weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        """The same for one batch norm, C, or several, M×C: M."""
        squares = torch.addcmul(bias * bias, weight, weight)
        return squares.addcmul_(scale, scale, value=-epsilon).mean(-1)
