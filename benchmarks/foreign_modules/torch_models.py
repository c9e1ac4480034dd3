"""Whole models of torch's own tests: of quantization, of pruning, of distributed tensors."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.testing._internal import common_pruning, common_quantization
from torch.testing._internal.distributed._tensor import common_dtensor

from foreign_modules import Case, images, tensors

QUANTIZATION: dict[str, Callable[[int], Any]] = {
    "LinearAddModel": tensors((5,)),
    "LinearReluAddModel": tensors((5,)),
    "LinearBnLeakyReluModel": tensors((5,)),
    "LinearTanhModel": tensors((5,)),
    "LinearReluLinearModel": tensors((5,)),
    "LinearModelWithSubmodule": tensors((5,)),
    "ConvModel": images(10),
    "ConvTransposeModel": images(10),
    "ConvBnModel": images(10),
    "ConvBnReLUModel": images(10),
    "ConvReluModel": images(10),
    "ConvReluConvModel": images(10),
    "ConvReluAddModel": images(10),
    "ConvBnAddReluModel": tensors((5, 3, 3), (5, 2, 2)),
    "ActivationsTestModel": images(10),
    "NormalizationTestModel": lambda batch: torch.randn(batch, 5),
    "NestedModel": tensors((5,)),
    "SkipQuantModel": tensors((5,)),
    "InnerModule": tensors((5,)),
    "SubModelForFusion": images(8, 2),
    "SubModelWithoutFusion": images(8, 2),
    "ModelWithSequentialFusion": images(10),
    "ModelForLinearBNFusion": tensors((20,)),
    "ModelForConvTransposeBNFusion": tensors((3, 32)),
    "FunctionalLinear": tensors((5,)),
    "FunctionalLinearReluLinearModel": tensors((5,)),
    "FunctionalLinearAddModel": tensors((5,)),
    "FunctionalConvReluConvModel": images(10),
    "ResNetBase": images(16),
    "ModelMultipleOps": images(32),
    "ModelMultipleOpsNoAvgPool": images(32),
    "EmbeddingModule": lambda batch: torch.randint(0, 10, (batch, 6)),
    "EmbeddingWithStaticLinear": lambda batch: (
        torch.randint(0, 10, (3 * batch,)),
        torch.arange(0, 3 * batch, 3),
        torch.randn(batch, 4),
    ),
    "SparseNNModel": lambda batch: (
        torch.randint(0, 10, (3 * batch,)),
        torch.arange(0, 3 * batch, 3),
        torch.randn(batch, 4),
    ),
}
PRUNING: dict[str, Callable[[int], Any]] = {
    "SimpleLinear": tensors((7,)),
    "LinearActivationFunctional": tensors((7,)),
    "SimpleConv2d": images(12, 1),
    "Conv2dActivation": images(12, 1),
    "Conv2dPadBias": images(12, 1),
    "Conv2dPool": images(20, 1),
    "Conv2dPoolFlattenFunctional": images(20, 1),
    "Conv2dPoolFlatten": images(20, 1),
}


def _quantization(name: str) -> nn.Module:
    made: nn.Module = getattr(common_quantization, name)()
    return made


def _pruning(name: str) -> nn.Module:
    made: nn.Module = getattr(common_pruning, name)()
    return made


def _transformer(**options: Any) -> nn.Module:
    args = common_dtensor.ModelArgs(
        n_layers=2, vocab_size=32, max_seq_len=16, dim=16, n_heads=2, **options
    )
    made: nn.Module = common_dtensor.Transformer(args)
    return made


def _tokens(batch: int) -> torch.Tensor:
    return torch.randint(0, 32, (batch, 8))


def _lstm(name: str) -> nn.Module:
    made: nn.Module = getattr(common_pruning, name)(
        input_dim=5, hidden_dim=8, output_dim=4, num_layers=2
    )
    return made


RESIDUALS = {
    "quantization.ResNetBase": 1,
    "distributed.Transformer": 4,
    "distributed.Transformer causal": 4,
    "distributed.Transformer tied": 4,
    "quantization.ConvModel": 0,
    "pruning.SimpleLinear": 0,
    "quantization.FunctionalLinearReluLinearModel": 0,
}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, inputs in QUANTIZATION.items():
        yield Case(f"quantization.{name}", lambda n=name: _quantization(n), inputs)
    for name, inputs in PRUNING.items():
        yield Case(f"pruning.{name}", lambda n=name: _pruning(n), inputs)
    for name in ("LSTMLinearModel", "LSTMLayerNormLinearModel"):
        yield Case(f"pruning.{name}", lambda n=name: _lstm(n), tensors((6, 5)))
    yield Case("distributed.Transformer", _transformer, _tokens)
    yield Case(
        "distributed.Transformer causal",
        lambda: _transformer(use_attn_mask=True, dropout_p=0.0),
        _tokens,
    )
    yield Case(
        "distributed.Transformer tied",
        lambda: _transformer(weight_tying=True, checkpoint_activations=True),
        _tokens,
    )
    yield Case("distributed.MLPModule", lambda: common_dtensor.MLPModule("cpu"), tensors((10,)))
    yield Case("distributed.MLPStacked", lambda: common_dtensor.MLPStacked("cpu"), tensors((10,)))


REFUSED = {
    "quantization.ConvReluAddModel": "assigns a module in forward",
    "quantization.LinearReluAddModel": "assigns a module in forward",
}
