"""Residues of real models are those that their blocks compute, by their own parts, by hand."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models import (
    cait,
    coat,
    convnext,
    crossvit,
    edgenext,
    nfnet,
    res2net,
    resnet,
    resnetv2,
    swin_transformer,
    vision_transformer,
    volo,
    xcit,
)
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from fxtransport import transportify
from tests.compiling import assert_identical

ByHand = Callable[..., Sequence[Tensor]]
"""From a block and what its forward is given to its residues, in order."""


def pre_norm(b: Any, x: Tensor) -> Sequence[Tensor]:
    """Attention, then MLP, each after a norm."""
    first = b.attn(b.norm1(x))
    return first, b.mlp(b.norm2(x + first))


def swin(b: Any, x: Tensor) -> Sequence[Tensor]:
    """Attention on a map of windows, MLP on its tokens."""
    first = b._attn(b.norm1(x))
    return first, b.mlp(b.norm2((x + first).flatten(1, 2)))


def conv_next(b: Any, x: Tensor) -> Sequence[Tensor]:
    branch = b.mlp(b.norm(b.conv_dw(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    return [branch * b.gamma.reshape(1, -1, 1, 1)]


def cross_attention(b: Any, x: Tensor) -> Sequence[Tensor]:
    return [b.attn(b.norm1(x))]


def conv_position(b: Any, x: Tensor, size: tuple[int, int]) -> Sequence[Tensor]:
    """On the map that the tokens but the first make up."""
    return [b.proj(x[:, 1:].transpose(1, 2).unflatten(2, size))]


def coat_serial(b: Any, x: Tensor, size: tuple[int, int]) -> Sequence[Tensor]:
    x = b.cpe(x, size)
    first = b.factoratt_crpe(b.norm1(x), size)
    return first, b.mlp(b.norm2(x + first))


def coat_parallel(b: Any, _: Tensor, *x: Tensor, sizes: Sequence[Any]) -> Sequence[Tensor]:
    """Three resolutions, each of which is added what all of them attend to."""

    def each(call: Callable[..., Tensor], tokens: Sequence[Tensor]) -> list[Tensor]:
        return [call(i, t, size) for i, t, size in zip("234", tokens, sizes[1:], strict=True)]

    def attended(i: str, tokens: Tensor, size: Any) -> Tensor:
        return getattr(b, f"factoratt_crpe{i}")(getattr(b, f"norm1{i}")(tokens), size=size)

    def mixed(i: str, tokens: Tensor, _: Any) -> Tensor:
        return getattr(b, f"mlp{i}")(getattr(b, f"norm2{i}")(tokens))

    two, three, four = each(attended, x)
    _, *size = sizes
    first = [
        two + b.upsample(three, 2.0, size[1]) + b.upsample(four, 4.0, size[2]),
        three + b.upsample(four, 2.0, size[2]) + b.downsample(two, 2.0, size[0]),
        four + b.downsample(three, 2.0, size[1]) + b.downsample(two, 4.0, size[0]),
    ]
    return [*first, *each(mixed, [a + r for a, r in zip(x, first, strict=True)])]


def basic(b: Any, x: Tensor) -> Sequence[Tensor]:
    """ResNet's, which adds and activates in place."""
    return [b.bn2(b.conv2(torch.relu(b.bn1(b.conv1(x)))))]


def res2(b: Any, x: Tensor) -> Sequence[Tensor]:
    """A hierarchy of slices inside the branch."""
    slices = b.relu(b.bn1(b.conv1(x))).split(b.width, dim=1)
    done: list[Tensor] = []
    for i, (conv, norm) in enumerate(zip(b.convs, b.bns, strict=True)):
        part = slices[i] if i == 0 or b.is_first else done[-1] + slices[i]
        done.append(torch.relu(norm(conv(part))))
    done.append(b.pool(slices[-1]) if b.pool is not None else slices[-1])
    return [b.bn3(b.conv3(torch.cat(done, dim=1)))]


def pre_activated(b: Any, x: Tensor) -> Sequence[Tensor]:
    out = b.conv1(b.norm1(x))
    return [b.conv3(b.norm3(b.conv2(b.norm2(out))))]


