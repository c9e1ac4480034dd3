"""The networks of the papers, by their names."""

import torch
from torch import nn

from fxtransport.errors import UsageError
from fxtransport.heads import DglHead
from fxtransport.nets.blocks import (
    BasicBlock,
    LinearBlock,
    Network,
    PreActBlock,
    Shortcut,
    conv3x3,
    norm2d,
)
from fxtransport.nets.initialization import Method, initialize


def resnet_m(
    blocks: int = 9,
    *,
    channels: int = 32,
    in_chans: int = 1,
    image_size: int = 28,
    num_classes: int = 10,
    batch_norm: bool = True,
    encoder_norm: bool = True,
    pre_activation: bool = True,
    init: Method | None = "orthogonal",
    gain: float = 0.01,
) -> Network:
    """The single-representation ResNet-M (LAP 6, THESIS 3.5.1).

    Two convolutions encode the image at half its size, ``blocks`` residual blocks keep that
    shape, and two linear layers with batch norm and ReLU between classify. The papers have 9
    blocks, and 32 channels for MNIST or 100 for CIFAR. From the authors' programs: the kernels
    of the encoder (3 and 5), its 16 = 32 / 2 hidden channels, and the 10 · num_classes features
    in the head.

    Args:
        blocks: The number of blocks, M.
        channels: The channels of all blocks.
        in_chans: The channels of the image.
        image_size: The height and width of the image, even.
        num_classes: The number of logits.
        batch_norm: Whether encoder, blocks and head have batch norm.
        encoder_norm: If False, the encoder's convolutions have biases in place of batch norm,
            as in the authors' program for MNIST.
        pre_activation: Whether blocks are :class:`PreActBlock` or :class:`BasicBlock`.
        init: The method of :func:`initialize`; torch's own initialization if None.
        gain: The gain of :func:`initialize`.

    >>> resnet_m(image_size=8)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])

    Raises:
        UsageError: there are no blocks, or the size of the image is odd.
    """
    _require(blocks >= 1, f"a network has one block or more, not {blocks}")
    _require(image_size % 2 == 0, f"image_size must be even, not {image_size}")
    inside = max(1, channels // 2)
    normed, bias = batch_norm and encoder_norm, not encoder_norm
    encoder = nn.Sequential(
        nn.Conv2d(in_chans, inside, 3, padding=1, bias=bias),
        norm2d(inside, normed),
        nn.ReLU(inplace=True),
        nn.Conv2d(inside, channels, 5, stride=2, padding=2, bias=bias),
        norm2d(channels, normed),
        nn.ReLU(inplace=True),
    )
    hidden = 10 * num_classes
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * (image_size // 2) ** 2, hidden),
        nn.BatchNorm1d(hidden) if batch_norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, num_classes),
    )
    stage = _stage(blocks, channels, batch_norm, pre_activation)
    size = (in_chans, image_size, image_size)
    model = Network(encoder, stage, head, input_size=size, num_classes=num_classes)
    return _initialized(model, init, gain)


