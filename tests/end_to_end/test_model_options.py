"""What models can be built with, and what can be done to them, does not break a program.

Every compile here verifies: outputs, gradients and buffers, in train and eval mode.
"""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as hooked_spectral_norm

from fxtransport import Program, transportify
from tests.compiling import assert_identical

SIZE = 64
SMALL: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"depth": 3, "img_size": SIZE},
    "swin_tiny_patch4_window7_224": {
        "depths": (2, 1),
        "embed_dim": 24,
        "num_heads": (1, 2),
        "window_size": 4,
        "img_size": SIZE,
    },
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    "resnet18": {},
    "efficientnet_b0": {},
}
VIT, SWIN, CONVNEXT, RESNET, EFFICIENTNET = SMALL


def models(*names: str) -> pytest.MarkDecorator:
    """A test of each of these; those that are not so small are slow."""
    slow = {name: pytest.mark.slow if name in (RESNET, EFFICIENTNET) else () for name in names}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=m) for n, m in slow.items()])


every_model = models(*SMALL)


def built(name: str, **options: Any) -> nn.Module:
    model: nn.Module = timm.create_model(name, **{**SMALL[name], **options})
    return model


def verified(model: nn.Module, example: Tensor, **options: Any) -> Program:
    """A model's program, in which not a bit differs."""
    program = transportify(model, example, **options)
    report = program.facts.verification
    assert report is not None
    assert report.max_error == 0.0
    assert all(check.refused is None for check in report.checks if not check.setting)
    assert program.model_state_dict().keys() == model.state_dict().keys()
    return program


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, SIZE, SIZE)


def seeded(module: nn.Module, *inputs: Tensor) -> Any:
    torch.manual_seed(5)
    return module(*inputs)


@every_model
@pytest.mark.parametrize("rate", ["drop_path_rate", "drop_rate"])
def test_rates(name: str, rate: str) -> None:
    # a branch that starts as zero cannot be seen to be dropped
    options = {"zero_init_last": False} if name == RESNET else {}
    model = built(name, num_classes=4, **{rate: 0.5}, **options)
    program = verified(model.train(), images(), modules=2)
    x = images()
    assert_identical(seeded(program, x), seeded(model, x))
    assert not torch.equal(program(x), program(x))
    program.eval()
    assert_identical(program(x), program(x))


@pytest.mark.parametrize(
    "options",
    [
        {"pos_drop_rate": 0.5, "attn_drop_rate": 0.5, "proj_drop_rate": 0.5},
        {"patch_drop_rate": 0.5},
        {"init_values": 0.1, "qk_norm": True},
        {"class_token": False, "global_pool": "map"},
        {"reg_tokens": 2, "no_embed_class": True},
    ],
    ids=str,
)
def test_options_of_vit(options: dict[str, Any]) -> None:
    model = built(VIT, num_classes=4, **options).train()
    program = verified(model, images())
    x = images()
    assert_identical(seeded(program, x), seeded(model, x))


@every_model
def test_channels_of_the_input(name: str) -> None:
    verified(built(name, num_classes=4, in_chans=1), images(1), modules=2)


@every_model
def test_no_classifier(name: str) -> None:
    program = verified(built(name, num_classes=0), images(), modules=2, num_classes=3)
    assert program.parts[0](images()).logits.shape == (2, 3)
    assert program(images()).ndim == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pool"),
    [(RESNET, "catavgmax"), (RESNET, "max"), (VIT, "avg"), (VIT, "avgmax"), (CONVNEXT, "max")],
)
def test_pooling(name: str, pool: str) -> None:
    verified(built(name, num_classes=4, global_pool=pool), images(), modules=2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dims"), [(RESNET, 4), (VIT, 3), (SWIN, 4)])
def test_no_pooling(name: str, dims: int) -> None:
    program = verified(built(name, num_classes=0, global_pool=""), images(), head="none", modules=2)
    assert program(images()).ndim == dims


@every_model
def test_features(name: str) -> None:
    options = {"out_indices": (0, 2)} if name == VIT else {}
    model = built(name, features_only=True, **options).eval()
    program = verified(model, images(), head="none", modules=2)
    x = images()
    assert isinstance(program(x), list)
    assert_identical(program(x), model(x))


@every_model
def test_checkpointing(name: str) -> None:
    """Batch norms that are checkpointed count a batch once more in the model's backward pass."""
    model = built(name, num_classes=4, drop_path_rate=0.3).train()
    model.set_grad_checkpointing(True)  # type: ignore[operator]
    program = verified(model, images(), modules=2)
    x = images()
    assert_identical(seeded(program, x), seeded(model, x))
    residuals = verified(built(name, num_classes=4), images()).facts.residuals
    assert [r.path for r in program.facts.residuals] == [r.path for r in residuals]


class Symmetric(nn.Module):
    """A weight that equals its transpose."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


class Block(nn.Module):
    """Uses a parameter of its own and those of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu()) @ self.weight


