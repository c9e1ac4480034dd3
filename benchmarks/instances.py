"""Many instances of one small network, trained together by ``torch.func``.

The program itself is what ``vmap`` maps: its generated code, its residues and its cost, with a
leading dimension for the instance. A step is traced once (``make_fx``), so that ``vmap`` and
autograd cost nothing when it runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from fxtransport import transportify
from fxtransport.program import PartOutput, Program
from fxtransport.residue import Measure

State = dict[str, Tensor]


class Whole(nn.Module):
    """``program.whole`` with the program inside, so that ``functional_call`` finds its tensors."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def forward(self, x: Tensor, measure: Measure | None) -> PartOutput:
        """What ``program.whole`` returns."""
        output: PartOutput = self.program.whole(x, measure=measure)
        return output


@dataclass
class Multipliers:
    """How each of N instances combines its loss L and its cost C: λL + μC, all of shape N.

    Vanilla: λ = 1, μ = 0. Fixed: λ = 1. LAP: μ = 1, and λ += τL after every s steps, from the
    first loss of the new parameters: Uzawa's method for C + λL (LAP 5.3, text).
    """

    loss: Tensor
    """λ."""
    cost: Tensor
    """μ."""
    rate: Tensor
    """τ; 0 where λ is fixed."""
    every: int
    """s."""
    steps: int = 0

    def next_rate(self) -> Tensor:
        """Count a step; τ if λ advances in it, else 0."""
        advances = self.steps > 0 and self.steps % self.every == 0
        self.steps += 1
        return self.rate * advances


class Instances:
    """N networks of one architecture, stacked. What is not trained is the first one's.

    The running statistics of batch norms are stacked like parameters. ``vmap`` maps over them,
    and the batch norm of each instance updates its own in place, as when it trains alone;
    evaluation uses them.

    Args:
        models: Models that differ only in their parameters and buffers.
        cost: The cost of each residual block.
    """

    def __init__(self, models: Sequence[nn.Module], cost: Measure) -> None:
        self.whole = Whole(transportify(models[0]))
        self.cost = cost
        trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
        parameters, buffers = stack_module_state(list(models))
        self.parameters: State = {
            f"program.{name}": parameters[name].detach().clone() for name in trained
        }
        self.buffers: State = {f"program.{name}": b.clone() for name, b in buffers.items()}
        self._traced: dict[torch.Size, fx.GraphModule] = {}

    def backward(self, x: Tensor, targets: Tensor, multipliers: Multipliers) -> Tensor:
        """Set every parameter's gradient; update running statistics and multipliers.

        Args:
            x: N×B×….
            targets: Classes, N×B.
            multipliers: Those of the N instances.

        Returns:
            The classification losses, N.
        """
        rate = multipliers.next_rate()
        inputs = (x, targets, multipliers.loss, multipliers.cost, rate)
        if x.shape not in self._traced:
            self.whole.train()
            # tracing runs the step, and batch norm must not see the batch twice
            buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
            self._traced[x.shape] = make_fx(self._step())(self.parameters, buffers, *inputs)
        step = self._traced[x.shape]
        gradients, (losses, multipliers.loss) = step(self.parameters, self.buffers, *inputs)
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name]
        return losses  # type: ignore[no-any-return]

    @torch.no_grad()
    def accuracies(self, x: Tensor, targets: Tensor) -> Tensor:
        """The accuracy in eval mode, N, of N×B×… inputs and N×B classes."""
        self.whole.eval()
        logits = vmap(self._logits)(self.parameters, self.buffers, x)
        return (logits.argmax(-1) == targets).float().mean(-1)

    def _step(self) -> Callable[..., tuple[State, tuple[Tensor, Tensor]]]:
        """A function of N instances: gradients by name, losses, new multipliers."""
        mapped = vmap(grad(self._loss, has_aux=True))

        def step(*args: Any) -> Any:  # make_fx counts arguments, and would count self
            return mapped(*args)

        return step

    def _loss(
        self,
        parameters: State,
        buffers: State,
        x: Tensor,
        targets: Tensor,
        multiplier: Tensor,
        cost: Tensor,
        rate: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What one instance minimizes; its classification loss and new multiplier."""
        state = (parameters, buffers)
        output = functional_call(self.whole, state, (x,), {"measure": self.cost})
        loss = F.cross_entropy(output.logits, targets)
        multiplier = multiplier + rate * loss.detach()
        total = multiplier * loss + cost * output.costs.sum()
        return total, (loss.detach(), multiplier)

    def _logits(self, parameters: State, buffers: State, x: Tensor) -> Tensor:
        output = functional_call(self.whole, (parameters, buffers), (x,), {"measure": None})
        return output.logits  # type: ignore[no-any-return]
