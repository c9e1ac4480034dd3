"""Convolutional networks of pytorchcv, the small ones of each architecture."""

from collections.abc import Iterator

from pytorchcv.model_provider import get_model
from torch import nn

from foreign_modules import Case, images

SMALL = """
    resnet20_cifar10 preresnet20_cifar10 resnext20_16x4d_cifar10 seresnet20_cifar10
    sepreresnet20_cifar10 densenet40_k12_cifar10 xdensenet40_2_k24_bc_cifar10 nin_cifar10
    ror3_56_cifar10 rir_cifar10 resdropresnet20_cifar10 shakeshakeresnet20_2x16d_cifar10
    shakedropresnet20_cifar10 fractalnet_cifar10 diaresnet20_cifar10 diapreresnet20_cifar10
    pyramidnet110_a48_cifar10 resnet56_cifar10 preresnet56_cifar10 wrn20_10_1bit_cifar10
    msdnet22_cifar10
""".split()
"""For images of 32×32."""

LARGE = """
    resnet10 resnet18_wd4 resnetbc14b preresnet10 preresnetbc14b seresnet10 resnestabc14
    bam_resnet18 cbam_resnet18 regnetx002 regnety002 diaresnet10 diracnet18v2 sharesnet18
    peleenet darknet_tiny dla46c dla46xc espnetv2_wd2 dicenet_wd5 selecsls42
    hardnet39ds squeezenet_v1_1 squeezeresnet_v1_1 sqnxt23_w1 sqnxt23v5_w1 shufflenet_g3_wd4
    shufflenetv2_wd2 shufflenetv2b_wd2 menet108_8x1_g3 mobilenet_wd4 mobilenetb_wd4
    fdmobilenet_wd4 mobilenetv2_wd4 mobilenetv2b_wd4 mobilenetv3_small_wd2
    mobilenetv3_large_w7d20 igcv3_wd4 ghostnet mnasnet_small mnasnet_b1 proxylessnas_cpu fbnet_cb
    spnasnet efficientnet_b0 efficientnet_b0b efficientnet_edge_small_b mixnet_s resneta10
    resnetabc14b channelnet drnd22 vovnet27s hrnet_w18_small_v1 octresnet10_ad2
    isqrtcovresnet18 bninception sparsenet121 condensenet74_c8_g8 scnet50 airnet50_1x64d_r16
    ibn_resnet50 tresnet_m
""".split()
"""For images of 224×224, which are 64×64 here: the last pooling is made adaptive."""

RESIDUALS = {
    "resnet20_cifar10": 9,
    "preresnet20_cifar10": 9,
    "resnext20_16x4d_cifar10": 6,
    "seresnet20_cifar10": 9,
    "sepreresnet20_cifar10": 9,
    "densenet40_k12_cifar10": 0,
    "resdropresnet20_cifar10": 9,
    "shakedropresnet20_cifar10": 9,
    "diaresnet20_cifar10": 9,
    "diapreresnet20_cifar10": 9,
    "pyramidnet110_a48_cifar10": 54,
    "resnet56_cifar10": 27,
    "preresnet56_cifar10": 27,
    "wrn20_10_1bit_cifar10": 9,
    "nin_cifar10": 0,
    "resnet10": 4,
    "resnet18_wd4": 8,
    "resnetbc14b": 4,
    "preresnet10": 4,
    "preresnetbc14b": 4,
    "seresnet10": 4,
    "resnestabc14": 4,
    "regnetx002": 13,
    "regnety002": 13,
    "diaresnet10": 4,
    "sharesnet18": 8,
    "squeezenet_v1_1": 0,
    "mobilenet_wd4": 0,
    "mobilenetb_wd4": 0,
    "fdmobilenet_wd4": 0,
    "mobilenetv2_wd4": 10,
    "mobilenetv2b_wd4": 10,
    "resneta10": 4,
    "resnetabc14b": 4,
    "darknet_tiny": 0,
    "ibn_resnet50": 16,
    "scnet50": 16,
}
"""One addition in each unit of a stage; the linear bottlenecks of MobileNetV2 add where shapes are
kept, 10 of 17."""

REFUSED = {"fractalnet_cifar10": "the columns that are dropped are drawn by NumPy"}


def _build(name: str) -> nn.Module:
    built = get_model(name, pretrained=False)
    assert isinstance(built, nn.Module)
    for path, module in list(built.named_modules()):
        if type(module) is nn.AvgPool2d and module.kernel_size in (7, 10, 13, 14, 28, 4):
            parent, _, child = path.rpartition(".")
            setattr(built.get_submodule(parent), child, nn.AdaptiveAvgPool2d(1))
    return built


def cases() -> Iterator[Case]:
    """All of them."""
    for name in SMALL:
        yield Case(name, lambda n=name: _build(n), images(32))
    for name in LARGE:
        yield Case(name, lambda n=name: _build(n), images(64))


REFUSED |= {
    "resdropresnet20_cifar10": "branches on a number that it draws",
}