def norm_free(b: Any, x: Tensor) -> Sequence[Tensor]:
    out = b.conv1(b.act1(x.clone()) * b.beta)
    out = b.conv2(b.act2(out))
    if b.conv2b is not None:
        out = b.conv2b(b.act2b(out))
    out = b.conv3(b.act3(out if b.attn is None else b.attn_gain * b.attn(out)))
    if b.attn_last is not None:
        out = b.attn_gain * b.attn_last(out)
    if b.skipinit_gain is not None:
        out = out * b.skipinit_gain
    return [out * b.alpha]


def class_attention(b: Any, x: Tensor, token: Tensor) -> Sequence[Tensor]:
    """The skip is the class token alone."""
    first = b.gamma_1 * b.attn(b.norm1(torch.cat([token, x], dim=1)))
    return first, b.gamma_2 * b.mlp(b.norm2(token + first))


def self_attention(b: Any, x: Tensor) -> Sequence[Tensor]:
    first = b.gamma_1 * b.attn(b.norm1(x))
    return first, b.gamma_2 * b.mlp(b.norm2(x + first))


def class_slice(b: Any, x: Tensor) -> Sequence[Tensor]:
    """The skip is the class token's slice."""
    first = b.attn(b.norm1(x))
    return first, b.mlp(b.norm2(x[:, :1] + first))


def cross_covariance(b: Any, x: Tensor, height: int, width: int) -> Sequence[Tensor]:
    first = b.gamma1 * b.attn(b.norm1(x))
    x = x + first
    second = b.gamma3 * b.local_mp(b.norm3(x), height, width)
    return first, second, b.gamma2 * b.mlp(b.norm2(x + second))


def cross_covariance_class(b: Any, x: Tensor) -> Sequence[Tensor]:
    """All tokens are added to themselves, and the class token's MLP to it."""
    normed = b.norm1(x)
    first = b.gamma1 * torch.cat([b.attn(normed), normed[:, 1:]], dim=1)
    x = x + first
    token = b.gamma2 * b.mlp(b.norm2(x[:, :1]))
    return first, torch.cat([token, x[:, 1:]], dim=1)


def split_transpose(b: Any, x: Tensor) -> Sequence[Tensor]:
    """A residual inside the branch of another."""
    slices = x.chunk(len(b.convs) + 1, dim=1)
    done: list[Tensor] = []
    for i, conv in enumerate(b.convs):
        done.append(conv(done[-1] + slices[i] if i else slices[i]))
    x = torch.cat([*done, slices[-1]], dim=1)
    batch, channels, height, width = x.shape
    tokens = x.reshape(batch, channels, -1).permute(0, 2, 1)
    if b.pos_embd is not None:
        positions = b.pos_embd((batch, height, width)).reshape(batch, channels, -1)
        tokens = tokens + positions.permute(0, 2, 1)
    first = b.gamma_xca * b.xca(b.norm_xca(tokens))
    inside = (tokens + first).reshape(batch, height, width, channels)
    return first, (b.gamma * b.mlp(b.norm(inside))).permute(0, 3, 1, 2)


def edge_conv(b: Any, x: Tensor) -> Sequence[Tensor]:
    branch = b.conv_dw(x).permute(0, 2, 3, 1)
    return [(b.gamma * b.mlp(b.norm(branch))).permute(0, 3, 1, 2)]


BLOCKS: dict[type[nn.Module], ByHand] = {
    BasicBlock: basic,
    cait.LayerScaleBlock: self_attention,
    cait.LayerScaleBlockClassAttn: class_attention,
    coat.ConvPosEnc: conv_position,
    coat.ParallelBlock: coat_parallel,
    coat.SerialBlock: coat_serial,
    convnext.ConvNeXtBlock: conv_next,
    crossvit.CrossAttentionBlock: cross_attention,
    edgenext.ConvBlock: edge_conv,
    edgenext.SplitTransposeBlock: split_transpose,
    nfnet.NormFreeBlock: norm_free,
    res2net.Bottle2neck: res2,
    resnet.BasicBlock: basic,
    resnetv2.PreActBottleneck: pre_activated,
    swin_transformer.SwinTransformerBlock: swin,
    vision_transformer.Block: pre_norm,
    volo.ClassBlock: class_slice,
    volo.Outlooker: pre_norm,
    volo.Transformer: pre_norm,
    xcit.ClassAttentionBlock: cross_covariance_class,
    xcit.XCABlock: cross_covariance,
}


