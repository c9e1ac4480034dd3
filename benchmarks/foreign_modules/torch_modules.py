"""The modules of torch.nn, with the inputs that torch's own tests give them.

The inputs of the first test of each module that takes tensors are repeated along the batch.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.testing._internal.common_modules import ModuleInfo, module_db

from foreign_modules import Case

NAMES = """
    AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool1d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d
    CELU Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d CosineEmbeddingLoss ELU
    L1Loss Linear Bilinear LPPool2d MaxPool2d KLDivLoss MSELoss BCELoss
    CrossEntropyLoss GELU GLU GroupNorm Hardswish InstanceNorm2d LocalResponseNorm LayerNorm
    RMSNorm TransformerEncoder TransformerEncoderLayer TransformerDecoderLayer Transformer
    MultiheadAttention Embedding ReLU PReLU RNNCell GRUCell LSTMCell Softmax Softmax2d Softplus
    Tanh Threshold Mish RNN GRU LSTM ReflectionPad2d ReplicationPad2d ZeroPad2d CircularPad2d
""".split()


def _first(info: ModuleInfo) -> tuple[Any, dict[str, Any]] | None:
    """How the first test with batched tensors makes the module, and what forward is given."""
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    )
    for one in inputs:
        args, named = one.forward_input.args, one.forward_input.kwargs
        if named and args:
            continue
        # by position where the names are those of the first arguments
        first = list(inspect.signature(info.module_cls.forward).parameters)[1:]
        positional = first[: len(named)] == list(named)
        given = tuple(named.values()) if positional else dict(named)
        given = tuple(args) or given
        values = given.values() if isinstance(given, dict) else given
        tensors = [x for x in values if isinstance(x, torch.Tensor)]
        if tensors and len(tensors) == len(values) and all(x.dim() > 1 for x in tensors):
            return one.constructor_input, given
    return None


def _resized(x: torch.Tensor, batch: int) -> torch.Tensor:
    return torch.cat([x] * -(-batch // x.shape[0]))[:batch]


def _case(name: str, info: ModuleInfo) -> Case | None:
    torch.manual_seed(0)
    first = _first(info)
    if first is None:
        return None
    made, given = first

    def build() -> nn.Module:
        built = info.module_cls(*made.args, **made.kwargs)
        assert isinstance(built, nn.Module)
        return built

    def inputs(batch: int) -> Any:
        if isinstance(given, dict):
            return {key: _resized(x, batch) for key, x in given.items()}
        return tuple(_resized(x, batch) for x in given)

    return Case(f"nn.{name}", build, inputs)


def cases() -> Iterator[Case]:
    """All of them."""
    by_name = {info.name: info for info in module_db}
    for name in NAMES:
        case = _case(name, by_name[f"nn.{name}"])
        if case is not None:
            yield case
