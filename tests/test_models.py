"""Models are built from their names without network, memory or warnings."""

import inspect

import pytest
import torch
from torch import nn

from fxtransport import nets
from fxtransport.errors import ModelNameError, UsageError
from fxtransport.models import build, input_spec, list_models, resolve

EVERY_STEP = 6  # a sixth of torchvision's classification and video models, and all others


def torchvision_sample() -> list[str]:
    every = [name for name in list_models(source="torchvision") if "quantized" not in name]
    special = ["fcn", "deeplab", "lraspp", "rcnn", "retinanet", "fcos", "ssd", "raft", "regnet_x_4"]
    chosen = {name for name in every if any(part in name for part in special)}
    return sorted(chosen | set(every[::EVERY_STEP]))


@pytest.mark.parametrize("name", torchvision_sample())
def test_torchvision_builds_on_meta(name: str) -> None:
    model = build(resolve(name), device="meta")
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_a_plain_build_is_real_and_repeatable() -> None:
    spec = resolve("torchvision:mobilenet_v3_small")
    torch.manual_seed(3)
    first = build(spec).state_dict()
    torch.manual_seed(3)
    second = build(spec).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert {tensor.device.type for tensor in first.values()} == {"cpu"}


def test_a_submodule_by_its_path() -> None:
    assert isinstance(build(resolve("torchvision:resnet18#layer1.0.conv1")), nn.Conv2d)
    with pytest.raises(
        ModelNameError, match="ResNet has no submodule 'layer9': did you mean layer"
    ):
        build(resolve("torchvision:resnet18#layer9"), device="meta")
    with pytest.raises(ModelNameError, match="no submodule 'zz': did you mean conv1, bn1, relu"):
        build(resolve("torchvision:resnet18#zz"), device="meta")


def test_quantized_models_are_refused_with_the_float_model() -> None:
    with pytest.raises(ModelNameError, match="instead: torchvision:mobilenet_v2"):
        build(resolve("torchvision:quantized_mobilenet_v2"), device="meta")


def test_weights_are_refused_where_there_are_none() -> None:
    with pytest.raises(UsageError, match=r"^net\.py:make: pretrained weights need a model of timm"):
        build(resolve("net.py:make"), pretrained=True)
    with pytest.raises(UsageError, match="built on a real device"):
        build(resolve("resnet18"), pretrained=True, device="meta")


@pytest.mark.parametrize("name", list_models(source="nets"))
def test_the_papers_networks_are_built_by_name(name: str) -> None:
    spec = resolve(name)
    model = build(spec, device="meta")
    shape = input_spec(model, spec).shape
    assert model(torch.empty(2, *shape, device="meta")).shape == (2, model.num_classes)
    with pytest.raises(UsageError, match="pretrained weights need a model of timm"):
        build(spec, pretrained=True)


def test_the_papers_networks_take_their_options() -> None:
    spec = resolve("nets:km_resnet")
    model = build(spec, device="meta", k=2, m=3, channels=4, image_size=8)
    assert input_spec(model, spec).shape == (3, 8, 8)
    assert len(model.blocks) == 7  # six, and what halves the map


def test_every_network_of_the_papers_has_a_name() -> None:
    factories = {n for n in nets.__all__ if inspect.isfunction(getattr(nets, n))}
    assert {f"nets:{n}" for n in factories - {"initialize"}} == set(list_models(source="nets"))
    assert not any(name.startswith("nets:") for name in list_models("resnet110"))
