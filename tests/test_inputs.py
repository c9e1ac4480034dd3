"""What the input of a model looks like; models of every kind say it."""

from pathlib import Path

import pytest
import torch

from fxtransport.errors import ModelNameError
from fxtransport.inputs import input_spec, size_options, takes_argument
from fxtransport.models import build
from fxtransport.names import resolve


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


def test_optical_flow_takes_two_images() -> None:
    spec = resolve("torchvision:raft_small")
    found = input_spec(build(spec, device="meta"), spec, (3, 128, 136))
    assert [x.shape for x in found.example()] == [(2, 3, 128, 136)] * 2


def test_an_unknown_input_size_says_what_to_give(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("import torch\nmake = torch.nn.Identity\n")
    spec = resolve(f"{file}:make")
    with pytest.raises(ModelNameError) as caught:
        input_spec(build(spec), spec)
    assert str(caught.value) == (
        f"{file}:make: the input's size is not known: give input_size, such as 3,224,224, "
        "or set the model's attribute input_size = (3, 224, 224)"
    )


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("timm:vit_tiny_patch16_224", "8,", {}),
        ("torchvision:maxvit_t", 448, {"input_size": (448, 448)}),
        ("torchvision:swin_t", 64, {}),
        ("net.py:make", "1,8,8", {}),
    ],
)
def test_what_a_constructor_is_given_for_a_size(
    name: str, size: int | str, options: dict[str, object]
) -> None:
    assert size_options(resolve(name), size, {}) == options


def test_which_constructors_take_a_number_of_classes() -> None:
    names = ["resnet18", "torchvision:resnet18", "nets:resnet_m", "nets:circles_resnet", "a.py:f"]
    found = [takes_argument(resolve(name), "num_classes") for name in names]
    assert found == [True, True, True, False, False]
