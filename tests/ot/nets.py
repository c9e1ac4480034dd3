"""Networks with hidden neurons of each kind, and copies whose neurons stand in another order."""

from collections.abc import Callable

import torch
from timm.layers import Mlp
from timm.models.convnext import ConvNeXtBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fxtransport.ot.symmetry import HiddenLayer, permuted
from fxtransport.ot.symmetry.layers import random_orders


class Residual(nn.Module):
    """Adds what it is made of to its input."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y


class Mean(nn.Module):
    """The mean over positions: dimensions 2 and 3 of a map, 1 of tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.dim() == 4 else x.mean(1)


def mlp() -> nn.Sequential:
    """Three hidden layers that follow one another."""
    return nn.Sequential(
        nn.Linear(5, 9),
        nn.BatchNorm1d(9),
        nn.ReLU(),
        nn.Linear(9, 7),
        nn.Tanh(),
        nn.Linear(7, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Linear(6, 3),
    )


def convolutions() -> nn.Sequential:
    """A stem, a bottleneck block with norms, a block with a depthwise convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        Residual(
            nn.Conv2d(6, 5, 1, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, 4, 3, padding=1),
            nn.GroupNorm(1, 4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 1),
        ),
        Residual(
            nn.Conv2d(6, 8, 1),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.SiLU(),
            nn.AvgPool2d(3, 1, 1),
            nn.Conv2d(8, 6, 1),
        ),
        Mean(),
        nn.Linear(6, 3),
    )


def attention() -> nn.Sequential:
    """A block of timm's, with one matrix for queries, keys and values."""
    return nn.Sequential(nn.Linear(5, 12), Block(12, num_heads=3), Mean(), nn.Linear(12, 3))


def torch_attention() -> nn.Sequential:
    """A block of torch's."""
    block = nn.TransformerEncoderLayer(12, 3, dim_feedforward=10, batch_first=True)
    return nn.Sequential(nn.Linear(5, 12), block, Mean(), nn.Linear(12, 3))


def gated() -> nn.Sequential:
    """A hidden layer with global response normalization, one with a gate, in tokens."""
    block = ConvNeXtBlock(6, 6, mlp_ratio=2, use_grn=True)
    return nn.Sequential(nn.Conv2d(3, 6, 3), block, Mean(), Mlp(6, 10, 3))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (4, 5)),
    "convolutions": (convolutions, (2, 3, 6, 6)),
    "attention": (attention, (2, 4, 5)),
    "torch attention": (torch_attention, (2, 4, 5)),
    "gated": (gated, (2, 3, 6, 6)),
}
"""Networks with the shapes of their inputs."""


def built(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random numbers in all parameters and buffers, and inputs for it."""
    make, shape = NETS[name]
    net = make().eval()
    randomize(net)
    return net, torch.randn(shape)


def randomize(net: nn.Module) -> None:
    """Fill parameters and buffers; variances stay positive."""
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.3 if tensor.dim() < 2 else tensor)
            if tensor.dim() >= 2:
                tensor.copy_(torch.randn_like(tensor) / tensor[0].numel() ** 0.5)


def reordered(net: nn.Module, layers: tuple[HiddenLayer, ...]) -> dict[str, Tensor]:
    """The state of a copy whose neurons stand in another order."""
    generator = torch.Generator().manual_seed(7)
    state = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    for layer in layers:
        state = permuted(state, layer, random_orders(layer, generator))
    return state
