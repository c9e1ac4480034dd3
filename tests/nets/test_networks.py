"""Networks have the shapes, sizes and residuals of the papers, and compile as they are."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from fxtransport.ir import Kind
from fxtransport.nets import Network, cifar_resnet, circles_resnet, km_resnet, resnet110, resnet_m

IDENTITIES = {
    "resnet_m": (lambda: resnet_m(image_size=8, channels=4), 9),
    "resnet_m, CIFAR": (lambda: resnet_m(5, in_chans=3, channels=6, image_size=16), 5),
    "resnet_m, post-activation": (lambda: resnet_m(4, image_size=8, pre_activation=False), 4),
    "resnet_m, no batch norm": (lambda: resnet_m(4, image_size=8, batch_norm=False), 4),
    "resnet_m, encoder without": (lambda: resnet_m(4, image_size=8, encoder_norm=False), 4),
    "10-1": (lambda: km_resnet(channels=4, image_size=16), 10),
    "2-7": (lambda: km_resnet(2, 7, channels=4, image_size=16), 14),
    "1-20": (lambda: km_resnet(1, 20, channels=4, in_chans=1, image_size=8, double=False), 20),
    "10-1, post-activation": (lambda: km_resnet(channels=4, pre_activation=False), 10),
    "circles": (circles_resnet, 9),
    "circles, batch norm": (lambda: circles_resnet(4, width=8, batch_norm=True, std=5.0), 4),
}


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def kinds(model: nn.Module, modules: int) -> Counter[Kind]:
    """What the compiler finds; it verifies the program, and needs no example."""
    program = transportify(model, modules=modules)
    assert program.facts.verification is not None
    return Counter(residual.kind for residual in program.facts.residuals)


@pytest.mark.parametrize(("make", "residuals"), IDENTITIES.values(), ids=IDENTITIES)
def test_single_representations_have_identities_only(
    make: Callable[[], Network], residuals: int
) -> None:
    model = make()
    logits = model(torch.randn(2, *model.input_size))
    assert logits.shape == (2, model.num_classes)
    assert kinds(model, 4) == {Kind.IDENTITY: residuals}


@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_cifar_networks_have_two_transitions(shortcut: str) -> None:
    model = cifar_resnet(20, shortcut=shortcut, image_size=16, width=4)  # type: ignore[arg-type]
    assert kinds(model, 4) == {Kind.IDENTITY: 7, Kind.PROJECTION: 2}


def test_resnet110_is_the_published_one() -> None:
    model = resnet110()
    assert parameters(model) == 1_727_962  # He et al.: 1.7 M
    assert len(model.blocks) == 54
    assert parameters(cifar_resnet(20)) == 269_722  # He et al.: 0.27 M
    projected = resnet110(shortcut="projection")
    assert parameters(projected) == 1_727_962 + 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.slow
def test_resnet110_takes_any_size_of_image() -> None:
    model = resnet110(image_size=96, num_classes=7)
    assert model.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 7)
    assert kinds(model, 4) == {Kind.IDENTITY: 52, Kind.PROJECTION: 2}


def test_the_encoders_give_the_published_shapes() -> None:
    mnist, cifar = resnet_m(), resnet_m(channels=100, in_chans=3, image_size=32)
    assert mnist.encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 32, 14, 14)
    assert cifar.encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 100, 16, 16)
    with torch.device("meta"):
        wide = km_resnet()
        hidden = wide.encoder(torch.zeros(2, 3, 32, 32))
        assert hidden.shape == (2, 256, 16, 16)
        assert wide.blocks(hidden).shape == (2, 512, 8, 8)


def test_an_encoder_without_norm_has_biases_instead() -> None:
    encoder = resnet_m(encoder_norm=False).encoder
    assert Counter(type(module) for module in encoder.children()) == {
        nn.Conv2d: 2,
        nn.Identity: 2,
        nn.ReLU: 2,
    }
    assert parameters(encoder) == 16 * (9 + 1) + 32 * (16 * 25 + 1)
    # the rest is as it was
    whole, norms = resnet_m(encoder_norm=False), resnet_m()
    assert parameters(whole.blocks) == parameters(norms.blocks)
    assert isinstance(whole.head[2], nn.BatchNorm1d)  # type: ignore[index]


def test_the_shortcut_pads_with_zeros() -> None:
    transition = cifar_resnet(20).blocks[3]
    x = torch.randn(2, 16, 8, 8)
    skipped = transition.shortcut(x)  # type: ignore[operator, union-attr]
    torch.testing.assert_close(skipped[:, :16], x[:, :, ::2, ::2])
    assert skipped.shape == (2, 32, 4, 4)
    assert not skipped[:, 16:].any()


def test_the_classifier_of_the_plane_is_not_trained() -> None:
    model = circles_resnet(3, batch_norm=True)
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"blocks"}
    points = torch.tensor([[-30.0, 1.0], [3.0, 4.0]])
    torch.testing.assert_close(model.head(points), torch.tensor([[-9.0, 0.0], [27.0, 0.0]]))


def test_the_bad_initialization_of_the_plane() -> None:
    torch.manual_seed(0)
    model = circles_resnet(500, width=4, std=5.0)
    drawn = torch.cat([p.flatten() for p in model.blocks.parameters()])
    assert drawn.mean().abs() < 0.2
    assert abs(drawn.std() - 5) < 0.2
    biases = torch.cat([p for n, p in model.blocks.named_parameters() if n.endswith("bias")])
    assert abs(biases.std() - 5) < 0.3
    good = circles_resnet(3)
    assert not any(p.any() for n, p in good.blocks.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet_m(0), "one block or more"),
        (lambda: resnet_m(image_size=9), "must be even"),
        (lambda: km_resnet(1, 1), "1-1 has too few blocks: k · m must be 2 or more, not 1"),
        (lambda: cifar_resnet(21), r"depth must be 6n \+ 2 .*, not 21"),
        (lambda: circles_resnet(0), "one block or more"),
        (lambda: resnet_m(image_size=8, init="uniform"), "init is one of orthogonal"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_built_says_why(make: Callable[[], Network], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
