"""Activations that are tapped by name equal what hooks of the plain model see."""

import copy
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from fxtransport import transportify
from fxtransport.errors import UsageError
from tests.networks import IMAGES, OverwritingNet

CASES: dict[str, tuple[Any, str]] = {
    "resnet18": (lambda: timm.create_model("resnet18"), "fc"),
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224"), "head"),
    "convnext": (lambda: timm.create_model("convnext_atto"), "head.fc"),
    "efficientnet": (lambda: timm.create_model("efficientnet_lite0"), "classifier"),
    "vgg": (torchvision.models.vgg11_bn, "classifier.6"),
}
"""Models, and the path of the layer that each ends in."""


def seen_by_hooks(
    model: nn.Module, paths: list[str], x: torch.Tensor, classifier: str
) -> dict[str, torch.Tensor]:
    """What modules return, by path, and what enters the classifier."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        # what a hook returns would take the place of the output
        found[name] = value.clone()

    # of a copy, because a program refuses to run where modules have hooks that it does not run
    model = copy.deepcopy(model)
    for path in paths:
        module = model.get_submodule(path)
        module.register_forward_hook(lambda _, __, output, path=path: keep(path, output))
    last = model.get_submodule(classifier)
    last.register_forward_pre_hook(lambda _, inputs: keep("penultimate", inputs[0]))
    model(x)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("make", "classifier"), CASES.values(), ids=CASES.keys())
def test_what_enters_the_classifier_of_real_models(make: Any, classifier: str) -> None:
    torch.manual_seed(0)
    model = make().eval()
    x = torch.randn(2, 3, 224, 224)
    program = transportify(model, x, activations=("penultimate",), verify=False)
    found = program.activations(x)
    assert torch.equal(program(x), model(x))
    expected = seen_by_hooks(model, [], x, classifier)
    assert found.keys() == expected.keys()
    assert torch.equal(found["penultimate"], expected["penultimate"])


def test_modules_and_nodes_by_name(net: OverwritingNet, images: torch.Tensor) -> None:
    """Opened and closed modules, nodes, what is overwritten later, in execution order."""
    net.eval()
    names = ("penultimate", "blocks.1", "blocks.0.norm", "blocks", "stem", "add")
    program = transportify(net, IMAGES, activations=names, modules=2).eval()
    found = program.activations(images)
    paths = ["stem", "blocks.0.norm", "blocks.1", "blocks"]
    expected = seen_by_hooks(net, paths, images, "head")
    assert list(found) == ["stem", "blocks.0.norm", "blocks.1", "blocks", "add", "penultimate"]
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert torch.equal(program(images), net(images))
    assert len(program.transport(images).residues) == 4
    assert program.facts.activations == tuple(found)


def test_unknown_names_are_refused(net: OverwritingNet) -> None:
    with pytest.raises(UsageError, match=r"cannot tap 'block': .*did you mean blocks"):
        transportify(net, IMAGES, activations=("block",))
    with pytest.raises(UsageError, match="no linear layer or convolution leads to"):
        transportify(nn.ReLU(), torch.zeros(2, 3), activations=("penultimate",))


@pytest.fixture
def net() -> OverwritingNet:
    torch.manual_seed(0)
    return OverwritingNet()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 8, 8)