def km_resnet(
    k: int = 10,
    m: int = 1,
    *,
    channels: int = 256,
    in_chans: int = 3,
    image_size: int = 32,
    num_classes: int = 10,
    double: bool = True,
    batch_norm: bool = True,
    pre_activation: bool = True,
    init: Method | None = "orthogonal",
    gain: float = 0.05,
) -> Network:
    """The K-M ResNet: K modules of M residual blocks, shallow and wide (BLOCK, THESIS 4.5.5).

    One convolution encodes the image at half its size. After half of the blocks a convolution
    of stride 2 doubles the channels; it belongs to no residual, so that all residuals are
    identities. The head is that of DGL, as in all modules. The papers have 256 channels; 20-1
    has 32 on MNIST and 100 on CIFAR10, without doubling. From the authors' programs: the
    kernels of the encoder (5) and between the stages (1).

    Args:
        k: How many modules it is meant to be cut into. The network has ``k · m`` blocks.
        m: How many blocks each of them has.
        channels: The channels of the first half of the blocks.
        in_chans: The channels of the image.
        image_size: The height and width of the image.
        num_classes: The number of logits.
        double: Halve the map and double the channels in the middle.
        batch_norm: Whether encoder and blocks have batch norm.
        pre_activation: Whether blocks are :class:`PreActBlock` or :class:`BasicBlock`.
        init: The method of :func:`initialize`; torch's own initialization if None.
        gain: The gain of :func:`initialize`.

    >>> model = km_resnet(2, 7)
    >>> f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M"  # published: about 45
    '43.8 M'

    Raises:
        UsageError: there are too few blocks.
    """
    count = k * m
    fewest = 2 if double else 1
    _require(
        k >= 1 and count >= fewest,
        f"{k}-{m} has too few blocks: k · m must be {fewest} or more, not {count}",
    )
    encoder = nn.Sequential(
        nn.Conv2d(in_chans, channels, 5, stride=2, padding=2, bias=False),
        norm2d(channels, batch_norm),
        nn.ReLU(inplace=True),
    )
    blocks: list[nn.Module] = _stage(
        count // 2 if double else count, channels, batch_norm, pre_activation
    )
    if double:
        blocks.append(nn.Conv2d(channels, 2 * channels, 1, stride=2, bias=False))
        channels *= 2
        blocks += _stage(count - count // 2, channels, batch_norm, pre_activation)
    head = DglHead(channels, channels, num_classes)
    size = (in_chans, image_size, image_size)
    model = Network(encoder, blocks, head, input_size=size, num_classes=num_classes)
    return _initialized(model, init, gain)


def cifar_resnet(
    depth: int = 20,
    *,
    width: int = 16,
    in_chans: int = 3,
    image_size: int = 32,
    num_classes: int = 10,
    shortcut: Shortcut = "pad",
    init: Method | None = "kaiming",
    gain: float = 1.0,
) -> Network:
    """The ResNet for CIFAR of 6n + 2 layers: three stages of n basic blocks (He et al. 2015).

    The stages have 16, 32 and 64 channels at full, half and quarter size. The classifier reads
    the mean over positions, so images may have any size.

    Args:
        depth: The number of layers, 6n + 2.
        width: The channels of the first stage.
        in_chans: The channels of the image.
        image_size: The height and width of the image.
        num_classes: The number of logits.
        shortcut: The shortcut of the two transitions, see :class:`BasicBlock`. He et al. and
            the authors of THESIS pad.
        init: The method of :func:`initialize`; torch's own initialization if None.
        gain: The gain of :func:`initialize`.

    Raises:
        UsageError: the depth is not 6n + 2.
    """
    n, rest = divmod(depth - 2, 6)
    _require(n >= 1 and rest == 0, f"depth must be 6n + 2 (20, 32, 44, 56, 110), not {depth}")
    encoder = nn.Sequential(conv3x3(in_chans, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    blocks = []
    channels = width
    for stage in range(3):
        wider = width * 2**stage
        blocks.append(BasicBlock(channels, wider, stride=2 if stage else 1, shortcut=shortcut))
        channels = wider
        blocks += [BasicBlock(channels, channels) for _ in range(n - 1)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    size = (in_chans, image_size, image_size)
    model = Network(encoder, blocks, head, input_size=size, num_classes=num_classes)
    return _initialized(model, init, gain)


def resnet110(
    *,
    in_chans: int = 3,
    image_size: int = 32,
    num_classes: int = 10,
    shortcut: Shortcut = "pad",
    init: Method | None = "kaiming",
    gain: float = 1.0,
) -> Network:
    """ResNet-110: :func:`cifar_resnet` with 54 blocks (THESIS 4.5, 5.4; InfoPro).

    THESIS initializes it orthogonally, with gain 0.1 for TRGL and 0.05 for the detector.
    """
    return cifar_resnet(
        110,
        in_chans=in_chans,
        image_size=image_size,
        num_classes=num_classes,
        shortcut=shortcut,
        init=init,
        gain=gain,
    )


def circles_resnet(
    blocks: int = 9,
    width: int = 2,
    *,
    batch_norm: bool = False,
    std: float | None = None,
    intercept: float = 20.0,
) -> Network:
    """The network for points in the plane: blocks, and a linear classifier that is not trained.

    THESIS 3.2.2 and F.5. From the authors' programs: ``width`` 2, and the classifier, whose
    logits are x₁ + x₂ + intercept and 0, so that the points have to move a long way.

    Args:
        blocks: The number of blocks, M.
        width: The width of the hidden layer in each block.
        batch_norm: Whether there is batch norm between the layers of each block.
        std: The standard deviation of the normal distribution from which weights and biases of
            the blocks are drawn; 5 is the bad initialization of THESIS. If None, weights are
            Kaiming's, and biases 0.
        intercept: The intercept of the classifier.

    Raises:
        UsageError: there are no blocks.
    """
    _require(blocks >= 1, f"a network has one block or more, not {blocks}")
    stage = nn.Sequential(*(LinearBlock(2, width, batch_norm=batch_norm) for _ in range(blocks)))
    if std is None:
        initialize(stage, "kaiming")
    else:
        initialize(stage, "normal", std)
        for module in stage.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.bias, std=std)
    classifier = nn.Linear(2, 2).requires_grad_(False)
    classifier.load_state_dict(
        {"weight": torch.tensor([[1.0, 1.0], [0.0, 0.0]]), "bias": torch.tensor([intercept, 0.0])}
    )
    return Network(nn.Identity(), stage, classifier, input_size=(2,), num_classes=2)


def _stage(count: int, channels: int, batch_norm: bool, pre_activation: bool) -> list[nn.Module]:
    if not pre_activation:
        return [BasicBlock(channels, channels, batch_norm=batch_norm) for _ in range(count)]
    return [PreActBlock(channels, batch_norm=batch_norm, activated=not i) for i in range(count)]


def _initialized(model: Network, init: Method | None, gain: float) -> Network:
    return model if init is None else initialize(model, init, gain)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)
