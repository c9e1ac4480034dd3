"""Monitors: numbers of a program that are measured after every epoch, for ``metrics.csv``."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport.errors import UsageError
from fxtransport.modes import eval_mode
from fxtransport.outputs import find_logits
from fxtransport.program import Program
from fxtransport.residue import Residue
from fxtransport.training.devices import move_to, program_device

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_DEGENERATE = 1e-10
"""An eigenvalue below this share of the mean one counts as 0."""


class Monitor(Protocol):
    """Measures a program after every epoch."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its numbers, which are columns of ``metrics.csv``."""
        ...

    def measure(self, program: Program) -> Mapping[str, float | None]:
        """The numbers, by name; the program must be left as it was."""
        ...


class DegenerateFeaturesWarning(UserWarning):
    """The features of a batch are linearly dependent, so no bound on the gradient follows."""


class PolyakLojasiewicz:
    """Watches the Polyak-Łojasiewicz inequality ‖∇L‖² ≥ c·L (COT, section 4).

    The outer linear map of a residual block is the last linear layer or convolution of its
    branch, and what enters it are its features φ, averaged over positions. The kernel of a
    block is K_ij = ⟨φ_i, φ_j⟩ over the N samples of a batch. The gradient with respect to an outer
    map on vectors is Σ_i g_i φ_iᵀ, with g_i the gradient with respect to its output, so
    ‖∇L‖² ≥ Σ_m λ_min(K_m)·Σ_i ‖g_i‖² over blocks m.

    In eval mode; columns of ``metrics.csv``:

    ``pl_eigenvalue``: the smallest eigenvalue of the kernel averaged over blocks;
    ``pl_ratio``: ‖∇L‖²/L over all parameters that train;
    ``pl_bound``: what the inequality above says that this ratio is at least; empty where an outer
    map has positions, for which it does not hold.

    Args:
        inputs: N samples. More than there are features make the kernel singular.
        targets: N classes, or N×classes probabilities; or whatever the loss takes.
        loss: The mean loss of logits and targets; its least value must be 0.

    Raises:
        UsageError: there are no samples, or not as many targets.
    """

    columns: tuple[str, ...] = ("pl_eigenvalue", "pl_ratio", "pl_bound")

    def __init__(
        self,
        inputs: Any,
        targets: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    ) -> None:
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        if not len(targets) or len(first) != len(targets):
            raise UsageError(
                f"a batch has as many inputs as targets, not {len(first)} and {len(targets)}"
            )
        self._inputs = inputs
        self._targets = targets
        self._loss = loss
        self._warned = False

    def measure(self, program: Program) -> Mapping[str, float | None]:
        """Measure the inequality on the batch; warns once where features are degenerate.

        Raises:
            UsageError: no block has an outer linear map, or the program returns no logits.
        """
        device = program_device(program)
        inputs, targets = move_to(self._inputs, device), move_to(self._targets, device)
        with eval_mode(program), torch.enable_grad(), _outer_maps(program) as maps:
            given = inputs if isinstance(inputs, tuple) else (inputs,)
            returned, _ = program(*given, measure=maps)
            logits = find_logits(returned, lambda value: isinstance(value, Tensor))
            if logits is None or not maps.found:
                raise UsageError(
                    "the Polyak-Łojasiewicz inequality needs logits, and residual blocks with a "
                    "linear layer or convolution in their branch"
                )
            loss = self._loss(logits, targets)
            squares, of_outputs = _gradients(program, loss, [output for _, output in maps.found])
        kernels = [_kernel(features) for features, _ in maps.found]
        smallest = [float(torch.linalg.eigvalsh(kernel)[0]) for kernel in kernels]
        mean = torch.stack(kernels).mean(0)
        eigenvalue = float(torch.linalg.eigvalsh(mean)[0])
        self._check(eigenvalue, mean)
        bound = None
        if all(features.dim() == 2 for features, _ in maps.found):
            pairs = zip(smallest, of_outputs, strict=True)
            bound = sum(max(least, 0.0) * own for least, own in pairs) / loss.item()
        return {
            "pl_eigenvalue": eigenvalue,
            "pl_ratio": squares / loss.item(),
            "pl_bound": bound,
        }

    def _check(self, eigenvalue: float, kernel: Tensor) -> None:
        if self._warned or eigenvalue > _DEGENERATE * float(kernel.diagonal().mean()):
            return
        self._warned = True
        warnings.warn(
            f"the features of the {len(kernel)} samples are linearly dependent (smallest "
            f"eigenvalue {eigenvalue:.2g}), so that no bound on the gradient follows: give fewer "
            "samples, or a wider network",
            DegenerateFeaturesWarning,
            stacklevel=3,
        )


class _OuterMaps:
    """Notes, of each residual block, the last linear map that ran before its sum."""

    def __init__(self) -> None:
        self.found: list[tuple[Tensor, Tensor]] = []
        """What entered each outer map, and what it returned."""
        self._last: tuple[Tensor, Tensor] | None = None

    def hook(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """A linear map ran."""
        self._last = (inputs[0], output)

    def __call__(self, residue: Residue) -> None:
        if self._last is not None and self._last[1].shape == residue.output.shape:
            self.found.append(self._last)
        self._last = None


@contextmanager
def _outer_maps(program: Program) -> Iterator[_OuterMaps]:
    found = _OuterMaps()
    linear = [module for module in program.modules() if isinstance(module, _LINEAR)]
    hooks = [module.register_forward_hook(found.hook) for module in linear]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _gradients(program: Program, loss: Tensor, outputs: list[Tensor]) -> tuple[float, list[float]]:
    """‖∇L‖² over all parameters that train, and over each of some outputs."""
    parameters = [p for p in program.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [*parameters, *outputs], allow_unused=True)
    # torch's annotations do not tell that what is unused has None
    gradients: tuple[Tensor | None, ...] = found
    squares = [0.0 if g is None else float(g.double().square().sum()) for g in gradients]
    return sum(squares[: len(parameters)]), squares[len(parameters) :]


def _kernel(features: Tensor) -> Tensor:
    """The inner products of samples, N×N, float64; features are averaged over positions."""
    value = features.detach().double()
    if value.dim() == 3:
        value = value.mean(1)
    elif value.dim() > 3:
        value = value.flatten(2).mean(2)
    return value @ value.T
