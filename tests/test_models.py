"""Models are built from their names without network, memory or warnings."""

import inspect
from pathlib import Path
from textwrap import dedent

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


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (3, 224, 224)),
        ("swin_tiny", (3, 224, 224)),
        ("levit_128", (3, 224, 224)),
        ("efficientnet_b3", (3, 288, 288)),
        ("inception_v3", (3, 299, 299)),
        ("timm:tresnet_m", (3, 224, 224)),
        ("torchvision:inception_v3", (3, 299, 299)),
        ("torchvision:googlenet", (3, 224, 224)),
        ("torchvision:efficientnet_b1", (3, 240, 240)),
        ("torchvision:swin_v2_t", (3, 256, 256)),
        ("torchvision:vit_h_14", (3, 224, 224)),  # 518 only with the weights made for it
        ("torchvision:fcn_resnet50", (3, 224, 224)),
        ("torchvision:r3d_18", (3, 16, 112, 112)),
        ("torchvision:s3d", (3, 16, 224, 224)),
        ("torchvision:mvit_v1_b", (3, 16, 224, 224)),
        ("torchvision:swin3d_t", (3, 16, 224, 224)),
    ],
)
def test_the_input_fits_the_model(name: str, shape: tuple[int, ...]) -> None:
    spec = resolve(name)
    model = build(spec, device="meta").eval()
    assert input_spec(model, spec).shape == shape
    model(torch.empty(1, *shape, device="meta"))


def test_options_reach_the_model_and_its_input() -> None:
    spec = resolve("vit_tiny")
    options = {"in_chans": 1, "img_size": 96, "num_classes": 7}
    model = build(spec, device="meta", **options)
    shape = input_spec(model, spec, **options).shape
    assert shape == (1, 96, 96)
    assert model(torch.empty(2, *shape, device="meta")).shape == (2, 7)


def test_a_plain_build_is_real_and_repeatable() -> None:
    spec = resolve("torchvision:mobilenet_v3_small")
    torch.manual_seed(3)
    first = build(spec).state_dict()
    torch.manual_seed(3)
    second = build(spec).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert {tensor.device.type for tensor in first.values()} == {"cpu"}


def test_optical_flow_takes_two_images() -> None:
    spec = resolve("torchvision:raft_small")
    found = input_spec(build(spec, device="meta"), spec, (3, 128, 136))
    assert [x.shape for x in found.example()] == [(2, 3, 128, 136)] * 2


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


def write(folder: Path, source: str) -> Path:
    file = folder / "net.py"
    file.write_text(dedent(source))
    return file


def test_a_factory_in_a_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        from dataclasses import dataclass
        import torch

        @dataclass
        class Widths:
            wide: "int" = 4

        def make(width=Widths().wide):
            rates = [rate.item() for rate in torch.linspace(0, 1, 3)]  # fails on meta
            model = torch.nn.Linear(width, len(rates))
            model.input_size = (width,)
            return model
        """,
    )
    spec = resolve(f"{file}:make")
    assert spec.canonical == f"{file}:make"
    model = build(spec, width=5)
    assert isinstance(model, nn.Linear)
    assert input_spec(model, spec).shape == (5,)
    bare = build(spec, device="meta")
    assert all(parameter.is_meta for parameter in bare.parameters())


def test_an_unknown_input_size_says_what_to_give(tmp_path: Path) -> None:
    file = write(tmp_path, "import torch\nmake = torch.nn.Identity\n")
    spec = resolve(f"{file}:make")
    with pytest.raises(ModelNameError) as caught:
        input_spec(build(spec), spec)
    assert str(caught.value) == (
        f"{file}:make: the input's size is not known: give input_size, such as 3,224,224, "
        "or set the model's attribute input_size = (3, 224, 224)"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\n", "{file}:make: {file} has no function called make"),
        ("make = 1\n", "{file}:make: {file} has no function called make"),
        (
            "def make():\n    return 3\n",
            "{file}:make: make returned int, not an nn.Module",
        ),
        ("x = 1\ny = x / 0\n", "{file}:2: the import failed: ZeroDivisionError: division by zero"),
        (
            "import no_such_package_anywhere\n",
            "{file}:1: the import failed: "
            "ModuleNotFoundError: No module named 'no_such_package_anywhere'",
        ),
        (
            "def make():\n    return broken()\n\ndef broken():\n    raise KeyError('width')\n",
            "{file}:5: make failed: KeyError: 'width'",
        ),
        ("def make(\n", "{file}:1: the import failed: SyntaxError: '(' was never closed"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, source: str, text: str) -> None:
    file = write(tmp_path, source)
    with pytest.raises(ModelNameError) as caught:
        build(resolve(f"{file}:make"))
    assert str(caught.value).partition(" (net.py, line")[0] == text.format(file=file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelNameError, match=r"^no/such/net\.py: there is no such file$"):
        build(resolve("no/such/net.py:make"))


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
