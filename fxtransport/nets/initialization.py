"""The initialization of the papers."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError

Method = Literal["orthogonal", "kaiming", "normal"]
Model = TypeVar("Model", bound=nn.Module)

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm)


def initialize(model: Model, method: Method = "orthogonal", gain: float = 1.0) -> Model:
    """Initialize the weights of a model as the papers do, in place, and return the model.

    Weights of linear layers and convolutions are drawn, and their biases become 0. Norms become
    the identity. All other parameters, such as position embeddings, and those without gradient
    stay as they are.

    Args:
        model: Any model.
        method: ``orthogonal`` (Saxe et al. 2014), with filters as rows; ``kaiming``, normal by
            the fan-out, for ReLU; or ``normal``, N(0, gain²).
        gain: The factor of the weights. THESIS has orthogonal with 0.01 (LAP), 0.1 (TRGL) and
            0.05 (block-wise, detector).

    Raises:
        UsageError: there is no such method.
    """
    fill = _fill(method, gain)
    for module in model.modules():
        if isinstance(module, WEIGHTED) and module.weight.requires_grad:
            fill(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, NORMS) and module.weight is not None:
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def _fill(method: Method, gain: float) -> Callable[[Tensor], Tensor]:
    match method:
        case "orthogonal":
            return partial(nn.init.orthogonal_, gain=gain)
        case "normal":
            return partial(nn.init.normal_, std=gain)
        case "kaiming":
            return partial(_kaiming, gain=gain)
    raise UsageError(f"init is one of orthogonal, kaiming, normal, not {method!r}")


@torch.no_grad()
def _kaiming(weight: Tensor, gain: float) -> Tensor:
    return nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu").mul_(gain)
