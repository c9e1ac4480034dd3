"""Small networks with norms and activations that can be computed again, or not."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Steps(nn.Module):
    """Calls functions, one after the other, each of which is given the input and the module."""

    def __init__(self, *steps: Callable[["Steps", Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.steps = steps
        self.skip = torch.empty(0)
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        self.skip = x
        for step in self.steps:
            x = step(self, x)
        return x


def conv() -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1)


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    # and how many maps less are kept
    "relu in place": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(inplace=True), conv()),
        1,
    ),
    "relu": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv()), 1),
    "silu": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.SiLU(), conv()), 2),
    "leaky in place": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.LeakyReLU(0.1, inplace=True), conv()),
        1,
    ),
    "relu6": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU6(), conv()), 2),
    "silu in place": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.SiLU(inplace=True), conv()),
        2,
    ),
    "hardswish in place": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.Hardswish(inplace=True), conv()),
        2,
    ),
    "group norm": (lambda: nn.Sequential(conv(), nn.GroupNorm(2, 4), conv()), 1),
    "norm alone": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), conv()), 1),
    "without parameters": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4, affine=False), nn.ReLU(), conv()),
        1,
    ),
    "without statistics": (
        lambda: nn.Sequential(
            conv(), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(), conv()
        ),
        1,
    ),
    "layer norm": (lambda: nn.Sequential(conv(), nn.LayerNorm(6), conv()), 1),
    "gelu": (lambda: nn.Sequential(conv(), nn.GELU(), nn.Dropout(0.0), conv()), 1),
    "a view": (
        lambda: Steps(
            lambda net, x: net.norm(net.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            lambda net, x: net.last(x),
            conv=conv(),
            norm=nn.LayerNorm(4),
            last=nn.Conv2d(4, 4, 1),
        ),
        1,
    ),
    "sum": (
        lambda: Steps(
            lambda net, x: F.relu(net.norm(net.conv(x)) + net.skip),
            lambda net, x: net.last(x),
            conv=conv(),
            norm=nn.BatchNorm2d(4),
            last=conv(),
        ),
        1,
    ),
    "sum in place": (
        lambda: Steps(
            lambda net, x: net.norm(net.conv(x)).add_(net.skip).relu_(),
            lambda net, x: net.last(x),
            conv=conv(),
            norm=nn.BatchNorm2d(4),
            last=conv(),
        ),
        1,
    ),
    "a norm keeps it": (
        lambda: Steps(
            lambda net, x: net.norm(net.conv(x)) + net.skip.sin(),
            lambda net, x: net.other(x) * net.last(x),
            conv=conv(),
            norm=nn.BatchNorm2d(4),
            other=nn.BatchNorm2d(4),
            last=conv(),
        ),
        1,
    ),
    "gate": (
        lambda: Steps(
            lambda net, x: F.silu(net.norm(net.conv(x))),
            lambda net, x: x * net.gate(x.mean((2, 3), keepdim=True)).sigmoid(),
            lambda net, x: net.last(x),
            conv=conv(),
            norm=nn.BatchNorm2d(4),
            gate=nn.Conv2d(4, 4, 1),
            last=conv(),
        ),
        3,
    ),
    "two that keep it": (
        lambda: Steps(
            lambda net, x: F.relu(net.norm(net.conv(x))),
            lambda net, x: net.one(x) * net.two(x),
            conv=conv(),
            norm=nn.BatchNorm2d(4),
            one=conv(),
            two=conv(),
        ),
        1,
    ),
    "overwritten": (
        lambda: Steps(
            lambda net, x: net.norm(net.conv(x)).add_(1),
            lambda net, x: net.last(x),
            conv=conv(),
            norm=nn.BatchNorm2d(4),
            last=conv(),
        ),
        0,
    ),
    "not in train mode": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4).eval(), nn.ReLU(inplace=True), conv()),
        0,
    ),
    "checkpointed": (
        lambda: Steps(
            lambda net, x: checkpoint(net.inner, x, use_reentrant=False),
            inner=nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv()),
        ),
        0,
    ),
}