def blocks() -> nn.Sequential:
    return nn.Sequential(Block(), Block(), Block(), nn.Linear(8, 3))


def symmetric(module: nn.Module) -> None:
    parametrize.register_parametrization(module, "weight", Symmetric())


@pytest.mark.parametrize("path", ["0", "1.first"])
@pytest.mark.parametrize(
    "change",
    [
        symmetric,
        parametrizations.spectral_norm,
        parametrizations.weight_norm,
        parametrizations.orthogonal,
    ],
)
def test_weights_that_are_computed(change: Callable[[nn.Module], Any], path: str) -> None:
    """In a module that is opened, or in one that is not."""
    model = blocks()
    change(model.get_submodule(path))
    verified(model, torch.randn(2, 8), modules=2)


@pytest.mark.parametrize("path", ["0", "1.first"])
def test_a_weight_that_a_hook_computes(path: str) -> None:
    model = blocks()
    hooked_spectral_norm(model.get_submodule(path))
    verified(model, torch.randn(2, 8), modules=2)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (CONVNEXT, parametrizations.spectral_norm),
        (VIT, parametrizations.weight_norm),
    ],
)
def test_real_models_with_computed_weights(name: str, change: Callable[[nn.Module], Any]) -> None:
    model = built(name, num_classes=4)
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            change(module)
    verified(model, images(), modules=2)


def test_tied_weights() -> None:
    """Parameters and modules that several blocks share, across a cut."""
    model = blocks()
    model[1].first.weight = model[0].first.weight
    model[2].weight = model[0].second.weight
    model[2].second = model[1].second
    program = verified(model, torch.randn(2, 8), modules=3)
    program(torch.randn(2, 8)).sum().backward()
    shared = model[0].first.weight
    assert all(any(p is shared for p in part.parameters()) for part in program.parts[:2])


class Language(nn.Module):
    """Its classifier is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.blocks, self.classifier = blocks()[:3], nn.Linear(8, 20, bias=False)
        self.classifier.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.embedding(words)))


def test_an_embedding_that_is_the_classifier_too() -> None:
    model = Language()
    words = torch.zeros(2, 5, dtype=torch.long)
    program = verified(model, words, modules=2, head="none")
    assert "classifier.weight" in program.state_dict()
    assert sum(p is model.embedding.weight for p in program.parameters()) == 1


@models(VIT, RESNET, CONVNEXT)
def test_half_precision(name: str) -> None:
    model = built(name, num_classes=4).bfloat16().eval()
    x = images().bfloat16()
    program = verified(model, x, modules=2)
    assert program(x).dtype == torch.bfloat16
    assert_identical(program(x), model(x))


@models(RESNET, EFFICIENTNET, CONVNEXT)
def test_channels_last(name: str) -> None:
    model = built(name, num_classes=4).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    program = verified(model, images(), modules=2)
    x = images().to(memory_format=torch.channels_last)
    assert_identical(program(x), model(x))
    hidden = program.parts[0](x).hidden
    assert hidden.is_contiguous(memory_format=torch.channels_last)


def test_frozen_parameters() -> None:
    model = built(RESNET, num_classes=4).requires_grad_(False)
    model.get_submodule("fc").requires_grad_(True)
    program = verified(model, images(), modules=2)
    program.train()(images()).sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {
        "fc.weight",
        "fc.bias",
    }


class Detaching(nn.Module):
    """A residual block that computes a scale, and calls a layer, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gate = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.gate(x).sigmoid() / x.norm(dim=-1, keepdim=True)
        return x + self.linear(x).relu() * scale


def test_gradients_that_are_switched_off() -> None:
    model = nn.Sequential(Detaching(), Detaching(), nn.Linear(8, 3))
    program = verified(model, torch.randn(2, 8), modules=2)
    program(torch.randn(2, 8)).sum().backward()
    assert model[0].gate.weight.grad is None
    assert model[0].linear.weight.grad is not None