MODELS: dict[str, dict[str, Any]] = {
    "cait_xxs24_224": {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 64},
    "coat_tiny": {
        "serial_depths": (1, 2, 1, 1),
        "parallel_depth": 1,
        "embed_dims": (32,) * 4,
        "img_size": 64,
    },
    "convnext_tiny": {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)},
    "crossvit_tiny_240": {"depth": ((1, 1, 0), (1, 1, 1)), "embed_dim": (24, 48)},
    "deit_tiny_distilled_patch16_224": {"depth": 2, "img_size": 64},
    "dm_nfnet_f0": {},
    "edgenext_xx_small": {"depths": (1, 2, 2, 1)},
    "nf_resnet26": {},
    "res2net50_26w_4s": {"layers": (1, 1, 2, 1)},
    "resnet18": {},
    "resnetv2_50": {"layers": (1, 1, 1, 2)},
    "swin_tiny_patch4_window7_224": {
        "depths": (2, 2),
        "embed_dim": 24,
        "num_heads": (1, 2),
        "window_size": 4,
        "img_size": 64,
    },
    "vit_tiny_patch16_224": {"depth": 2, "img_size": 64},
    "volo_d1_224": {"img_size": 64},
    "xcit_nano_12_p16_224": {"depth": 2, "cls_attn_layers": 1, "embed_dim": 64, "img_size": 64},
}
"""Models of timm, small; with what their constructors are given."""
SLOW = {"coat_tiny", "dm_nfnet_f0", "nf_resnet26", "volo_d1_224"}


def residues_by_hand(model: nn.Module, x: Tensor) -> list[tuple[str, Tensor]]:
    """The path and residue of every addition, from what its block was given."""
    paths = {module: path for path, module in model.named_modules()}
    given: list[tuple[nn.Module, Any, Any]] = []
    done: list[tuple[nn.Module, Any, Any]] = []
    hooks = []

    def enter(block: nn.Module, args: Any, named: Any) -> None:
        # a copy, because what follows may overwrite it
        args = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
        given.append((block, args, named))

    def leave(*_: Any) -> None:
        done.append(given.pop())

    for module in model.modules():
        if type(module) in BLOCKS:
            hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(leave))
    model(x)
    for hook in hooks:
        hook.remove()
    return [
        (paths[block], residue)
        for block, args, named in done
        for residue in BLOCKS[type(block)](block, *args, **known_to(type(block), named))
    ]


def known_to(block: type[nn.Module], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a block's residues depend on; masks, of which there are none, do not."""
    parameters = inspect.signature(BLOCKS[block]).parameters
    return {name: value for name, value in named.items() if name in parameters}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in MODELS]
)
def test_residues_are_those_of_the_blocks(name: str) -> None:
    model = timm.create_model(name, num_classes=4, **MODELS[name])
    assert_by_hand(model, 240 if "240" in name else 64)


def test_residues_of_torchvision() -> None:
    assert_by_hand(torchvision.models.resnet18(num_classes=4), 64)


def assert_by_hand(model: nn.Module, size: int) -> None:
    """The residues of a model's program are, bit for bit, those of its own blocks."""
    wake(model)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        program = transportify(model.eval(), x, verify=False)
        by_hand = residues_by_hand(model, x)
        residues = program.transport(x).residues
    tapped = [r for r in program.facts.residuals if r.tapped]
    assert [r.path for r in tapped] == [path for path, _ in by_hand]
    assert [r.shape for r in tapped] == [residue.shape[1:] for _, residue in by_hand]
    assert_identical(list(residues), [residue for _, residue in by_hand])
    assert all(residue.count_nonzero() for residue in residues)


def wake(model: nn.Module) -> None:
    """Give parameters that start as zero or tiny, such as layer scales, other values."""
    for parameter in model.parameters():
        if parameter.abs().max() < 1e-3:
            nn.init.normal_(parameter)
