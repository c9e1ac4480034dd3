"""The linear layer at the end of a classifier, which some detectors need."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from fxtransport.errors import UsageError
from fxtransport.outputs import find_logits
from fxtransport.program import Program

PENULTIMATE = "penultimate"
"""The name of what enters the classifier, among activations and observations."""


@dataclass(frozen=True, eq=False)
class Head:
    """Logits are features times the weight, plus the bias.

    Attributes:
        weight: C×F, float32.
        bias: C, float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def of(cls, program: Program) -> "Head":
        """The head of a program, copied from its present weights.

        Raises:
            UsageError: the logits are not what a linear layer returns.
        """
        layer = _classifier(program)
        bias: torch.Tensor | None = layer.bias
        bias = torch.zeros(layer.out_features) if bias is None else bias
        return cls(*(_array(tensor) for tensor in (layer.weight, bias)))

    def module(self) -> nn.Linear:
        """The head as a module on the CPU, without gradients."""
        classes, width = self.weight.shape
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, width, classes)
        layer.weight = nn.Parameter(torch.from_numpy(self.weight.copy()), requires_grad=False)
        layer.bias = nn.Parameter(torch.from_numpy(self.bias.copy()), requires_grad=False)
        return layer


def _classifier(program: Program) -> nn.Linear:
    returned = program.facts.graph.output_node().args[0]
    node = find_logits(returned, lambda value: isinstance(value, fx.Node))
    if node is not None and node.op == "call_module":
        module = program.get_submodule(str(node.target))
        if isinstance(module, nn.Linear):
            return module
    raise UsageError(
        "the logits of the model are not what an nn.Linear returns; a detector that needs the "
        "classifier's weights cannot be used with it"
    )


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32, copy=True).numpy()
    return array
